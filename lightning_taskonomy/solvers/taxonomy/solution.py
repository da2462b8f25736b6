"""What a taxonomy is, once found."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.solvers.base import Solution
from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem

__all__ = ["TaxonomySolution"]


@dataclass(frozen=True, kw_only=True)
class TaxonomySolution(Solution):
    """A taxonomy.

    Args:
        budget: The budget it was found under.
        max_order: The highest order it was allowed.
        sources: The tasks to supervise, sorted.
        label_cost: What they cost together, at most the budget.
        policy: The transfer of every target.
        mean_win_rate_vs_task_specific: Mean over targets (quality); None if a chosen transfer has none.
        mean_win_rate_vs_scratch: Mean over targets (gain); None if a chosen transfer has none.
    """

    budget: float
    max_order: int
    sources: tuple[str, ...]
    label_cost: float
    policy: dict[str, Transfer]
    mean_win_rate_vs_task_specific: float | None
    mean_win_rate_vs_scratch: float | None

    @classmethod
    def of(
        cls,
        problem: TaxonomyProblem,
        chosen: NDArray[np.bool_],
        budget: float,
        max_order: int,
        gap: float,
        seconds: float,
    ) -> "TaxonomySolution":
        """The taxonomy of chosen sources (S,) that reach all targets."""
        policy = problem.policy(chosen) or {}
        values = {target: problem.value(target, transfer) for target, transfer in policy.items()}
        return cls(
            objective=math.fsum(values.values()),
            values=values,
            proven=gap == 0,
            gap=gap,
            seconds=seconds,
            budget=budget,
            max_order=max_order,
            sources=tuple(name for name, taken in zip(problem.sources, chosen, strict=True) if taken),
            label_cost=problem.cost(chosen),
            policy=policy,
            mean_win_rate_vs_task_specific=_mean(row.win_rate_vs_task_specific for row in policy.values()),
            mean_win_rate_vs_scratch=_mean(row.win_rate_vs_scratch for row in policy.values()),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values; the policy is one object per target."""
        plain = asdict(self)
        for transfer in plain["policy"].values():
            del transfer["target"]
        return plain


def _mean(rates: Iterable[float | None]) -> float | None:
    known = list(rates)
    total = [rate for rate in known if rate is not None]
    return math.fsum(total) / len(total) if total and len(total) == len(known) else None
