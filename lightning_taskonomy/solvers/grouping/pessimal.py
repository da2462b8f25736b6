"""The worst choice that spends its budget: what a bad grouping costs (Table 4, "Pessimal")."""

import math
import time
from collections.abc import Mapping, Sequence

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping.problem import Choice, GroupingProblem, checked_budget
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution

__all__ = ["pessimal"]


def pessimal(
    table: GroupingsTable, budget: float, importance: Mapping[str, float] | None = None, time_limit: float | None = None
) -> GroupingSolution:
    """The choice of highest total loss among those that spend the budget, each task served by its best kept network.

    A budget is spent when less than the cheapest network's cost is left of it; with leave to spend less, one bad
    network would be the worst answer to every budget. The figures in the paper are the worst of many random choices, as
    its authors' published code has it; this is the worst of all, so that its figures are at least as high.

    A branch and bound of its own. More networks never raise a loss, so that the losses now bound those of every larger
    choice; the candidates are sorted by the total that each alone would lead to, highest first, and where k more are
    needed to spend the budget, the k-th of them is a bound too. Of equal choices the first in that order is taken.

    Args:
        table: The candidates.
        budget: What is spent.
        importance: The weight of each task's loss; 1 where not given.
        time_limit: Seconds after which the worst so far is returned; ``gap`` is then how much worse one could still be.

    Raises:
        InputError: A value is out of range, or no choice serves all tasks and spends the budget.
    """
    start = time.perf_counter()
    problem = GroupingProblem.of(table, importance or {}, {})
    search = _Search(problem, math.inf if time_limit is None else start + time_limit)
    most = problem.most(checked_budget(budget))
    served = [[loss for loss in column if loss < problem.unserved] for column in zip(*problem.losses, strict=True)]
    highest = tuple(map(max, served))
    search.descend(range(len(problem.costs)), (), highest, most)
    if not search.best:
        reason = "no choice within it serves all tasks and leaves less than the cheapest network costs"
        raise InputError(f"budget {budget:g} cannot be spent: {reason}; give another budget")
    bound = sum(highest) if search.stopped else search.worst
    return GroupingSolution.of(problem, search.best, budget, bound, time.perf_counter() - start)


class _Search:
    def __init__(self, problem: GroupingProblem, deadline: float) -> None:
        self.problem, self.deadline = problem, deadline
        self.best: Choice = ()
        self.worst = -1
        self.stopped = False

    def descend(self, candidates: Sequence[int], networks: Choice, row: tuple[int, ...], left: int) -> None:
        """Searches the choices that add some candidates to the chosen networks, which give the losses ``row``."""
        problem, cheapest = self.problem, min(self.problem.costs)
        self.stopped = self.stopped or time.perf_counter() > self.deadline
        if left < cheapest:
            if sum(row) > self.worst and max(problem.row(networks)) < problem.unserved:
                self.best, self.worst = tuple(sorted(networks)), sum(row)
            return
        fitting = [n for n in candidates if problem.costs[n] <= left]
        ranked = sorted((-sum(map(min, row, problem.losses[n])), n) for n in fitting)
        if not ranked:
            return
        needed = (left - cheapest) // max(problem.costs[n] for n in fitting) + 1
        for place in range(len(ranked) - needed + 1):
            if self.stopped or -ranked[place + needed - 1][0] <= self.worst:
                return
            n = ranked[place][1]
            rest = [other for _, other in ranked[place + 1 :]]
            self.descend(rest, (*networks, n), tuple(map(min, row, problem.losses[n])), left - problem.costs[n])
