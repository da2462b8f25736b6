"""Which trained networks to keep under an inference budget.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 3.2.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, NoReturn, get_args

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.solvers.base import Solver
from lightning_taskonomy.solvers.grouping import dynamic
from lightning_taskonomy.solvers.grouping.branch_and_bound import branch_and_bound
from lightning_taskonomy.solvers.grouping.problem import (
    BoundedChoice,
    Choice,
    GroupingProblem,
    Objective,
    Stopped,
    checked_budget,
)
from lightning_taskonomy.solvers.grouping.program import GroupingProgram
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution
from lightning_taskonomy.solvers.program import Backend

__all__ = ["GroupingSolver", "Method"]

Method = Literal["auto", "branch_and_bound", "program", "dynamic"]
"""``auto``: the dynamic program up to 12 tasks, the binary program beyond."""

DYNAMIC_TASKS = 12
"""Up to so many tasks the dynamic program takes seconds; a minute or more at 12 where all costs differ."""

MOST_TASKS = 16
"""Beyond, they would take hours or the machine's memory."""


MIB = 1 << 20
"""Bytes."""


class GroupingSolver(Solver):
    """Finds the networks to keep: the lowest loss within the budget, each task served by the kept one best at it.

    Three exact methods that agree: the paper's branch and bound; the binary program; and a dynamic program over sets of
    tasks, which gives all budgets at once. For ``max`` the two programs search for the lowest level that no task need
    exceed, and then for the lowest total within it.

    Every comparison is one of exact decimals: a float is the decimal number that it prints as, and a cost is within the
    budget if the float nearest to it is. (The libraries behind ``program`` tell losses apart to about 1e-9 of them.)

    Ties, whatever the method or the order of rows: of the lowest loss (for ``max``: then of the lowest total) the
    choice of lowest cost, then with the fewest networks, then the first when its networks are written in name order: by
    their sorted tasks, then by cost. Equal networks serve a task in that order too.

    Args:
        budget: The most that the kept networks may cost together; 1 is one full-size network.
        importance: The weight of each task's loss; 1 where not given.
        limits: The highest loss that a task may have, without its weight; none where not given.
        memory: MiB that the kept networks may take at inference: the weights of all and the largest activations of one;
            any if not given. The table's networks must say what they take.
        objective: Minimise the total of the weighted losses, or the largest of them.
        method: How.
        backend: The library of the binary program: python-mip (CBC), or SciPy (HiGHS).
        gap: The relative gap at which branch and bound and the binary program may stop; ties are broken only at 0.
        time_limit: Seconds after which the best choice so far is returned, with its gap.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        budget: float = 2.5,
        importance: Mapping[str, float] | None = None,
        limits: Mapping[str, float] | None = None,
        memory: float | None = None,
        objective: Objective = "total",
        method: Method = "auto",
        backend: Backend = "mip",
        gap: float = 0.0,
        time_limit: float | None = None,
    ) -> None:
        self.budget = checked_budget(budget)
        self.importance, self.limits = dict(importance or {}), dict(limits or {})
        for task, weight in self.importance.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"importance: {task!r} has {weight}; give a finite number of at least 0")
        for task, limit in self.limits.items():
            if math.isnan(limit):
                raise InputError(f"limits: {task!r} has {limit}; give the highest loss it may have")
        if memory is not None and not 0 < memory < math.inf:
            raise InputError(f"memory {memory} must be a finite number of MiB above 0")
        for option, value, allowed in (
            ("objective", objective, get_args(Objective)),
            ("method", method, get_args(Method)),
            ("backend", backend, get_args(Backend)),
        ):
            if value not in allowed:
                raise InputError(f"{option} {value!r} is unknown{hint(value, allowed)}")
        if not 0 <= gap < math.inf:
            raise InputError(f"gap {gap} must be a number of at least 0")
        if time_limit is not None and not time_limit > 0:
            raise InputError(f"time_limit {time_limit} must be a number of seconds above 0")
        self.memory, self.objective, self.method, self.backend = memory, objective, method, backend
        self.gap, self.time_limit = gap, time_limit

    def solve(self, table: GroupingsTable) -> GroupingSolution:
        """The best choice of a table's networks.

        Raises:
            InputError: A name is not a task, or nothing meets budget, memory and limits; the message names the
                constraint, the tasks that stay uncovered and the least that would do.
        """
        return self.sweep(table, [self.budget])[0]

    def sweep(
        self, table: GroupingsTable, budgets: Iterable[float], skip_infeasible: bool = False
    ) -> list[GroupingSolution]:
        """The best choices under several budgets, instead of the solver's own.

        One run of the dynamic program answers all; with the other methods a choice that costs less than its budget is
        the answer to every budget down to its cost. ``seconds`` of what was shared count where it was first needed, and
        so does ``time_limit``, which holds for each search.

        Args:
            table: The candidates.
            budgets: The budgets.
            skip_infeasible: Leave out the budgets that are below what any choice costs, unless all are.

        Returns:
            One solution per budget, as given.

        Raises:
            InputError: As ``solve``, for the smallest budget, or for the largest if smaller ones may be left out.
        """
        numbers = [checked_budget(budget) for budget in budgets]
        if not numbers:
            return []
        start = time.perf_counter()
        memory = None if self.memory is None else int(self.memory * MIB)
        problem = GroupingProblem.of(table, self.importance, self.limits, self.objective, memory)
        search = _Search(self, problem)
        search.check(max(numbers) if skip_infeasible else min(numbers))
        numbers = [budget for budget in numbers if budget >= search.least]
        solutions: dict[float, GroupingSolution] = {}
        last = BoundedChoice((), -math.inf)
        for budget in sorted(set(numbers), reverse=True):
            most = problem.most(budget)
            exact = self.gap == 0 and problem.measure(problem.row(last.choice))[0] <= last.bound
            if not exact or problem.cost(last.choice) > most:
                last = search.best(most, start)
            solutions[budget] = GroupingSolution.of(
                problem, last.choice, budget, last.bound, time.perf_counter() - start
            )
            start = time.perf_counter()
        return [solutions[budget] for budget in numbers]


class _Search:
    """The searches in one table, and what they share.

    Raises:
        InputError: There are too many tasks for the method, too little time for any choice, or too little memory.
    """

    def __init__(self, solver: GroupingSolver, problem: GroupingProblem) -> None:
        self.solver, self.problem = solver, problem
        tasks = len(problem.tasks)
        self.small = tasks <= DYNAMIC_TASKS
        self.method = ("dynamic" if self.small else "program") if solver.method == "auto" else solver.method
        if self.method == "dynamic" and tasks > MOST_TASKS:
            raise InputError(f"method dynamic: {tasks} tasks are too many, {MOST_TASKS} at most; take 'program'")
        self.fronts: dict[int, list[tuple[int, Choice]]] = {}
        self.covers: dict[int, Choice | None] = {}
        try:
            cover = self._cover(problem.unserved, self._deadline(time.perf_counter()))
            if cover is None:  # every task is served by some network within its limit
                self._refuse_memory()
        except Stopped:
            raise InputError(f"time_limit {solver.time_limit} s ended before any choice was found: raise it") from None
        self.cheapest, self.least = cover, problem.cost(cover) / problem.cost_unit

    def check(self, budget: float) -> None:
        """Refuses a budget below what any choice costs.

        Raises:
            InputError: It is; the tasks that it leaves, and the least one that would do, are named.
        """
        if budget < self.least:
            memory = "" if self.solver.memory is None else f" in {_shown(self.solver.memory)} MiB"
            raise InputError(
                f"budget {_shown(budget)} is below what any choice costs: {self._left(self.problem.most(budget))}; "
                f"the cheapest networks that serve all {self._tasks}{memory} cost {_shown(self.least)} "
                f"({self._names(self.cheapest)}); raise the budget to that"
            )

    def _refuse_memory(self) -> NoReturn:
        """Refuses a memory below what any choice takes."""
        problem = self.problem
        if self.small:
            smallest = dynamic.smallest_cover(problem)
        else:
            smallest = GroupingProgram(problem.without_limit, self.solver.backend).smallest_cover(math.inf)
        raise InputError(
            f"memory of {_shown(problem.memory / MIB)} MiB is below what any choice takes: "
            f"{self._left(sum(problem.costs))}; the smallest networks that serve all {self._tasks} take "
            f"{_shown(problem.taken(smallest) / MIB)} MiB ({self._names(smallest)}); raise memory to that"
        )

    @property
    def _tasks(self) -> str:
        return f"{len(self.problem.tasks)} tasks" + " within the limits" * bool(self.solver.limits)

    def _names(self, choice: Choice) -> str:
        return ", ".join(str(self.problem.networks[n]) for n in choice)

    def _left(self, most: int) -> str:
        """The fewest tasks that a choice within a cost and the memory leaves uncovered, as a clause."""
        problem = self.problem.with_gaps
        if self.small:
            choice = dynamic.front(problem, most, math.inf)[-1][1]
        else:
            choice = GroupingProgram(problem, self.solver.backend).best(most, math.inf).choice
        left = [problem.networks[n].tasks[0] for n in choice if n >= len(self.problem.networks)]
        return f"{', '.join(left[:-1])}{' and ' * (len(left) > 1)}{left[-1]} stay{'s' * (len(left) == 1)} uncovered"

    def best(self, most: int, start: float) -> BoundedChoice:
        """The best choice within a cost, by a search that began at a time."""
        problem, deadline = self.problem, self._deadline(start)
        if self.method == "branch_and_bound":
            quick = problem.extended(self.cheapest, most)
            return branch_and_bound(problem, most, quick, self.solver.gap, deadline)
        best = BoundedChoice(self.cheapest, problem.floor(most))
        try:
            if problem.objective == "total":
                best = self._lowest_total(problem.unserved, most, deadline)
            else:
                levels = sorted({loss for row in problem.losses for loss in row} - {problem.unserved})
                level = levels[bisect_left(levels, True, key=lambda level: self._fits(level, most, deadline))]
                best = BoundedChoice(self.covers[level] or (), level)
                best = replace(self._lowest_total(level, most, deadline), bound=level)
        except Stopped:
            best = replace(best, choice=problem.extended(best.choice, most))
        if problem.measure(problem.row(best.choice))[0] > best.bound:
            quick = problem.extended(self.cheapest, most)
            best = replace(best, choice=min(best.choice, quick, key=problem.rank))
        return best

    def _deadline(self, start: float) -> float:
        return math.inf if self.solver.time_limit is None else start + self.solver.time_limit

    def _lowest_total(self, level: int, most: int, deadline: float) -> BoundedChoice:
        """The choice of lowest total in which no task loses more than a level."""
        problem = self.problem.within(level)
        if self.method == "program":
            return GroupingProgram(problem, self.solver.backend, self.solver.gap).best(most, deadline)
        if level not in self.fronts:  # budgets come from the highest down, and levels from the lowest up
            self.fronts[level] = dynamic.front(problem, most, deadline)
        choice = [choice for cost, choice in self.fronts[level] if cost <= most][-1]
        return BoundedChoice(choice, sum(problem.row(choice)))

    def _fits(self, level: int, most: int, deadline: float) -> bool:
        """Whether networks within a cost serve every task without losing more than a level."""
        cover = self._cover(level, deadline)
        return cover is not None and self.problem.cost(cover) <= most

    def _cover(self, level: int, deadline: float) -> Choice | None:
        """The networks of lowest cost that serve every task without losing more than a level."""
        if level not in self.covers:
            problem = self.problem.within(level)
            if self.small:
                self.covers[level] = dynamic.cheapest_cover(problem)
            elif all(any(serves >> t & 1 for serves in problem.serves) for t in range(len(problem.tasks))):
                self.covers[level] = GroupingProgram(problem, self.solver.backend).cheapest_cover(deadline)
            else:
                self.covers[level] = None
        return self.covers[level]


def _shown(number: float) -> str:
    """All its digits: it may be what a user is asked to give."""
    return repr(number).removesuffix(".0")
