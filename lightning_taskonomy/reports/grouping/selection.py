"""How a grouping study chooses networks, and the total loss that it chooses for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_taskonomy.reports.grouping.report import SELECTED_BY
from lightning_taskonomy.reports.words import join, readable

__all__ = ["Selection"]

_SUBJECTS = {"pairs": "hoa", "early": "esa", "search": "search"}
"""What chooses, by the study's ``candidates``; the losses of all of them elsewhere."""

_BY = {
    "optimal": "the validation losses of all candidates, trained to the end",
    "search": "validation losses, predicted where the search had no network trained",
    "esa": SELECTED_BY["esa"],
    "hoa": SELECTED_BY["hoa"],
}

_FINAL = ("optimal", "search", "hoa")
"""Methods that keep to limits, which are on losses at the end of training."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the study chooses by.

    Args:
        subject: The method that the study is about, of ``choices.csv``.
        importance: The weight of a task's loss where it is not 1.
        limits: The highest validation loss of a task, where there is one.
        memory: MiB that the networks may take together; None for any.
    """

    subject: str = "optimal"
    importance: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    memory: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Selection":
        """That of a study's settings."""
        candidates = settings.get("candidates")
        return cls(
            subject=_SUBJECTS.get(candidates, "optimal") if isinstance(candidates, str) else "optimal",
            importance={task: weight for task, weight in (settings.get("importance") or {}).items() if weight != 1},
            limits=settings.get("limits") or {},
            memory=settings.get("memory"),
        )

    @property
    def total(self) -> str:
        """What totals over tasks are called."""
        return "weighted total" if self.importance else "total"

    def weights(self, tasks: Sequence[str]) -> list[float]:
        """The weight of each task's loss."""
        return [self.importance.get(task, 1.0) for task in tasks]

    def sum(self, losses: Mapping[str, float], tasks: Sequence[str]) -> float:
        """The total of the losses of some tasks; NaN where one is missing."""
        weighted = zip(tasks, self.weights(tasks), strict=True)
        return math.fsum(weight * losses.get(task, math.nan) for task, weight in weighted)

    def words(self, method: str) -> str:
        """How a method chooses, a sentence without its full stop."""
        limits = join([f"{readable(task)} at most {limit:g}" for task, limit in self.limits.items()])
        weights = join([f"{readable(task)} × {weight:g}" for task, weight in self.importance.items()])
        how = _BY.get(method, f"the measure of affinity ({readable(method)})")
        return (
            f"Networks were chosen by {how}, for the lowest {self.total} loss within each budget"
            + (f", weighted {weights}" if self.importance else "")
            + (f", with a validation loss of {limits}" if self.limits and method in _FINAL else "")
            + (", without the limits, which are on losses at the end" if self.limits and method not in _FINAL else "")
            + (f", within {self.memory:g} MiB of memory" if self.memory is not None else "")
        )
