"""The taxonomy program given to a general solver: slower than ``Search``, and independent of it."""

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.solvers.program import Backend, Program, Row
from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem
from lightning_taskonomy.solvers.taxonomy.ranking import SAME, Candidate, Ranking

__all__ = ["ProgramSearch", "cheapest"]

ROUGHLY_SAME = 1e-7
"""What the solvers get instead of ``SAME``, as their tolerances are about 1e-9; the exact test follows."""

Sources = NDArray[np.bool_]


class ProgramSearch:
    """The aggregated formulation of a problem; its variables are the edges, then the sources.

    Args:
        problem: What is solved.
        backend: Who solves it.
    """

    def __init__(self, problem: TaxonomyProblem, backend: Backend) -> None:
        self.problem, self.backend = problem, backend
        self.values = problem.flat.values
        largest = float(self.values.max())
        self.scale = 1e3 / largest if largest > 0 else 1.0  # so that the solvers' absolute tolerances are fine enough
        count = len(self.values)
        self.columns = np.arange(count, count + len(problem.sources))
        self.program = Program(count + len(problem.sources), len(problem.sources))
        for edges, needs in self._targets():
            self.program.rows.append(Row(edges, np.ones(len(edges)), 1.0, 1.0))
            for source in np.flatnonzero(needs.any(axis=0)):
                using = edges[needs[:, source]]
                row = np.append(using, self.columns[source])
                self.program.rows.append(Row(row, np.append(np.ones(len(using)), -1.0), upper=0.0))
        for source in np.flatnonzero(problem.required):
            self.program.rows.append(Row(self.columns[[source]], np.ones(1), 1.0, 1.0))

    def run(
        self, budget: float, wanted: int = 1, gap: float = 0.0, deadline: float = math.inf
    ) -> tuple[list[Candidate], float]:
        """The best sets of sources, each found with the ones before it excluded; as ``Search.run``."""
        problem, ranking = self.problem, Ranking(self.problem, budget, wanted)
        reward = np.concatenate([-self.scale * self.values, np.zeros(len(self.columns))])
        rows, affordable = self._affordable(budget)
        if wanted > 1:
            rows += self._canonical()
        while True:
            answer = self.program.minimise(
                reward, *rows, backend=self.backend, gap=gap, deadline=deadline, accept=affordable
            )
            if answer.status == "infeasible":
                return ranking.listed, -math.inf
            left = min(-answer.bound / self.scale, math.fsum(map(problem.best_value, problem.edges)))
            if answer.x is None:
                return ranking.listed, left
            sources = problem.pruned(answer.x[self.columns] > 0.5)
            if gap == 0 and answer.status == "optimal" and left <= problem.objective(sources) * (1 + 1e-6):
                left = -math.inf
                sources = self._cheapest(sources, rows, affordable, deadline)
            ranking.offer(sources)
            if answer.status == "stopped" or ranking.last is not None:
                return ranking.listed, left
            rows.append(Row.excluding(self.columns, sources))

    def first_of_equals(self, sources: Sources, budget: float, deadline: float) -> Sources:
        """What comes first by the order of ties among all sources (S,) that are as good as the chosen ones."""
        return self._cheapest(sources, *self._affordable(budget), deadline)

    def _affordable(self, budget: float) -> tuple[list[Row], Callable[[Sources], bool]]:
        """The budget as a row, a little wider, and as the exact test."""

        def affordable(sources: Sources) -> bool:
            return self.problem.cost(sources) <= budget * (1 + SAME) and self.problem.policy(sources) is not None

        return [Row(self.columns, self.problem.costs, upper=budget * (1 + ROUGHLY_SAME))], affordable

    def _cheapest(
        self, sources: Sources, rows: list[Row], accept: Callable[[Sources], bool], deadline: float
    ) -> Sources:
        """The first by the order of ties among the sources that are as good as ``sources`` and meet rows and test."""
        problem = self.problem
        best = problem.objective(sources)
        rows = [
            *rows,
            Row(np.arange(len(self.values)), self.scale * self.values, lower=self.scale * best * (1 - ROUGHLY_SAME)),
        ]
        limits: list[tuple[NDArray[np.float64], float]] = []

        def acceptable(other: Sources) -> bool:
            return (
                accept(other)
                and problem.objective(other) >= best * (1 - SAME)
                and all(math.fsum(weights[other]) <= limit * (1 + SAME) for weights, limit in limits)
            )

        costs = problem.costs / max(problem.costs.max(), 1e-300)
        for weights in (costs, problem.tie_weights) if np.ptp(costs) > 0 else (problem.tie_weights,):
            answer = self.program.minimise(
                np.concatenate([np.zeros(len(self.values)), 1e3 * weights]),
                *rows,
                backend=self.backend,
                deadline=deadline,
                accept=acceptable,
            )
            if answer.x is None:  # out of time: the objective is the same
                break
            sources = problem.pruned(answer.x[self.columns] > 0.5)
            limits.append((weights, math.fsum(weights[sources])))
            rows.append(Row(self.columns, weights, upper=limits[-1][1] * (1 + ROUGHLY_SAME)))
        return sources

    def _canonical(self) -> list[Row]:
        """Rows that only sets meet of which every source is used or required, with the edges that are best for them.

        Where all sources of an edge are chosen, no worse edge of its target is; and a source needs an edge that uses
        it.
        """
        rows, users = [], [np.empty(0, dtype=np.int64) for _ in self.columns]
        for edges, needs in self._targets():
            for place, edge_needs in enumerate(needs[:-1]):
                columns = np.concatenate([edges[place + 1 :], self.columns[edge_needs]])
                rows.append(Row(columns, np.ones(len(columns)), upper=float(edge_needs.sum())))
            users = [np.append(columns, edges[needs[:, source]]) for source, columns in enumerate(users)]
        for source in np.flatnonzero(~self.problem.required):
            columns = np.append(users[source], self.columns[source])
            rows.append(Row(columns, np.append(np.ones(len(columns) - 1), -1.0), lower=0.0))
        return rows

    def _targets(self) -> list[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Per target the columns of its edges, and (E_t, S) which sources they need."""
        starts = self.problem.flat.first
        return [
            (np.arange(start, start + len(needs)), needs)
            for start, needs in zip(starts, self.problem.needs.values(), strict=False)
        ]


def cheapest(problem: TaxonomyProblem, deadline: float = math.inf) -> tuple[Sources, bool]:
    """The cheapest sources (S,) that reach all targets, ties by the order of ties; whether that is proven."""
    everything = np.ones(len(problem.sources), dtype=bool)
    sources = ProgramSearch(problem.cover(), "scipy").first_of_equals(everything, math.fsum(problem.costs), deadline)
    return sources, time.perf_counter() < deadline
