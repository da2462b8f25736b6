"""What methods, cases and measurements are called in the report of a Task Meta-Transfer study."""

from lightning_taskonomy.reports.meta_transfer.comparison import CaseResult, Comparison, Place
from lightning_taskonomy.reports.meta_transfer.differences import Difference
from lightning_taskonomy.reports.words import WEIGHTINGS, readable

__all__ = ["case_name", "lead", "measure", "method_name", "plural", "share", "task_names", "unit", "value"]

_NAMES = {
    "primary_only": "Primary Only", "transfer": "Transfer Learning", "transfer_full": "Transfer Learning, full budget",
    "tmt": "TMT", "tmt_identity": "TMT φ = 1", "tmt_full": "TMT full φ", "tmt_mean": "TMT mean", "oracle": "Oracle",
} | WEIGHTINGS  # fmt: skip
_UNITS = {"miou": (100.0, "mIoU %"), "mean_angle": (1.0, "mean angle °"), "mae": (100.0, "10² × absolute error")}
"""How the paper prints a metric: factor and name."""
_BEYOND = {1: "▲", -1: "▼"}


def method_name(method: str) -> str:
    """A method as people read it; a key of the user's own in words."""
    return _NAMES.get(method, readable(method))


def task_names(names: str) -> str:
    """Auxiliary tasks joined by ``+``, in words."""
    return " + ".join(readable(name) for name in names.split("+"))


def case_name(place: Place, network: bool = True) -> str:
    """``depth z ← normals, SplitVGG-3``."""
    text = readable(place[1]) + (f" ← {task_names(place[2])}" if place[2] else "")
    return f"{text}, {place[0]}" if network else text


def unit(metric: str) -> tuple[float, str]:
    """What a measurement is multiplied by to be printed, and the name of the result."""
    return _UNITS.get(metric, (1.0, readable(metric)))


def measure(comparison: Comparison, place: Place, *, arrow: bool = True) -> tuple[float, str]:
    """The same of a case, with an arrow to where it is better; no name where nothing is measured."""
    run = next((run for run in comparison.runs if (run.network, run.primary) == place[:2]), None)
    if run is None:
        return 1.0, ""
    factor, name = unit(run.metric)
    return factor, f"{name} {'↑' if run.higher else '↓'}" if arrow else name


def value(cell: CaseResult, mark: int | None = None) -> str:
    """Mean, a mark for the two best, and half of the interval; a narrow cell breaks before the latter only."""
    factor = unit(cell.runs[0].metric)[0]
    text = f"{factor * cell.mean:.2f}" + {1: "▲", 2: "△"}.get(mark or 0, "")
    return text if cell.spread is None else f"{text} ±{factor * cell.spread:.2f}"


def lead(difference: Difference | None, factor: float = 1.0, digits: int = 2) -> str:
    """A paired difference with its interval, ▲ or ▼ where that excludes zero."""
    if difference is None:
        return "–"
    half = difference.half
    text = f"{factor * difference.mean:+.{digits}f}{_BEYOND.get(difference.verdict, '')}"
    return text if half is None else f"{text} ±{factor * half:.{digits}f}"


def share(difference: Difference) -> str:
    """A relative difference as a percentage without its sign, with the interval: ``1.3 ±0.8 %``."""
    half = difference.half
    return f"{abs(100 * difference.mean):.1f}" + ("" if half is None else f" ±{100 * half:.1f}") + " %"


def plural(count: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count} {noun}" + ("s" if count != 1 else "")
