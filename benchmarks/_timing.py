"""What all benchmarks share: their options, interleaved timing, a small table or JSON."""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

__all__ = ["interleaved", "options", "show"]


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has.

    Args:
        description: The benchmark's docstring.
        rounds: How often each side is timed unless told otherwise.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"times that each side is run; {rounds} by default")
    parser.add_argument("--threads", type=int, default=2, help="torch threads; 2 by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def interleaved(
    sides: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2, least: float = 0.0
) -> dict[str, float]:
    """Median seconds of each side, the sides taking turns so that a slow phase of the machine hits all of them.

    Args:
        sides: What is timed, by name.
        rounds: How often each is timed.
        warmup: Runs of each before that.
        least: So many seconds a turn takes at least: a side that takes less is called again and again, as ``timeit``
            does, and no longer measured with caches that another side has filled. 0 calls each once.
    """
    calls = dict.fromkeys(sides, 1)
    for _ in range(warmup):
        for name, side in sides.items():
            calls[name] = 1 + int(least / _seconds(side, 1))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(_seconds(side, calls[name]) / calls[name])
    return {name: median(values) for name, values in times.items()}


def _seconds(side: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        side()
    return time.perf_counter() - start


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, **settings: Any) -> None:
    """Prints rows of figures with what they were measured under.

    Args:
        rows: One mapping per row, all with the same keys.
        as_json: One JSON object instead of a table.
        **settings: Threads, sizes and the like.
    """
    settings = {"python": platform.python_version(), **settings}
    if as_json:
        print(json.dumps({"settings": settings, "rows": list(rows)}))
        return
    cells = [[_text(value) for value in row.values()] for row in rows]
    table = [list(rows[0]), *cells]
    widths = [max(len(line[column]) for line in table) for column in range(len(rows[0]))]
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    for line in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
