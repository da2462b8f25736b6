"""What a Task Meta-Transfer study would cost: its runs counted, one cycle of each method timed."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_taskonomy.files import write_json
from lightning_taskonomy.studies.meta_transfer.evidence import Point, Selection
from lightning_taskonomy.studies.meta_transfer.methods import method
from lightning_taskonomy.training import execute

__all__ = ["Clock", "estimate"]

_CYCLES = 4
"""Cycles of one meta and k auxiliary steps that each method is timed for."""


def estimate(selection: Selection, seeds: Sequence[int], varied: Mapping[str, int], workers: int, threads: int) -> str:
    """Counts runs, and times a cycle of each method; only data that are prepared once are kept.

    Args:
        selection: The study's cells.
        seeds: All seeds.
        varied: How many runs the studies of rank, split and amount add, by method.
        workers: Worker processes.
        threads: Torch threads of each.

    Returns:
        A table in words.
    """
    root, own = selection.plan.root, selection.plan.settings
    counts: Counter[str] = Counter()
    first: dict[str, Point] = {}
    for cell in selection.cells():
        points = selection.candidates(cell)
        counts.update({point.fit.run.folder: cell.method for point in points}.values())
        first.setdefault(cell.method, points[0])
    shared = {name for name, point in first.items() if method(name, point.knobs).alone}
    places = {name: len({(c.network, c.case.primary) for c in selection.cells()}) if name in shared
              else len(own.networks) * len(own.cases) for name in first}  # fmt: skip
    for name in shared:
        counts[name] = places[name]
    further = {name: (len(seeds) - 1) * places[name] for name in first}
    measured = json.loads((root / "costs.json").read_text()) if (root / "costs.json").is_file() else {}
    lines, total, size = ["method              runs   seconds each"], 0.0, 0
    with _threads(threads):
        _seconds(next(iter(first.values())))  # a first run loads and prepares what the others find
        for name, point in first.items():
            seconds, size = _seconds(point)
            if name in measured:
                seconds = measured[name]["seconds"] / measured[name]["runs"]
            runs = counts[name] + further[name] + varied.get(name, 0)
            total += runs * seconds
            lines.append(f"{name:<18} {runs:>5}   {seconds:>12.1f}")
    runs = sum(counts.values()) + sum(further.values()) + sum(varied.values())
    hours, minutes = divmod(math.ceil(total / max(workers, 1) / 60), 60)
    on = f"{workers} workers" if workers > 1 else "1 worker"
    done = sum(1 for _ in root.glob("runs/*/metrics.json"))
    lines.append(f"about {hours} h {minutes:02d} min on {on}, if they are as idle as now, beside data and validation")
    lines.append(f"disk: about {runs * size / 1e6:.0f} MB of runs; {done} runs are done already in {root}")
    return "\n".join(lines)


class Clock(Callback):
    """Notes when each training batch ends.

    Args:
        file: The JSON file that is written when the fit ends.
    """

    def __init__(self, file: str) -> None:
        self.file, self.times = Path(file), list[float]()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Notes the time."""
        self.times.append(time.monotonic())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the times."""
        write_json(self.file, self.times)


def _seconds(point: Point) -> tuple[float, int]:
    """Seconds of one run, from a few cycles of its steps, and bytes of its weights."""
    config: dict[str, Any] = point.fit.run.config
    given: dict[str, Any] = config["data"]["init_args"]
    cycle = (1 + int(given["auxiliary_steps"])) * int(config["trainer"].get("accumulate_grad_batches", 1))
    with TemporaryDirectory() as name:
        folder = Path(name)
        clock = {"class_path": f"{__name__}.Clock", "init_args": {"file": str(folder / "times.json")}}
        callbacks = [clock, *config["trainer"]["callbacks"]]
        trainer = {**config["trainer"], "max_epochs": 1, "limit_val_batches": 1, "callbacks": callbacks}
        data = {**config["data"], "init_args": {**given, "steps": _CYCLES * cycle}}
        shortened = {**config, "trainer": trainer, "data": data, "weights": None}
        start = time.monotonic()
        execute(shortened, folder, checkpoint_seconds=math.inf, test=False)
        whole = time.monotonic() - start
        ends = json.loads((folder / "times.json").read_text())[cycle - 1 :: cycle]
        size = (folder / "weights.safetensors").stat().st_size
    each = median(after - before for before, after in pairwise(ends))  # the first cycle is spent on warming up
    return whole - (ends[-1] - ends[0]) + each * point.plan.settings.steps / cycle, size


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch threads as a worker has them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
