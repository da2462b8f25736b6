"""Jobs under SLURM: arrays whose tasks do one chunk of jobs each. Driver and chunks meet in files alone."""

import contextlib
import importlib
import io
import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.studies.executors.base import Executor, Outcome, check_least
from lightning_taskonomy.studies.executors.chunk import Chunk
from lightning_taskonomy.studies.graph import Job

__all__ = ["SlurmExecutor"]

_log = logging.getLogger(__name__)

_POLL = 0.2
"""Seconds between two looks at the outcomes' files."""

_ASK = {"slurm": 5.0, "local": 0.5}
"""Seconds between two questions which chunks are queued or running."""

_AGAIN = 30.0
"""Seconds after which a submission that was refused is tried again, while other chunks run."""

_left: list[Any] = []
"""submitit's local processes that go on after an executor has ended: kept, so that Python does not warn of them."""


@dataclass
class _Sent:
    """A chunk as the driver knows it.

    Args:
        folder: Where its files are; named by the array and the task's place in it.
        names: Done-files of its jobs.
        id: SLURM's id of its array task, or the process id of submitit's local executor; empty if unknown.
        jobs: Those whose outcomes are waited for, by their place.
        read: Places of jobs whose outcomes have been read.
        absent: How many questions in a row it has been missing from the queue.
        process: submitit's handle, where this process has started it on this machine.
    """

    folder: Path
    names: list[tuple[str, ...]]
    id: str = ""
    jobs: dict[int, Job] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    absent: int = 0
    process: Any = None

    @property
    def has_ended(self) -> bool:
        """Whether the outcome of each of its jobs has been read."""
        return len(self.read) == len(self.names)


