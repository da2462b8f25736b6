"""Which groups of tasks to consider at all: all of them, or beyond a dozen tasks those that grow from pairs."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable, NetworkKey
from lightning_taskonomy.errors import InputError

__all__ = ["ALL_GROUPS", "candidate_groups", "grown_groups"]

ALL_GROUPS = 12
"""Up to so many tasks all groups are candidates: 4,095 of them."""


def candidate_groups(
    tasks: Sequence[str], measured: GroupingsTable | None = None, *, cost: float = 1.0, single_cost: float = 0.5
) -> list[NetworkKey]:
    """The candidates of a search: single-task networks of both costs, pairs, and larger groups.

    Up to 12 tasks these are all groups, as in the paper; beyond, all pairs and what :func:`grown_groups` makes of them
    once they are measured.

    Args:
        tasks: The T tasks.
        measured: The measurements so far; looked at beyond 12 tasks alone.
        cost: The cost of a full-size network.
        single_cost: The cost of the smaller networks of one task; no such networks if it is ``cost``.

    Returns:
        By their tasks and cost; the smallest first.
    """
    singles: list[NetworkKey] = [((task,), size) for size in dict.fromkeys((cost, single_cost)) for task in tasks]
    pairs: list[NetworkKey] = [(pair, cost) for pair in itertools.combinations(tasks, 2)]
    if len(tasks) <= ALL_GROUPS:
        sizes = (itertools.combinations(tasks, size) for size in range(3, len(tasks) + 1))
        return singles + pairs + [(group, cost) for group in itertools.chain.from_iterable(sizes)]
    if measured is None or not all(pair in measured.by_key for pair in pairs):
        return singles + pairs
    return singles + pairs + grown_groups(measured, cost)


def grown_groups(table: GroupingsTable, cost: float = 1.0) -> list[NetworkKey]:
    """Groups that grow from each pair by one task at a time, until all tasks are in them.

    The task that joins is the one with which the group is predicted best: by the lowest mean, over its tasks, of the
    loss by the Higher Order Approximation over the lowest loss of that task in any network of one or two tasks. Of
    2^T groups these are at most T·(T - 1)·(T - 2)/2: 3,420 of 20 tasks. A good group that no chain of good ones leads
    to is missed.

    Args:
        table: The measurements, all pairs of that cost among them.
        cost: The cost of pairs and groups.

    Raises:
        InputError: A pair was not measured.
    """
    count = len(table.tasks)
    losses = np.zeros((count, count))  # of the row's task with the column's
    for first, second in itertools.combinations(range(count), 2):
        pair = (table.tasks[first], table.tasks[second])
        if (pair, cost) not in table.by_key:
            raise InputError(f"groups grow from pairs: {'+'.join(pair)} of cost {cost:g} is missing; measure it")
        losses[first, second], losses[second, first] = table.by_key[pair, cost].losses
    small = [row for row, network in zip(table.losses(), table.networks, strict=True) if len(network.tasks) < 3]
    lowest = np.nanmin(np.array(small), axis=0)
    relative = losses / np.where(lowest > 0, lowest, 1)[:, None]
    groups: dict[tuple[int, ...], None] = {}
    for start in itertools.combinations(range(count), 2):
        group: tuple[int, ...] = start
        while len(group) < count:
            others = [task for task in range(count) if task not in group]
            grown = [tuple(sorted((*group, task))) for task in others]
            group = min(grown, key=lambda members: (_mean(relative, members), members))
            groups[group] = None
    return [(tuple(table.tasks[n] for n in group), cost) for group in sorted(groups, key=lambda g: (len(g), g))]


def _mean(relative: NDArray[np.float64], members: Sequence[int]) -> float:
    """The mean predicted loss of a group, in multiples of each task's lowest; the diagonal is 0."""
    square = relative[np.ix_(members, members)]
    return float(square.sum() / (len(members) * (len(members) - 1)))
