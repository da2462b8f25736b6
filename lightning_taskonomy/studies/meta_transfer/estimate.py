"""What a Task Meta-Transfer study would cost: its runs counted, one cycle of each method timed."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from lightning_taskonomy.studies.meta_transfer.evidence import Point, Selection
from lightning_taskonomy.studies.meta_transfer.methods import method
from lightning_taskonomy.training import execute

__all__ = ["estimate"]


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
        _cycles(next(iter(first.values())), 1)  # a first run loads and prepares what the others find
        for name, point in first.items():
            seconds, size = _seconds(point, measured.get(name))
            runs = counts[name] + further[name] + varied.get(name, 0)
            total += runs * seconds
            lines.append(f"{name:<18} {runs:>5}   {seconds:>12.1f}")
    runs = sum(counts.values()) + sum(further.values()) + sum(varied.values())
    hours, minutes = divmod(math.ceil(total / max(workers, 1) / 60), 60)
    on = f"{workers} workers" if workers > 1 else "1 worker"
    done = sum(1 for _ in root.glob("runs/*/metrics.json"))
    lines.append(f"about {hours} h {minutes:02d} min on {on}, if they are as idle as now, beside preparing the data")
    lines.append(f"disk: about {runs * size / 1e6:.0f} MB of runs; {done} runs are done already in {root}")
    return "\n".join(lines)


def _seconds(point: Point, measured: Mapping[str, float] | None) -> tuple[float, int]:
    """Seconds of one run and bytes of its weights: from runs that are done, else from a few cycles of its steps."""
    short, size = _cycles(point, 1)
    if measured:
        return measured["seconds"] / measured["runs"], size
    cycles = point.plan.settings.steps / (1 + int(point.knobs.get("auxiliary_steps", 1)))
    return short + cycles * max(_cycles(point, 3)[0] - short, 0.0) / 2, size


def _cycles(point: Point, count: int) -> tuple[float, int]:
    """Seconds of a run of so many cycles and one batch of validation, and bytes of its weights."""
    config: dict[str, Any] = point.fit.run.config
    steps = count * (1 + int(point.knobs.get("auxiliary_steps", 1)))
    trainer = {**config["trainer"], "max_epochs": 1, "limit_val_batches": 1}
    data = {**config["data"], "init_args": {**config["data"]["init_args"], "steps": steps}}
    with TemporaryDirectory() as folder:
        start = time.monotonic()
        execute(
            {**config, "trainer": trainer, "data": data, "weights": None},
            folder,
            checkpoint_seconds=math.inf,
            test=False,
        )
        return time.monotonic() - start, (Path(folder) / "weights.safetensors").stat().st_size


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch threads as a worker has them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
