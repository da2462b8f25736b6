"""Does sharing a network pay at equal cost? Groups of k tasks against k single-task networks of a k-th of the size.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 5, Fig. 2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable
from lightning_taskonomy.errors import InputError

__all__ = ["EqualCost", "equal_cost"]

TOLERANCE = 0.01
"""By which share of it the total cost of the single-task networks may differ from that of the group."""


@dataclass(frozen=True)
class EqualCost:
    """Networks of k tasks against single-task networks that cost as much together.

    Args:
        count: k.
        tasks: The T tasks.
        change: (N, T) of the N networks of k tasks: percent by which the loss of a task is lower than in its own small
            network; positive is better; NaN where a network does not serve the task.
    """

    count: int
    tasks: tuple[str, ...]
    change: NDArray[np.float64]

    @property
    def mean(self) -> float:
        """The mean over networks and their tasks: a bar of the paper's Fig. 2."""
        return float(np.nanmean(self.change))

    @property
    def per_task(self) -> dict[str, float]:
        """The mean over the networks that serve a task; tasks that none of them serves are left out."""
        served = ~np.isnan(self.change)
        return {
            task: float(self.change[rows, place].mean())
            for place, (task, rows) in enumerate(zip(self.tasks, served.T, strict=True))
            if rows.any()
        }


def equal_cost(table: GroupingsTable, *, group_cost: float = 1.0) -> tuple[EqualCost, ...]:
    """Relative performance of multi-task networks by their number of tasks, at equal total cost (Fig. 2).

    The loss of each task of a network of k tasks is compared with that of the task alone in a network of a k-th of the
    cost. For k = 2 the mean is that of the relationship table (Table 1).

    Args:
        table: Losses of groups and of small single-task networks; the paper takes test losses.
        group_cost: The cost of the networks of several tasks.

    Returns:
        One comparison per k from 2 on; a k is left out if no group of k tasks was measured, or if a task of one has no
        single-task network of a k-th of the cost (within 1 %) with a loss above 0.

    Raises:
        InputError: No k remains.
    """
    comparisons = []
    for count in range(2, len(table.tasks) + 1):
        groups = [n for n in table.networks if len(n.tasks) == count and n.cost == group_cost]
        alone = {
            n.tasks[0]: n.losses[0]
            for n in table.networks
            if len(n.tasks) == 1 and abs(count * n.cost / group_cost - 1) <= TOLERANCE and n.losses[0] > 0
        }
        if not groups or not all(task in alone for group in groups for task in group.tasks):
            continue
        change = np.full((len(groups), len(table.tasks)), np.nan)
        for row, group in zip(change, groups, strict=True):
            for task, loss in zip(group.tasks, group.losses, strict=True):
                row[table.tasks.index(task)] = 100 * (1 - loss / alone[task])
        comparisons.append(EqualCost(count, table.tasks, change))
    if not comparisons:
        raise InputError(
            f"no network of several tasks at cost {group_cost:g} has single-task networks of equal total cost beside "
            "it: measure single-task networks of cost 1/2, 1/3, ... of that"
        )
    return tuple(comparisons)
