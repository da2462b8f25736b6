"""What a Task Meta-Transfer study would cost: its runs counted, one cycle of each method timed."""

import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_taskonomy.studies.meta_transfer.evidence import Point, Selection
from lightning_taskonomy.studies.meta_transfer.methods import method
from lightning_taskonomy.training import execute

__all__ = ["estimate"]


def estimate(selection: Selection, seeds: Sequence[int], varied: Mapping[str, int], workers: int) -> str:
    """Counts runs, and times a cycle of each method; nothing is kept.

    Args:
        selection: The study's cells.
        seeds: All seeds.
        varied: How many runs the studies of rank, split and amount add, by method.
        workers: Worker processes.

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
    for name, point in first.items():
        seconds, size = _seconds(point, measured.get(name))
        runs = counts[name] + further[name] + varied.get(name, 0)
        total += runs * seconds
        lines.append(f"{name:<18} {runs:>5}   {seconds:>12.1f}")
    runs = sum(counts.values()) + sum(further.values()) + sum(varied.values())
    minutes = math.ceil(total / max(workers, 1) / 60)
    done = sum(1 for _ in root.glob("runs/*/metrics.json"))
    lines.append(
        f"about {minutes // 60} h {minutes % 60:02d} min on {max(workers, 1)} workers, beside preparing the data"
    )
    lines.append(f"disk: about {runs * size / 1e6:.0f} MB of runs; {done} runs are done already in {root}")
    return "\n".join(lines)


def _seconds(point: Point, measured: Mapping[str, float] | None) -> tuple[float, int]:
    """Seconds of one run and bytes of its weights: from runs that are done, else from two cycles of its steps."""
    config: dict[str, Any] = point.fit.run.config
    settings = point.plan.settings
    cycle = 1 + int(point.knobs.get("auxiliary_steps", 1))
    with TemporaryDirectory() as folder:
        times = []
        for cycles in (1, 3):
            trainer = {**config["trainer"], "max_epochs": 1, "limit_val_batches": 1}
            data = {**config["data"], "init_args": {**config["data"]["init_args"], "steps": cycles * cycle}}
            shortened = {**config, "trainer": trainer, "data": data, "weights": None}
            start = time.monotonic()
            execute(shortened, Path(folder) / str(cycles), checkpoint_seconds=math.inf, test=False)
            times.append(time.monotonic() - start)
        size = (Path(folder) / "3" / "weights.safetensors").stat().st_size
    if measured:
        return measured["seconds"] / measured["runs"], size
    return times[0] + settings.steps / (2 * cycle) * max(times[1] - times[0], 0.0), size
