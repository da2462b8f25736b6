"""The exact answer to every budget at once, for additive losses: a dynamic program over sets of tasks."""

import time
from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import chain

from lightning_taskonomy.solvers.grouping.problem import Choice, GroupingProblem, Stopped

__all__ = ["cheapest_cover", "front", "smallest_cover"]

Point = tuple[int, int, int, int, int]
"""Cost, loss, number of networks, minus the networks as bits, the first by name the highest bit, and weights: the sum
of points is the point of both choices together; of equal cost and loss the smaller point is what the order of ties
prefers."""

MANY = 100_000
"""So many points are thinned out before more are added."""


def front(problem: GroupingProblem, most: int, deadline: float) -> list[tuple[int, Choice]]:
    """The choices of lowest total loss for every budget up to a cost.

    A choice splits the tasks into disjoint sets, each served by one of its networks. For each set of tasks the program
    keeps the Pareto front of cost against loss, and against weights where memory has a limit: the set that has the
    lowest task still open is joined with the front of what is left. Costs may be any numbers, as no grid of budgets is
    laid over them. The time grows as 3 to the power of the number of tasks. Under a limit of memory the program runs
    once for each of the largest activations that a choice may have.

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
    points = [point for peak in problem.peaks for point in _front(problem, peak, most, deadline)]
    return [
        (cost, _choice(problem, bits))
        for cost, _, _, bits, _ in _undominated([(*point[:4], 0) for point in points], most, 0)
    ]


def _front(problem: GroupingProblem, peak: int, most: int, deadline: float) -> list[Point]:
    """The front of all tasks, of networks whose activations are at most a peak."""
    room = problem.memory - peak
    serving = _serving(problem, peak, most, room)
    fronts: dict[int, list[Point]] = {0: [(0, 0, 0, 0, 0)]}
    for tasks in chain(range(2, problem.everything, 2), (problem.everything,)):  # the first task is always joined last
        if time.perf_counter() > deadline:
            raise Stopped
        lowest = tasks & -tasks
        others = within = tasks ^ lowest
        points: list[Point] = []
        while True:
            left = fronts[others ^ within]
            for point in serving.get(within | lowest, ()):
                points += _joined(point, left)
            if len(points) > MANY:
                points = _undominated(points, most, room)
            if not within:
                break
            within = (within - 1) & others
        fronts[tasks] = _undominated(points, most, room)
    return fronts[problem.everything]


def _serving(problem: GroupingProblem, peak: int, most: int, room: int) -> dict[int, list[Point]]:
    """For each set of tasks the front of the single networks that serve all of it."""
    points: dict[int, list[Point]] = {}
    for n, (row, serves) in enumerate(zip(problem.losses, problem.serves, strict=True)):
        if problem.activations[n] > peak:
            continue
        sums = {0: 0}
        for t, loss in enumerate(row):
            if serves >> t & 1:
                sums |= {tasks | 1 << t: total + loss for tasks, total in sums.items()}
        for tasks, total in sums.items():
            points.setdefault(tasks, []).append(_point(problem, n, total))
    return {tasks: _undominated(some, most, room) for tasks, some in points.items()}


def _point(problem: GroupingProblem, n: int, loss: int) -> Point:
    """One network with a loss."""
    return problem.costs[n], loss, 1, -(1 << (len(problem.networks) - 1 - n)), problem.weights[n]


def _joined(point: Point, others: list[Point]) -> list[Point]:
    a, b, c, d, e = point
    return [(a + f, b + g, c + h, d + i, e + j) for f, g, h, i, j in others]


def _choice(problem: GroupingProblem, bits: int) -> Choice:
    top = len(problem.networks) - 1
    return tuple(n for n in range(top + 1) if -bits >> (top - n) & 1)


def _undominated(points: list[Point], most: int, room: int) -> list[Point]:
    """By cost, ascending, those with a lower loss or lower weights than each before."""
    kept: list[Point] = []
    steps: list[int] = []  # weights, ascending, and the lowest loss so far within each
    lowest: list[int] = []
    points.sort()
    for point in points:
        cost, loss, _, _, weights = point
        if cost > most:
            break
        place = bisect_right(steps, weights)
        if weights > room or (place and lowest[place - 1] <= loss):
            continue
        kept.append(point)
        start = end = bisect_left(steps, weights)
        while end < len(steps) and lowest[end] >= loss:
            end += 1
        steps[start:end], lowest[start:end] = [weights], [loss]
    return kept


def cheapest_cover(problem: GroupingProblem) -> Choice | None:
    """The networks of lowest cost within the memory that serve all tasks, whatever their losses; None if none do."""
    points = [point for peak in problem.peaks for point in _covers(problem, peak)]
    return _choice(problem, min(points)[3]) if points else None


def smallest_cover(problem: GroupingProblem) -> Choice:
    """The networks that take the least memory and serve all tasks, which some networks do."""
    by_weights = replace(problem.without_limit, costs=problem.weights)
    points = [point for peak in by_weights.peaks for point in _covers(by_weights, peak)]
    return min((_choice(problem, bits) for *_, bits, _ in points), key=lambda choice: (problem.taken(choice), choice))


def _covers(problem: GroupingProblem, peak: int) -> list[Point]:
    """The front of cost against weights of what serves all tasks, of networks whose activations are at most a peak."""
    room, most = problem.memory - peak, sum(problem.costs)
    numbers = list(zip(problem.costs, problem.weights, problem.serves, strict=True))
    order = sorted(
        (n for n, peak_of_it in enumerate(problem.activations) if peak_of_it <= peak),
        key=lambda n: (*numbers[n][:2], -problem.serves[n].bit_count(), n),
    )
    useful: list[int] = []
    for n in order:
        cost, weights, serves = numbers[n]
        others = (numbers[other] for other in useful)
        if not any(a <= cost and b <= weights and serves & ~c == 0 for a, b, c in others):
            useful.append(n)
    best: dict[int, list[Point]] = {0: [(0, 0, 0, 0, 0)]}

    def cover(tasks: int) -> list[Point]:
        if tasks not in best:
            points: list[Point] = []
            for n in useful:
                if problem.serves[n] & tasks & -tasks:
                    points += _joined(_point(problem, n, 0), cover(tasks & ~problem.serves[n]))
            best[tasks] = _undominated(points, most, room)
        return best[tasks]

    return cover(problem.everything)
