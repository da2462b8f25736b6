"""Which taxonomies come first: by objective, ties by label cost, number of sources and a fixed number of each name."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem

__all__ = ["SAME", "Candidate", "Ranking"]

SAME = 1e-9
"""Objectives (and label costs) closer than this share of them are the same."""


@dataclass(frozen=True)
class Candidate:
    """Chosen sources without those that nobody uses.

    Args:
        sources: (S,) the sources.
        objective: Their collective performance.
        cost: Their label cost.
        tie: The sum of their tie weights.
    """

    sources: NDArray[np.bool_]
    objective: float
    cost: float
    tie: float

    @classmethod
    def of(cls, problem: TaxonomyProblem, sources: NDArray[np.bool_]) -> "Candidate":
        """What chosen sources (S,), all of them used or required, are worth."""
        cost, tie = problem.cost(sources), math.fsum(problem.tie_weights[sources])
        return cls(sources, problem.objective(sources), cost, tie)


class Ranking:
    """The best candidates so far.

    Args:
        problem: What is solved.
        budget: What they may cost.
        wanted: How many to keep.
    """

    def __init__(self, problem: TaxonomyProblem, budget: float, wanted: int) -> None:
        self.problem, self.budget, self.wanted = problem, budget, wanted
        self.listed: list[Candidate] = []
        self.noise = -1e-13 * problem.flat.unreached

    @property
    def last(self) -> Candidate | None:
        """What a further candidate has to come before; None as long as any is welcome."""
        return self.listed[-1] if len(self.listed) == self.wanted else None

    @property
    def low(self) -> float:
        """The objective that a further candidate needs, at least."""
        return 0.0 if self.last is None else self.last.objective

    @property
    def slack(self) -> float:
        """By how much a bound must lie below ``low`` to be surely worse: what counts as a tie, and rounding."""
        return SAME * self.low + self.noise

    def loses(self, sources: NDArray[np.bool_]) -> bool:
        """Whether all sets that contain these sources (S,) come after ``last``, objectives being equal."""
        last = self.last
        if last is None:
            return False
        cost = self.problem.cost(sources)
        if cost >= last.cost * (1 - SAME):
            return cost > last.cost * (1 + SAME) or math.fsum(self.problem.tie_weights[sources]) >= last.tie
        return False

    def offer(self, sources: NDArray[np.bool_]) -> None:
        """Takes chosen sources (S,) without the unused ones, if they reach all targets and are good enough."""
        sources = self.problem.pruned(sources)
        if any((sources == other.sources).all() for other in self.listed):
            return
        candidate = Candidate.of(self.problem, sources)
        if candidate.cost <= self.budget * (1 + SAME) and candidate.objective >= self.low * (1 - SAME):
            self.listed = _first([*self.listed, candidate], self.wanted)


def _first(candidates: Iterable[Candidate], wanted: int) -> list[Candidate]:
    """The best of them, in order."""
    left, listed = list(candidates), list[Candidate]()
    while left and len(listed) < wanted:
        top = max(candidate.objective for candidate in left)
        equal = [candidate for candidate in left if candidate.objective >= top * (1 - SAME)]
        cheapest = min(candidate.cost for candidate in equal)
        equal = [candidate for candidate in equal if candidate.cost <= cheapest * (1 + SAME)]
        listed.append(min(equal, key=lambda candidate: candidate.tie))
        left = [candidate for candidate in left if candidate is not listed[-1]]
    return listed
