"""What a taxonomy is, once found."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

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
        max_order: The highest order it was allowed.
        sources: The tasks to supervise, sorted.
        label_cost: What they cost together, at most the budget.
        policy: The transfer of every target.
        mean_gain: The mean over targets of the win rate against a network from scratch on the transfers' data (section
            4.1); None if a transfer of the policy has none.
        mean_quality: The same against the fully supervised network.
    """

    kind: ClassVar[str] = "taxonomy"

    max_order: int
    sources: tuple[str, ...]
    label_cost: float
    policy: dict[str, Transfer]
    mean_gain: float | None
    mean_quality: float | None

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """How those targets are solved that are not trained themselves."""
        return tuple(row for row in self.policy.values() if row.kind != "task_specific")

    @classmethod
    def of(
        cls,
        problem: TaxonomyProblem,
        supervised: NDArray[np.bool_],
        budget: float,
        max_order: int,
        gap: float,
        seconds: float,
    ) -> "TaxonomySolution":
        """The taxonomy of supervised sources, a mask (S,), that reach all targets."""
        policy = problem.policy(supervised) or {}
        values = {target: problem.value(target, transfer) for target, transfer in policy.items()}
        return cls(
            objective=math.fsum(values.values()),
            values=values,
            proven=gap == 0,
            gap=gap,
            seconds=seconds,
            budget=budget,
            max_order=max_order,
            sources=tuple(name for name, taken in zip(problem.sources, supervised, strict=True) if taken),
            label_cost=problem.cost(supervised),
            policy=policy,
            mean_gain=_mean(row.win_rate_vs_scratch for row in policy.values()),
            mean_quality=_mean(row.win_rate_vs_task_specific for row in policy.values()),
        )

    def as_dict(self) -> dict[str, Any]:
        """As of every solution; the policy is one object per target."""
        plain = super().as_dict()
        for transfer in plain["policy"].values():
            del transfer["target"]
        return plain

    @classmethod
    def _restored(cls, values: dict[str, Any]) -> dict[str, Any]:
        policy = {
            target: Transfer(target=target, **{**plain, "sources": tuple(plain["sources"])})
            for target, plain in values["policy"].items()
        }
        return {**values, "sources": tuple(values["sources"]), "policy": policy}


def _mean(rates: Iterable[float | None]) -> float | None:
    listed = list(rates)
    measured = [rate for rate in listed if rate is not None]
    return math.fsum(measured) / len(measured) if measured and len(measured) == len(listed) else None
