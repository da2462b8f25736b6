"""The branch and bound of "Which Tasks Should Be Learned Together in Multi-task Learning?" (ICML 2020), Algorithm 1."""

import math
import time
from collections.abc import Sequence

from lightning_taskonomy.solvers.grouping.problem import BoundedChoice, Choice, GroupingProblem

__all__ = ["branch_and_bound"]


def branch_and_bound(problem: GroupingProblem, most: int, start: Choice, gap: float, deadline: float) -> BoundedChoice:
    """Searches choices network by network, the most promising ones first.

    As printed: networks beyond the remaining budget (and beyond the memory), and those that would lower no task's loss,
    are filtered out; the rest is sorted by how much each lowers the losses now; each in turn is added and then taken
    out of the candidates of those after it. The paper leaves open how branches that cannot lead to an optimal solution
    are recognised: here by the losses that all remaining candidates together would give. ``BETTER`` compares objectives
    and then breaks ties as documented.

    Args:
        problem: What is solved, for either objective.
        most: The highest cost of a choice.
        start: A choice within it and within the memory that serves all tasks.
        gap: The relative gap at which the search may stop.
        deadline: ``time.perf_counter()`` at which to return the best so far.
    """
    search = _Search(problem, start, gap, deadline)
    search.descend(range(len(problem.costs)), (), (problem.unserved,) * len(problem.tasks), most)
    return BoundedChoice(search.best, min(search.rank[0][0], problem.floor(most) if search.stopped else search.bound))


class _Search:
    def __init__(self, problem: GroupingProblem, start: Choice, gap: float, deadline: float) -> None:
        self.problem, self.gap, self.deadline = problem, gap, deadline
        self.best, self.rank = start, problem.rank(start)
        self.bound = math.inf
        self.stopped = False

    def descend(self, candidates: Sequence[int], networks: Choice, row: tuple[int, ...], left: int) -> None:
        """Searches the choices that add some candidates to the chosen networks.

        Args:
            candidates: Networks that may be added.
            networks: Those added so far.
            row: (T,) the losses that they give.
            left: What may still be spent.
        """
        problem = self.problem
        self.stopped = self.stopped or time.perf_counter() > self.deadline
        useful = []
        for n in candidates:
            if problem.costs[n] <= left and problem.fits((*networks, n)):
                gain = sum(now - loss for now, loss in zip(row, problem.losses[n], strict=True) if loss < now)
                if gain:
                    useful.append((-gain, n))
        useful.sort()
        floors = [row]
        for _, n in reversed(useful):
            floors.append(tuple(map(min, floors[-1], problem.losses[n])))
        for place, (_, n) in enumerate(useful):
            if self.stopped or self.hopeless(floors[len(useful) - place]):
                return
            then = tuple(map(min, row, problem.losses[n]))
            self.consider((*networks, n), then)
            rest = [other for _, other in useful[place + 1 :]]
            self.descend(rest, (*networks, n), then, left - problem.costs[n])

    def consider(self, networks: Choice, row: tuple[int, ...]) -> None:
        """Keeps a choice if it is the best so far."""
        if max(row) < self.problem.unserved and self.problem.measure(row) <= self.rank[0]:
            choice = tuple(sorted(networks))
            rank = self.problem.rank(choice)
            if rank < self.rank:
                self.best, self.rank = choice, rank

    def hopeless(self, floor: tuple[int, ...]) -> bool:
        """Whether nothing better can come of losses that are not below a floor (T,)."""
        bound, now = self.problem.measure(floor), self.rank[0]
        if bound > now:
            return True
        if self.gap and now[0] - bound[0] <= self.gap * now[0]:
            self.bound = min(self.bound, bound[0])
            return True
        return False
