"""What each method of a grouping study reaches at each budget, and by how much a choice leads over its rivals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.reports.grouping.files import Choice, GroupingResults
from lightning_taskonomy.reports.grouping.report import ESA, HOA, OPTIMAL
from lightning_taskonomy.reports.words import WEIGHTINGS, readable

__all__ = ["CHOICES", "RIVALS", "SAME", "Comparison", "MethodAtBudget", "Methods", "by_method", "method_name", "number"]

CHOICES = {
    "optimal": OPTIMAL, "search": "search", "esa": ESA, "hoa": HOA, "lookahead": "look-ahead affinity",
    "lookahead_first_order": "look-ahead, first order", "gradient_cosine": "gradient cosine",
}  # fmt: skip
"""Ways to choose groups, the best informed first."""

BASELINES = {"independent": "independent networks", **WEIGHTINGS, "mtl": "one joint network (MTL)"}
"""What a choice is compared with."""

RIVALS = {"independent": "independent networks", "mtl": "one joint network"}
"""What must be beaten for grouping to help."""

_NAMES = CHOICES | BASELINES | {"random": "random groupings", "pessimal": "pessimal groupings"}

_DIGITS = 12
"""Of a difference, so that rounding in the sum of losses does not show."""
SAME = 1e-9
"""Losses that differ by less are the same."""


@dataclass(frozen=True)
class MethodAtBudget:
    """A method at a budget: a loss per seed.

    Args:
        method: Its key.
        budget: The budget.
        choices: At least one, one per seed.
    """

    method: str
    budget: float
    choices: tuple[Choice, ...]

    @property
    def mean(self) -> float:
        """The mean test loss over seeds."""
        return fmean(choice.test for choice in self.choices)

    @property
    def validation(self) -> float:
        """The mean validation loss over seeds; NaN where one is unknown."""
        return fmean(choice.validation for choice in self.choices)

    @property
    def half(self) -> float | None:
        """Half of the 95 % t-interval of that mean; None of one seed."""
        return half_width([choice.test for choice in self.choices])

    def lead(self, other: "MethodAtBudget") -> tuple[float, float | None] | None:
        """By how much its loss is lower than another's, seed by seed: mean and half of its interval.

        None if no seed has both.
        """
        losses = {choice.seed: choice.test for choice in other.choices}
        leads = [losses[choice.seed] - choice.test for choice in self.choices if choice.seed in losses]
        return (round(fmean(leads), _DIGITS), half_width(leads)) if leads else None

    @property
    def words(self) -> str:
        """Mean and interval."""
        return number(self.mean, self.half)


Methods = Mapping[str, Mapping[float, MethodAtBudget]]


def method_name(method: str) -> str:
    """A method as people read it."""
    return _NAMES.get(method, readable(method))


def number(mean: float, half: float | None = None, digits: int = 3) -> str:
    """``0.452 ±0.004``, without the latter where it is unknown."""
    text = f"{mean:.{digits}f}" if half is None else f"{mean:.{digits}f} ±{half:.{digits}f}"
    return text.replace("-", "−")


def by_method(results: GroupingResults) -> Methods:
    """What each method reaches at each budget, choices before baselines; losses that are missing are left out."""
    rows: dict[str, dict[float, list[Choice]]] = {}
    for choice in results.choices:
        if math.isfinite(choice.test):
            budget = choice.cost if math.isnan(choice.budget) else choice.budget
            rows.setdefault(choice.method, {}).setdefault(budget, []).append(choice)
    order = [*_NAMES, *(method for method in rows if method not in _NAMES)]
    return {
        method: {at: MethodAtBudget(method, at, tuple(choices)) for at, choices in sorted(rows[method].items())}
        for method in order
        if method in rows
    }


@dataclass(frozen=True)
class Comparison:
    """A choice against its rivals within the same budget.

    Args:
        choice: The choice.
        rivals: By name: the rival, and the mean lead over it with half of its interval.
        shared: In how many seeds a network of the choice serves two or more tasks.
    """

    choice: MethodAtBudget
    rivals: Mapping[str, tuple[MethodAtBudget, tuple[float, float | None]]]
    shared: int = 0

    @classmethod
    def of(cls, methods: Methods, choice: MethodAtBudget, rivals: Sequence[str], shared: int = 0) -> "Comparison":
        """A choice against that of each rival within its budget which is best on validation images.

        Where validation losses are unknown, as those of random groupings, it is the costliest. Rivals without any
        within the budget are left out.
        """
        compared = {}
        for rival in rivals:
            within = [
                (one, lead)
                for budget, one in methods[rival].items()
                if budget <= choice.budget + SAME and (lead := choice.lead(one)) is not None
            ]
            if within:
                compared[rival] = min(within, key=lambda entry: _by_validation(entry[0]))
        return cls(choice, compared, shared)

    @property
    def least(self) -> float:
        """The lead over the better rival; minus infinity without one."""
        return min((lead for _, (lead, _) in self.rivals.values()), default=-math.inf)

    @property
    def better(self) -> bool:
        """Whether it is better than each of them."""
        return self.least > SAME

    @property
    def shares(self) -> bool:
        """Whether in most seeds a network of the choice serves two or more tasks."""
        return 2 * self.shared > len(self.choice.choices)

    @property
    def helps(self) -> bool:
        """Whether it is better, and by grouping: with a network that serves two or more tasks."""
        return self.better and self.shares

    @property
    def clear(self) -> bool:
        """Whether each lead is beyond its interval."""
        return self.better and all(half is not None and lead > half for _, (lead, half) in self.rivals.values())


def _by_validation(one: MethodAtBudget) -> tuple[float, float]:
    """Ranks what a method reaches: the lowest validation loss first, of equal and unknown ones the costliest."""
    return (math.inf if math.isnan(one.validation) else one.validation), -one.budget
