"""What inference costs, part by part, and the machine it was measured on: ``inference.csv`` and ``machine.json``.

Encoders and decoders are measured apart (:mod:`lightning_taskonomy.models.cost`), so that the cost of any network is a
sum of rows. Read without torch.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import read_csv, write_csv, write_json

__all__ = ["INFERENCE", "MACHINE", "InferenceCost", "InferenceCosts", "Machine", "Part"]

INFERENCE, MACHINE = "inference.csv", "machine.json"

Part = Literal["encoder", "decoder"]
"""``encoder``: a backbone. ``decoder``: a head on the backbone's features."""


@dataclass(frozen=True, kw_only=True)
class InferenceCost:
    """What one part of a network costs at inference: in evaluation mode, without gradients.

    Args:
        size: The network's share of the full-size encoder: 1, 0.5, ...
        part: An encoder, or a decoder on the features of the encoder of that size.
        task: The decoder's task; empty for an encoder.
        weights: How many.
        weight_bytes: Bytes of weights and buffers.
        multiply_adds: Per image.
        latency_1: Milliseconds of a batch of 1, the median.
        latency_32: Milliseconds of a batch of 32, the median.
        memory: Bytes of activations at their peak, with a batch of 1 and with what the part reads.
        snt: Multiply-adds as a share of those of the full-size encoder.

    Raises:
        InputError: A value is not allowed.
    """

    size: float
    part: Part
    task: str = ""
    weights: int
    weight_bytes: int
    multiply_adds: int
    latency_1: float
    latency_32: float
    memory: int
    snt: float

    def __post_init__(self) -> None:
        if self.part not in get_args(Part):
            raise InputError(f"part {self.part!r} must be 'encoder' or 'decoder'")
        if (self.part == "decoder") != bool(self.task):
            raise InputError(f"{self.part} of task {self.task!r}: a decoder has a task, an encoder has none")
        for name in ("weights", "weight_bytes", "multiply_adds", "latency_1", "latency_32", "memory", "snt"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} {getattr(self, name)} is not a finite number of at least 0")
        if not 0 < self.size < float("inf"):
            raise InputError(f"size {self.size} is not a finite number above 0; 1 is the full-size encoder")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what inference was measured.

    Args:
        processor: The model of the CPU.
        cores: Cores that the process may use.
        threads: Threads that computed.
        gpu: The model of the GPU that computed; None if the CPU did.
        torch: The version of torch.
    """

    processor: str
    cores: int
    threads: int
    gpu: str | None
    torch: str

    @classmethod
    def here(cls, gpu: str | None = None, threads: int = 1) -> "Machine":
        """This machine.

        Args:
            gpu: The GPU that computes, if one does.
            threads: The threads that compute.
        """
        try:
            torch = version("torch").partition("+")[0]
        except PackageNotFoundError:
            torch = "none"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(processor=_processor(), cores=cores, threads=threads, gpu=gpu, torch=torch)

    def refuse_elsewhere(self) -> None:
        """Refuses to go by times that were measured on another machine than this one.

        Processor, GPU and torch count; the threads are those that computed then.

        Raises:
            InputError: The machines differ; the message says in what.
        """
        here = Machine.here()
        differences = [
            f"{name} {there!r} there, {ours!r} here"
            for name, there, ours in (("processor", self.processor, here.processor), ("torch", self.torch, here.torch))
            if there != ours
        ]
        if self.gpu is not None and self.gpu not in (gpus := _gpus()):
            differences.append(f"GPU {self.gpu!r} there, {', '.join(map(repr, gpus)) or 'none'} here")
        if differences:
            raise InputError(
                f"milliseconds were measured on another machine ({'; '.join(differences)}): measure inference here, or "
                "set other_machine: true"
            )


@dataclass(frozen=True)
class InferenceCosts:
    """All rows of a study, and where they were measured.

    Args:
        rows: One per encoder and one per decoder, no two of the same size, part and task.
        machine: Where.

    Raises:
        InputError: Two rows are of the same part.
    """

    rows: tuple[InferenceCost, ...]
    machine: Machine

    def __post_init__(self) -> None:
        if len(self._by_part) != len(self.rows):
            raise InputError("two costs of the same size, part and task: keep one of them")

    @cached_property
    def _by_part(self) -> dict[tuple[float, str], InferenceCost]:
        return {(row.size, row.task): row for row in self.rows}

    @property
    def sizes(self) -> tuple[float, ...]:
        """The sizes of encoders, the largest first."""
        return tuple(sorted({row.size for row in self.rows if row.part == "encoder"}, reverse=True))

    def encoder(self, size: float) -> InferenceCost:
        """An encoder's row.

        Raises:
            InputError: No encoder of that size was measured.
        """
        if (size, "") not in self._by_part:
            sizes = ", ".join(f"{one:g}" for one in self.sizes) or "none"
            raise InputError(f"no encoder of size {size:g} was measured, only of sizes {sizes}: measure it")
        return self._by_part[size, ""]

    def decoders(self, size: float, tasks: Sequence[str]) -> list[InferenceCost]:
        """The rows of some tasks' decoders on an encoder of a size.

        Raises:
            InputError: One was not measured.
        """
        for task in tasks:
            if (size, task) not in self._by_part:
                raise InputError(f"no decoder of {task} at size {size:g} was measured: measure it")
        return [self._by_part[size, task] for task in tasks]

    def write(self, folder: Path) -> None:
        """Writes ``inference.csv`` and ``machine.json`` into a folder."""
        write_json(folder / MACHINE, asdict(self.machine))
        write_csv(folder / INFERENCE, [field.name for field in fields(InferenceCost)], map(astuple, self.rows))

    @classmethod
    def read(cls, path: Path) -> "InferenceCosts":
        """Reads an ``inference.csv`` and the ``machine.json`` beside it.

        Raises:
            InputError: One is missing or damaged; the line is named.
        """
        machine = path.parent / MACHINE
        where = str(machine)
        try:
            there = Machine(**json.loads(machine.read_text(encoding="utf-8")))
            where = str(path)
            header, lines = read_csv(path)
            rows = []
            for number, cells in enumerate(lines, 2):
                where = f"{path} line {number}"
                rows.append(_parse(dict(zip(header, cells, strict=True))))
            where = str(path)
            return cls(tuple(rows), there)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = getattr(error, "strerror", None) or (
                f"no column {error}" if isinstance(error, KeyError) else str(error)
            )
            raise InputError(f"{where}: {reason}; measure inference again") from error


def _parse(row: dict[str, str]) -> InferenceCost:
    """One line of the CSV; other columns are passed over."""
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(InferenceCost)}
    whole = {name: int(values[name]) for name in ("weights", "weight_bytes", "multiply_adds", "memory")}
    return InferenceCost(
        **values | whole | {name: float(values[name]) for name in ("size", "latency_1", "latency_32", "snt")}
    )


def _processor() -> str:
    """The model of the CPU."""
    if (cpuinfo := Path("/proc/cpuinfo")).is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    brand = _said("sysctl", "-n", "machdep.cpu.brand_string") if platform.system() == "Darwin" else []
    return brand[0] if brand else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """The models of the GPUs here, as torch calls them."""
    return _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def _said(*command: str) -> list[str]:
    """The lines that a command prints; none if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return []
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()] if answer.returncode == 0 else []
