"""Groupings as a binary program: which networks are kept, and which of them serves each task."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.solvers.grouping.problem import BoundedChoice, Choice, GroupingProblem, Stopped
from lightning_taskonomy.solvers.program import Answer, Backend, Program, Row

__all__ = ["GroupingProgram"]

SLACK = 1e-7
"""What rows allow beyond a limit, as a share of it: more than rounding; the exact test follows."""

CHUNK = 16
"""How many networks one search puts in name order, by powers of 2 that the libraries' tolerances tell apart."""


@dataclass(frozen=True)
class _Measure:
    """Something to minimise: coefficients of all variables, whose largest is 1000, and the exact number of a choice."""

    values: NDArray[np.float64]
    unit: float
    exact: Callable[[Choice], int]

    def at_most(self, limit: int) -> Row:
        """The limit as a row, a little wider."""
        upper = limit * self.unit
        return Row(np.arange(len(self.values)), self.values, upper=upper + SLACK * abs(upper))


class GroupingProgram:
    """The binary program of one problem, for its total loss.

    Variables: ``x`` of a network and a task is 1 if the network serves the task, ``y`` of a network if it is kept. Each
    task is served by exactly one network; x <= y. Under a limit of memory one ``z`` is 1, that of the largest
    activations that count, and no network beyond them is kept. The libraries hold rows to about 1e-9 in floats; what
    they answer is measured in whole numbers, and cut off and searched again if it is beyond a limit.

    Args:
        problem: What is solved.
        backend: The library.
        gap: The relative gap at which the search for the lowest loss may stop; ties are broken only at 0.
    """

    def __init__(self, problem: GroupingProblem, backend: Backend, gap: float = 0.0) -> None:
        self.problem, self.backend, self.gap = problem, backend, gap
        self.count = len(problem.networks)
        pairs = [
            (n, t) for n, serves in enumerate(problem.serves) for t in range(len(problem.tasks)) if serves >> t & 1
        ]
        peaks = problem.peaks if problem.is_limited else ()
        self.program = Program(len(pairs) + len(peaks) + self.count, self.count)
        for t in range(len(problem.tasks)):
            serving = np.array([x for x, pair in enumerate(pairs) if pair[1] == t])
            self.program.rows.append(Row(serving, np.ones(len(serving)), 1.0, 1.0))
        for x, (n, _) in enumerate(pairs):
            self.program.rows.append(Row(np.array([x, self._kept(n)]), np.array([1.0, -1.0]), upper=0.0))
        losses = [problem.losses[n][t] for n, t in pairs]
        self.loss = self._measure(
            losses + [0] * (self.program.size - len(pairs)), lambda choice: sum(problem.row(choice))
        )
        self.cost = self._over_networks(problem.costs)
        self.memory = self._measure([0] * len(pairs) + [*peaks, *problem.weights], problem.taken)
        self.limits = [(self.memory, problem.memory)] if problem.is_limited else []
        if problem.is_limited:
            levels = np.arange(len(pairs), len(pairs) + len(peaks))
            self.program.rows.append(Row(levels, np.ones(len(peaks)), 1.0, 1.0))
            for n, peak in enumerate(problem.activations):
                enough = levels[bisect_left(peaks, peak) :]
                columns = np.array([self._kept(n), *enough])
                self.program.rows.append(Row(columns, np.array([1.0] + [-1.0] * len(enough)), upper=0.0))

    def _kept(self, n: int) -> int:
        """The column that says whether a network is kept."""
        return self.program.size - self.count + n

    def smallest_cover(self, deadline: float) -> Choice:
        """The networks that take the least memory and serve all tasks, within the memory; there are some.

        Raises:
            Stopped: The deadline came first.
        """
        answer = self._minimise(self.memory, self.limits, deadline)
        if answer.x is None:
            raise Stopped
        return self._choice(answer)

    def cheapest_cover(self, deadline: float) -> Choice | None:
        """The networks of lowest cost within the memory that serve all tasks, whatever their losses; None if none do.

        Raises:
            Stopped: The deadline came first.
        """
        answer = self._minimise(self.cost, self.limits, deadline)
        if answer.status == "stopped":
            raise Stopped
        return None if answer.x is None else self._choice(answer)

    def best(self, most: int, deadline: float) -> BoundedChoice:
        """The choice of lowest loss within a cost and the memory.

        Raises:
            Stopped: The deadline came before any choice was found.
        """
        limits = [*self.limits, (self.cost, most)]
        answer = self._minimise(self.loss, limits, deadline, self.gap)
        if answer.x is None:
            raise Stopped
        choice = self._choice(answer)
        lowest = self.loss.exact(choice)
        bound = min(lowest, max(answer.bound / self.loss.unit, self.problem.floor(most)))
        if self.gap == 0 and answer.status == "optimal" and lowest - bound <= 1e-6 * lowest:
            bound = lowest  # the library proves to a finer tolerance than it reports
        if bound == lowest and self.gap == 0:
            choice = self._first(choice, [*limits, (self.loss, lowest)], deadline)
        return BoundedChoice(choice, bound)

    def _first(self, choice: Choice, limits: list[tuple[_Measure, int]], deadline: float) -> Choice:
        """Of the choices within limits the one of lowest cost, then the fewest, then the first by name.

        Out of time it is the best so far, which is as good.
        """
        for measure in (self.cost, self._over_networks([1] * self.count)):
            answer = self._minimise(measure, limits, deadline)
            if answer.x is None:
                return choice
            choice = self._choice(answer)
            limits = [*limits, (measure, measure.exact(choice))]
        if self._minimise(self.cost, limits, deadline, but=choice).x is None:
            return choice
        for start in range(0, self.count, CHUNK):
            weights = [-(1 << CHUNK - 1 - n + start) if start <= n < start + CHUNK else 0 for n in range(self.count)]
            measure = self._over_networks(weights)
            answer = self._minimise(measure, limits, deadline)
            if answer.x is None:
                return choice
            choice = self._choice(answer)
            limits = [*limits, (measure, measure.exact(choice))]
        return choice

    def _minimise(
        self,
        measure: _Measure,
        limits: list[tuple[_Measure, int]],
        deadline: float,
        gap: float = 0.0,
        but: Choice | None = None,
    ) -> Answer:
        """Searches within limits, for another choice than one."""

        def accept(kept: NDArray[np.bool_]) -> bool:
            choice = tuple(np.flatnonzero(kept).tolist())
            within = all(limited.exact(choice) <= limit for limited, limit in limits)
            return within and choice != but and max(self.problem.row(choice)) < self.problem.unserved

        rows = [limited.at_most(limit) for limited, limit in limits]
        return self.program.minimise(
            measure.values, *rows, backend=self.backend, gap=gap, deadline=deadline, accept=accept
        )

    def _choice(self, answer: Answer) -> Choice:
        assert answer.x is not None
        return tuple(np.flatnonzero(answer.x[-self.count :] > 0.5).tolist())

    def _over_networks(self, numbers: Sequence[int]) -> _Measure:
        """The sum of one number per kept network."""
        others = self.program.size - self.count
        return self._measure([0] * others + list(numbers), lambda choice: sum(numbers[n] for n in choice))

    def _measure(self, numbers: Sequence[int], exact: Callable[[Choice], int]) -> _Measure:
        unit = 1e3 / (max(map(abs, numbers)) or 1)
        return _Measure(np.array([number * unit for number in numbers]), unit, exact)
