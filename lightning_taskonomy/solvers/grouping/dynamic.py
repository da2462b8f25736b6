"""The exact answer to every budget at once, for additive losses: a dynamic program over sets of tasks."""

import time
from itertools import chain

from lightning_taskonomy.solvers.grouping.problem import Choice, GroupingProblem, Stopped

__all__ = ["cheapest_cover", "front"]

Point = tuple[int, int, int, int]
"""Cost, loss, number of networks, and minus the networks as bits, the first by name the highest bit: the sum of points
is the point of both choices together; of equal cost and loss the smaller point is what the order of ties prefers."""

MANY = 100_000
"""So many points are thinned out before more are added."""


def front(problem: GroupingProblem, most: int, deadline: float) -> list[tuple[int, Choice]]:
    """The choices of lowest total loss for every budget up to a cost.

    A choice splits the tasks into disjoint sets, each served by one of its networks. For each set of tasks the program
    keeps the Pareto front of cost against loss: the set that has the lowest task still open is joined with the front of
    what is left. Costs may be any numbers, as no grid of budgets is laid over them. The time grows as 3 to the power of
    the number of tasks.

    Args:
        problem: What is solved, for its total.
        most: The highest cost of interest.
        deadline: ``time.perf_counter()`` at which to stop.

    Returns:
        Costs, ascending, with choices of ever lower loss: the last one within a budget is its best. Empty if nothing
        serves all tasks.

    Raises:
        Stopped: The deadline came first.
    """
    serving = _serving(problem, most)
    fronts: dict[int, list[Point]] = {0: [(0, 0, 0, 0)]}
    for tasks in chain(range(2, problem.everything, 2), (problem.everything,)):  # the first task is always joined last
        if time.perf_counter() > deadline:
            raise Stopped
        lowest = tasks & -tasks
        others = within = tasks ^ lowest
        points: list[Point] = []
        while True:
            left = fronts[others ^ within]
            for a, b, c, d in serving.get(within | lowest, ()):
                points += [(a + e, b + f, c + g, d + h) for e, f, g, h in left]
            if len(points) > MANY:
                points = _undominated(points, most)
            if not within:
                break
            within = (within - 1) & others
        fronts[tasks] = _undominated(points, most)
    top = len(problem.networks) - 1
    return [
        (cost, tuple(n for n in range(top + 1) if -bits >> (top - n) & 1))
        for cost, _, _, bits in fronts[problem.everything]
    ]


def _serving(problem: GroupingProblem, most: int) -> dict[int, list[Point]]:
    """For each set of tasks the front of the single networks that serve all of it."""
    points: dict[int, list[Point]] = {}
    top = len(problem.networks) - 1
    for n, (cost, row, serves) in enumerate(zip(problem.costs, problem.losses, problem.serves, strict=True)):
        if cost > most:
            continue
        sums = {0: 0}
        for t, loss in enumerate(row):
            if serves >> t & 1:
                sums |= {tasks | 1 << t: total + loss for tasks, total in sums.items()}
        for tasks, total in sums.items():
            points.setdefault(tasks, []).append((cost, total, 1, -(1 << (top - n))))
    return {tasks: _undominated(some, most) for tasks, some in points.items()}


def _undominated(points: list[Point], most: int) -> list[Point]:
    """By cost, ascending, those with a lower loss than all before."""
    kept: list[Point] = []
    points.sort()
    for point in points:
        if point[0] > most:
            break
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def cheapest_cover(problem: GroupingProblem) -> Choice | None:
    """The networks of lowest cost that serve all tasks, whatever their losses; None if none do."""
    by_cost = sorted(range(len(problem.costs)), key=lambda n: (problem.costs[n], -problem.serves[n].bit_count(), n))
    useful: list[int] = []
    for n in by_cost:
        if not any(problem.serves[n] & ~problem.serves[other] == 0 for other in useful):
            useful.append(n)
    best: dict[int, tuple[int, Choice] | None] = {0: (0, ())}

    def cover(tasks: int) -> tuple[int, Choice] | None:
        if tasks not in best:
            covers = []
            for n in useful:
                if problem.serves[n] & tasks & -tasks:
                    rest = cover(tasks & ~problem.serves[n])
                    if rest is not None:
                        covers.append((problem.costs[n] + rest[0], (n, *rest[1])))
            best[tasks] = min(covers, default=None)
        return best[tasks]

    covered = cover(problem.everything)
    return None if covered is None else tuple(sorted(covered[1]))
