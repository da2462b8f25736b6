"""Losses of networks that were not trained to the end, and how far off they are.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 3.3. The Early
Stopping Approximation is a table of early validation losses, used as it is; the Higher Order Approximation is
computed here.
"""

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable, Network
from lightning_taskonomy.errors import InputError

__all__ = ["early_correlation", "higher_order", "max_ratio_error", "overestimate"]


def higher_order(table: GroupingsTable, cost: float | None = None) -> GroupingsTable:
    """The Higher Order Approximation (section 3.3.2): groups of three or more tasks by their pairs.

    Each loss of such a group becomes the mean loss of that task over the group's pairs that contain it. Pairs are
    taken at the group's size, or at the nearest size at which they were measured (of two equally near, the smaller).
    Networks of one and two tasks stay as they are.

    Args:
        table: The measurements.
        cost: Predict at this cost every group of three or more tasks that the table lacks, too.

    Raises:
        InputError: A pair was not measured.
    """
    networks = list(table.networks)
    if cost is not None:
        sizes = range(3, len(table.tasks) + 1)
        groups = itertools.chain.from_iterable(itertools.combinations(table.tasks, size) for size in sizes)
        missing = [group for group in groups if (group, cost) not in table.by_key]
        networks += [Network(group, cost, (0.0,) * len(group)) for group in missing]
    pairs: dict[tuple[str, ...], list[Network]] = {}
    for network in table.networks:
        if len(network.tasks) == 2:
            pairs.setdefault(network.tasks, []).append(network)
    return GroupingsTable(
        table.tasks, tuple(network if len(network.tasks) < 3 else _predict(network, pairs) for network in networks)
    )


def _predict(group: Network, pairs: dict[tuple[str, ...], list[Network]]) -> Network:
    losses: dict[str, list[float]] = {task: [] for task in group.tasks}
    for tasks in itertools.combinations(group.tasks, 2):
        if tasks not in pairs:
            raise InputError(
                f"the higher-order approximation of {group} needs a network of {'+'.join(tasks)}: measure it"
            )
        pair = min(pairs[tasks], key=lambda network: (abs(network.size - group.size), network.size))
        for task in tasks:
            losses[task].append(pair.loss(task))
    return replace(group, losses=tuple(sum(values) / len(values) for values in losses.values()))


def max_ratio_error(approximation: GroupingsTable, table: GroupingsTable) -> float:
    """How far off predictions are: the mean of max(predicted / true, true / predicted) - 1.

    Args:
        approximation: Predicted losses.
        table: Measured ones; networks match by their tasks and cost.

    Returns:
        The mean over every loss of every network of three or more tasks; at least 0. The paper has 5.2 % (section 5),
        the published validation losses 5.23 %.

    Raises:
        InputError: The tables share no network of three or more tasks, or a loss is 0.
    """
    predicted, true = _higher_losses(approximation, table)
    return float(np.maximum(predicted / true, true / predicted).mean() - 1)


def overestimate(approximation: GroupingsTable, table: GroupingsTable) -> float:
    """How much better predictions are than what was measured: the mean of true / predicted - 1.

    Args:
        approximation: As for `max_ratio_error`.
        table: Too.

    Returns:
        Above 0 if predictions are too good. The paper has 1.4 % (section 5), the published validation losses 1.41 %.

    Raises:
        InputError: The tables share no network of three or more tasks, or a loss is 0.
    """
    predicted, true = _higher_losses(approximation, table)
    return float((true / predicted).mean() - 1)


def _higher_losses(
    approximation: GroupingsTable, table: GroupingsTable
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and true losses of the networks of three or more tasks that both tables have."""
    (predicted, true), _ = GroupingsTable.common(approximation, table)
    losses = np.array(
        [
            pair
            for guess, network in zip(predicted.networks, true.networks, strict=True)
            if len(network.tasks) > 2
            for pair in zip(guess.losses, network.losses, strict=True)
        ]
    )
    if not losses.all() or not losses.size:
        raise InputError("predictions need networks of three or more tasks with losses above 0 to be compared with")
    return losses[:, 0], losses[:, 1]


def early_correlation(early: GroupingsTable, final: GroupingsTable) -> float:
    """How well losses early in training predict the final ones (section 3.3.1).

    Args:
        early: Validation losses after a part of the data.
        final: Losses at the end; networks match by their tasks and cost.

    Returns:
        Pearson's r between the networks' mean losses over the tasks they serve. The paper prints .49; the published
        early and test losses of all 36 networks give .488.

    Raises:
        InputError: Fewer than two networks in common, or all with the same mean loss.
    """
    matched, _ = GroupingsTable.common(early, final)
    means = np.array([[np.mean(network.losses) for network in table.networks] for table in matched])
    if means.shape[1] < 2 or not np.ptp(means, axis=1).all():
        raise InputError("a correlation needs two networks in common with different losses: measure more")
    return float(np.corrcoef(means)[0, 1])
