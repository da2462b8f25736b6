"""Which pairs of tasks help each other in one network, and whether transfers would have shown it.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 5, Tables 1 to
3, Fig. 3.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable
from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError, hint

__all__ = ["Agreement", "Relationships", "agreement", "relationships", "transfer_affinity"]


@dataclass(frozen=True)
class Relationships:
    """What every task gains by each partner.

    Args:
        tasks: The T tasks.
        change: (T, T) percent by which the loss of the column's task is lower when trained as a pair with the row's
            task than alone in a smaller network; positive is better; NaN on the diagonal and for pairs that were not
            measured.
    """

    tasks: tuple[str, ...]
    change: NDArray[np.float64]

    @property
    def symmetric(self) -> NDArray[np.float64]:
        """(T, T) multi-task affinity: the mean of the table and its transpose (the paper's Table 2)."""
        return _symmetric(self.change)

    @property
    def as_partner(self) -> NDArray[np.float64]:
        """(T,) mean over what a task does to its partners (the last column of the paper's Table 1)."""
        return _means(self.change)

    @property
    def with_partner(self) -> NDArray[np.float64]:
        """(T,) mean over what its partners do to a task (the last row of the paper's Table 1)."""
        return _means(self.change.T)


def _symmetric(square: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((square + square.T) / 2)


def _means(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the entries of each row that are not NaN, NaN if there is none."""
    valid = ~np.isnan(rows)
    counts = valid.sum(axis=1)
    return np.where(counts > 0, np.where(valid, rows, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def relationships(table: GroupingsTable, *, pair_cost: float = 1.0, single_cost: float = 0.5) -> Relationships:
    """The relationship table (the paper's Table 1): pairs against single-task networks of half the size.

    Args:
        table: The measurements; the paper takes test losses.
        pair_cost: The cost of the networks of two tasks; their size, where costs are in another unit.
        single_cost: That of the single-task networks; half of ``pair_cost`` makes the total cost equal.

    Raises:
        InputError: A task has no single-task network at that cost or its loss is 0, or no pair was measured.
    """
    alone = []
    by_size = {(network.tasks, network.size): network for network in table.networks}
    for task in table.tasks:
        network = by_size.get(((task,), single_cost))
        if network is None or network.losses[0] == 0:
            costs = ", ".join(f"{cost:g}" for tasks, cost in by_size if tasks == (task,))
            raise InputError(
                f"task {task!r} has no single-task network of cost {single_cost:g} with a loss above 0; "
                f"it has them at costs: {costs or 'none'}"
            )
        alone.append(network.losses[0])
    change = np.full((len(alone), len(alone)), np.nan)
    for network in table.networks:
        if len(network.tasks) == 2 and network.size == pair_cost:
            first, second = (table.tasks.index(task) for task in network.tasks)
            change[second, first], change[first, second] = (
                100 * (1 - loss / alone[position])
                for loss, position in zip(network.losses, (first, second), strict=True)
            )
    if np.isnan(change).all():
        raise InputError(f"no network of two tasks has cost {pair_cost:g}: measure pairs, or name their cost")
    return Relationships(table.tasks, change)


def transfer_affinity(
    transfers: TransfersTable, tasks: Collection[str], names: Mapping[str, str]
) -> NDArray[np.float64]:
    """Transfer affinity between tasks, the mean of both directions (the paper's Table 3).

    Args:
        transfers: First-order transfers with affinities.
        tasks: The T tasks of a groupings table.
        names: What the transfers table calls them; one that is not listed has the same name in both.

    Returns:
        (T, T), symmetric, NaN on the diagonal and for pairs with a direction unmeasured.

    Raises:
        InputError: A task is not a target of the transfers, is unknown, or shares its name with another.
    """
    for task in names:
        if task not in tasks:
            raise InputError(f"task {task!r} is unknown{hint(task, tasks)}")
    called = [names.get(task, task) for task in tasks]
    for name in called:
        if name not in transfers.targets:
            raise InputError(f"task {name!r} is not a target of the transfers{hint(name, transfers.targets)}")
        if called.count(name) > 1:
            raise InputError(f"two tasks are called {name!r}: rename one of them")
    forward = np.full((len(called), len(called)), np.nan)
    for row in transfers.candidates:
        if row.kind == "transfer" and row.order == 1 and {*row.sources, row.target} <= set(called):
            forward[called.index(row.sources[0]), called.index(row.target)] = row.affinity
    np.fill_diagonal(forward, np.nan)
    return _symmetric(forward)


@dataclass(frozen=True)
class Agreement:
    """How far two symmetric measures of pairs agree.

    Args:
        pairs: How many pairs both measures have.
        pearson: Correlation in [-1, 1] of the values.
        pearson_p: Its two-sided p-value.
        spearman: Correlation of the ranks.
        spearman_p: Its p-value.
    """

    pairs: int
    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float


def agreement(
    relations: Relationships, other: NDArray[np.float64], leave_out: Collection[tuple[str, str]] = ()
) -> Agreement:
    """Multi-task affinity against another measure of the same pairs, such as transfer affinity (section 5.1, Fig. 3).

    Args:
        relations: Its symmetric table counts, each pair once.
        other: (T, T) in the same order of tasks, symmetric; NaN where unknown.
        leave_out: Pairs not to count, as the paper leaves an outlier out.

    Raises:
        InputError: A pair to leave out is unknown, or fewer than three pairs remain, or one measure is the same for
            all.
    """
    from scipy.stats import pearsonr, spearmanr

    ours = relations.symmetric
    keep = np.triu(~np.isnan(ours) & ~np.isnan(other), 1)
    for pair in leave_out:
        for task in pair:
            if task not in relations.tasks:
                raise InputError(f"task {task!r} is unknown{hint(task, relations.tasks)}")
        first, second = sorted(relations.tasks.index(task) for task in pair)
        keep[first, second] = False
    left, right = ours[keep], other[keep]
    if left.size < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        raise InputError(f"{left.size} pairs have both measures: a correlation needs three that differ in each")
    linear, ranks = pearsonr(left, right), spearmanr(left, right)
    return Agreement(
        left.size, float(linear.statistic), float(linear.pvalue), float(ranks.statistic), float(ranks.pvalue)
    )