class SlurmExecutor(Executor):
    """Arrays of chunks under SLURM, by submitit. The driver may be stopped and started again: chunks go on meanwhile.

    Args:
        workers: Array tasks that are queued or running at once.
        chunk: Jobs of an array task at most, so that start-up is paid once for so many.
        partition: SLURM's partition; its default where empty.
        hours: Time limit of a chunk. One that runs out of time is requeued and goes on.
        gpus: GPUs of an array task; it does as many jobs side by side, each on one GPU. One job at a time without.
        cpus: CPU cores of an array task.
        memory_gb: Memory of an array task in gigabytes; the partition's default for 0.
        threads: Torch threads of each job.
        further: Further parameters of sbatch, such as ``account``, ``qos`` or ``constraint``.
        cluster: ``local`` runs the chunks by submitit's local executor on this machine, without SLURM.
        retries: How often a job is tried again whose process or node was lost.
        time_limits: Seconds after which a job of a kind is stopped; no limit for kinds that are not named.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(
        self,
        workers: int = 16,
        chunk: int = 20,
        partition: str = "",
        hours: float = 4.0,
        gpus: int = 0,
        cpus: int = 1,
        memory_gb: float = 0.0,
        threads: int = 1,
        further: dict[str, str | int | bool] | None = None,
        cluster: Literal["slurm", "local"] = "slurm",
        retries: int = 2,
        time_limits: dict[str, float] | None = None,
    ) -> None:
        super().__init__(retries, time_limits)
        numbers = {
            "workers": (workers, 1), "chunk": (chunk, 1), "gpus": (gpus, 0), "cpus": (cpus, 1),
            "memory_gb": (memory_gb, 0), "threads": (threads, 1),
        }  # fmt: skip
        check_least(numbers)
        if not hours > 0:
            raise InputError(f"execution: hours is {hours}, must be above 0")
        if cluster not in _ASK:
            raise InputError(f"execution: cluster is {cluster!r}, must be slurm or local")
        self._tasks, self.chunk, self.partition, self.hours = workers, chunk, partition, hours
        self.gpus, self.cpus, self.memory_gb, self.threads = gpus, cpus, memory_gb, threads
        self.further, self.cluster = dict(further or {}), cluster
        self._waiting: list[Job] = []
        self._sent: list[_Sent] = []
        self._processes: list[Any] = []
        self._asked = self._later = 0.0

    def __enter__(self) -> Self:
        """Looks for chunks of an earlier driver that are still queued or running.

        Raises:
            InputError: submitit or SLURM's commands are not installed, or its controller does not answer.
        """
        try:
            importlib.import_module("submitit")
        except ImportError as error:
            raise InputError('the SLURM executor needs an extra: pip install "lightning-taskonomy[slurm]"') from error
        if self.cluster == "slurm":
            for command in ("sbatch", "squeue", "srun"):
                if shutil.which(command) is None:
                    raise InputError(f"{command} is not found: run this where SLURM's commands are, or cluster: local")
        self._waiting, self._sent, self._later = [], [], 0.0
        records = [self._recorded(file) for file in sorted(self._folder.glob("*/chunk.json"))]
        living = self._queue(records) if records or self.cluster == "slurm" else set()
        if living is None:
            raise InputError("squeue fails: SLURM's controller cannot be reached; try again later, or cluster: local")
        for sent in records:
            if sent.folder.name in living:
                sent.read = {number for number in range(len(sent.names)) if (sent.folder / f"{number}.json").exists()}
                self._sent.append(sent)
            else:
                shutil.rmtree(sent.folder, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves chunks that are at work: what they finish is there when the study is run again."""
        end = time.monotonic() + 10
        if error is None and self.cluster == "local":
            while time.monotonic() < end and not all(process.done() for process in self._processes):
                time.sleep(0.05)
        _left[:] = [process for process in (*_left, *self._processes) if not process.done()]
        left = [sent.id or sent.folder.name for sent in self._sent if not sent.has_ended]
        if left:
            how = "scancel" if self.cluster == "slurm" else "kill"
            _log.warning(
                "chunks go on: %s; run the same again to take them up, or end them by %s", ", ".join(left), how
            )
        self._waiting, self._sent, self._processes = [], [], []

    @property
    def workers(self) -> int:
        """Jobs at once: array tasks times the GPUs of each."""
        return self._tasks * max(self.gpus, 1)

    @property
    def free(self) -> int:
        """Jobs that it takes: enough for two chunks per array task."""
        return 2 * self.chunk * self._tasks - len(self._waiting) - sum(len(sent.jobs) for sent in self._sent)

    def submit(self, job: Job) -> None:
        """Keeps a job for the next array, unless it is in a chunk that lives."""
        name = _name(job)
        for sent in self._sent:
            if name in sent.names and (number := sent.names.index(name)) not in sent.read:
                sent.jobs[number] = job
                return
        self._waiting.append(job)

    def wait(self) -> Sequence[Outcome]:
        """Sends what has been kept where an array task is free, and reads what chunks have left.

        Raises:
            InputError: sbatch refuses the first array, with its own words.
        """
        end = time.monotonic() + 0.5
        while True:
            self._send()
            outcomes = self._collect()
            if outcomes or time.monotonic() >= end:
                return outcomes
            time.sleep(_POLL)

    @property
    def _folder(self) -> Path:
        return self.folder.absolute() / "slurm"

    def _send(self) -> None:
        """Submits an array: a chunk for each array task that is free, of equal length."""
        free = self._tasks - len(self._sent)
        if not self._waiting or free < 1 or time.monotonic() < self._later:
            return
        length = min(self.chunk, math.ceil(len(self._waiting) / free))
        count = min(free, math.ceil(len(self._waiting) / length))
        parts = [self._waiting[place * length : (place + 1) * length] for place in range(count)]
        array = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', self.folder.absolute().name)}-{uuid.uuid4().hex[:8]}"
        chunks = []
        for place, part in enumerate(parts):
            sent = _Sent(self._folder / f"{array}_{place}", [_name(job) for job in part], jobs=dict(enumerate(part)))
            write_json(sent.folder / "chunk.json", {"id": "", "jobs": sent.names})  # before it can start
            chunks.append(sent)
        try:
            tasks = self._submit(array, chunks)
        except RuntimeError as error:  # submitit's, with what sbatch says
            for sent in chunks:
                shutil.rmtree(sent.folder, ignore_errors=True)
            lines = [line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines()]
            words = "; ".join(line for line in lines if line)
            if not self._sent:
                raise InputError(f"sbatch refuses: {words}") from None
            _log.warning("sbatch refuses: %s; tried again later, while other chunks run", words)
            self._later = time.monotonic() + _AGAIN
            return
        for sent, task in zip(chunks, tasks, strict=True):
            sent.id, sent.process = task.job_id, task if self.cluster == "local" else None
            write_json(sent.folder / "chunk.json", {"id": sent.id, "jobs": sent.names})
        self._processes += [sent.process for sent in chunks if sent.process is not None]
        self._sent += chunks
        self._asked = time.monotonic()
        del self._waiting[: sum(map(len, parts))]

    def _submit(self, array: str, chunks: list[_Sent]) -> list[Any]:
        """Gives chunks to submitit as one array; its handles.

        Raises:
            RuntimeError: sbatch refuses.
        """
        submitit = importlib.import_module("submitit")
        utils = importlib.import_module("submitit.core.utils")
        calls = [
            Chunk(sent.folder, list(sent.jobs.values()), max(self.gpus, 1), self.threads, self.time_limits)
            for sent in chunks
        ]
        timeouts = self.chunk + self.retries  # times that a chunk may run out of time
        minutes = math.ceil(self.hours * 60)
        environment = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
        clean: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if "SLURM_JOB_ID" in os.environ:  # the driver is a job itself, whose variables would bind its chunks
            clean = submitit.helpers.clean_env()
            if "SLURM_CONF" in os.environ:
                environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
        if self.cluster == "local":
            executor = submitit.LocalExecutor(self._folder / "logs", max_num_timeout=timeouts)
            executor.update_parameters(timeout_min=minutes, gpus_per_node=self.gpus)
        else:
            executor = submitit.SlurmExecutor(self._folder / "logs", max_num_timeout=timeouts)
            parameters: dict[str, Any] = {
                "job_name": array, "time": minutes, "cpus_per_task": self.cpus, "array_parallelism": self._tasks,
                "srun_args": [f"--cpus-per-task={self.cpus}"],  # srun does not take it from sbatch since SLURM 22.05
                "additional_parameters": self.further,
            }  # fmt: skip
            if self.partition:
                parameters["partition"] = self.partition
            if self.gpus:
                parameters["gpus_per_node"] = self.gpus
            if self.memory_gb:
                parameters["mem"] = f"{math.ceil(self.memory_gb * 1000)}M"
            executor.update_parameters(**parameters)
        with clean, utils.environment_variables(**environment), contextlib.redirect_stderr(io.StringIO()):
            return list(executor.submit_array(calls))

    def _collect(self) -> list[Outcome]:
        """Outcomes that have been written since, and those of chunks that are gone."""
        outcomes: list[Outcome] = []
        living: set[str] | None = None
        if self._sent and time.monotonic() - self._asked >= _ASK[self.cluster]:
            living = self._queue(self._sent)  # asked before the files are read, so that none is missed
            self._asked = time.monotonic()
        for sent in self._sent:
            outcomes += self._read(sent)
            if living is not None:
                sent.absent = 0 if sent.folder.name in living else sent.absent + 1
        for sent in self._sent:
            if not sent.has_ended and sent.absent > 1:  # twice: files may reach a shared file system late
                outcomes += self._lost(sent)
        ended = [sent for sent in self._sent if sent.has_ended or sent.absent > 1]
        self._sent = [sent for sent in self._sent if sent not in ended]
        for sent in ended:
            shutil.rmtree(sent.folder, ignore_errors=True)
        return outcomes

    def _read(self, sent: _Sent) -> list[Outcome]:
        """Outcomes that a chunk has written since."""
        outcomes = []
        for file in sent.folder.glob("[0-9]*.json"):
            number = int(file.stem)
            if number not in sent.read:
                sent.read.add(number)
                if number in sent.jobs:
                    outcomes.append(Outcome(job=sent.jobs.pop(number), **json.loads(file.read_text("utf-8"))))
        return outcomes

    def _lost(self, sent: _Sent) -> list[Outcome]:
        """The jobs that a chunk was doing when it ended are lost; those it had not begun are sent again.

        One that ended before its first job has lost all, so that a chunk that cannot start is not sent for ever.
        """
        begun = {int(file.stem): file for file in sent.folder.glob("*.begun")}
        why = f"its chunk {sent.id or sent.folder.name} is gone"
        with contextlib.suppress(OSError):  # its log may be missing: why it ended is a courtesy
            lines = (self._folder / "logs" / f"{sent.id}_0_log.err").read_text("utf-8", "replace").split("\n")
            why += "".join(f": {line.strip()}" for line in [line for line in lines if line.strip()][-1:])
        outcomes = []
        for number, job in sent.jobs.items():
            if number in begun or not begun:
                seconds = time.time() - begun[number].stat().st_mtime if number in begun else 0.0
                outcomes.append(Outcome(job=job, seconds=max(seconds, 0.0), error=why, trace=why, lost=True))
            else:
                self._waiting.append(job)
        return outcomes

    def _queue(self, chunks: Sequence[_Sent]) -> set[str] | None:
        """Names of chunks that are queued or running; None if SLURM does not answer.

        From squeue, since sacct needs an accounting database that small clusters lack.
        """
        if self.cluster == "local":
            return {sent.folder.name for sent in chunks if _lives(sent)}
        command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%j"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            return None
        lines = [line.strip().partition("|") for line in answer.stdout.splitlines()]
        return {f"{name}_{id_.partition('_')[2] or 0}" for id_, _, name in lines}

    @staticmethod
    def _recorded(file: Path) -> _Sent:
        """A chunk of an earlier driver."""
        record = json.loads(file.read_text("utf-8"))
        return _Sent(file.parent, [tuple(names) for names in record["jobs"]], record["id"])


def _name(job: Job) -> tuple[str, ...]:
    """What a job is recognised by."""
    return tuple(str(file.absolute()) for file in job.done)


def _lives(sent: _Sent) -> bool:
    """Whether a chunk of submitit's local executor runs on this machine."""
    if sent.process is not None:
        return not sent.process.done()
    try:
        return b"submitit" in Path(f"/proc/{sent.id}/cmdline").read_bytes()
    except OSError:
        return False
