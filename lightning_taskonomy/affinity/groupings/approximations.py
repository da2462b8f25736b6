"""Losses of networks that were not trained to the end, and how far off they are.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 3.3. The Early
Stopping Approximation is a table of early validation losses, used as it is; the Higher Order Approximation is
computed here.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable, Network, NetworkKey
from lightning_taskonomy.errors import InputError

__all__ = [
    "completed",
    "early_correlation",
    "gains",
    "higher_order",
    "kendall_tau",
    "max_ratio_error",
    "overestimate",
]


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
    pairs = _pairs(table)
    for network in networks:
        for tasks in itertools.combinations(network.tasks, 2):
            if tasks not in pairs:
                raise InputError(
                    f"the higher-order approximation of {network} needs a network of {'+'.join(tasks)}: measure it"
                )
    predicted = (n if len(n.tasks) < 3 else replace(n, losses=_predict(n.tasks, n.size, pairs)) for n in networks)
    return GroupingsTable(table.tasks, tuple(predicted))


def completed(table: GroupingsTable, candidates: Iterable[NetworkKey], *, corrected: bool = True) -> GroupingsTable:
    """Measured losses of candidate networks, and predicted ones where they were not measured.

    A candidate of three or more tasks that was not measured has its losses by the Higher Order Approximation, by those
    of its pairs that were measured. A correction multiplies each by the mean, over the measured networks of three and
    more tasks, of that task's measured loss over the predicted one; by 1 where there is none.

    Args:
        table: The measurements; networks that are no candidates serve the predictions alone.
        candidates: All candidates by their tasks and size, tasks in the table's order. Networks of one and two tasks
            that were not measured are left out, and so is a larger one with a task of which no pair was.
        corrected: Whether predictions are corrected.

    Raises:
        InputError: What is left does not serve each task.
    """
    pairs, ratios = _pairs(table), dict[str, list[float]]()
    for network in table.networks if corrected else ():
        predicted = _predict(network.tasks, network.size, pairs) if len(network.tasks) > 2 else ()
        for task, loss, guess in zip(network.tasks, network.losses, predicted, strict=False):
            if guess > 0:
                ratios.setdefault(task, []).append(loss / guess)
    factors = {task: sum(values) / len(values) for task, values in ratios.items()}
    networks = []
    for key in dict.fromkeys(candidates):
        if key in table.by_key:
            networks.append(table.by_key[key])
        elif len(key[0]) > 2 and (predicted := _predict(*key, pairs)):
            losses = (factors.get(task, 1.0) * loss for task, loss in zip(key[0], predicted, strict=True))
            networks.append(Network(*key, tuple(losses)))
    return GroupingsTable(table.tasks, tuple(networks))


def _pairs(table: GroupingsTable) -> dict[tuple[str, ...], list[Network]]:
    """The networks of two tasks by their tasks."""
    pairs: dict[tuple[str, ...], list[Network]] = {}
    for network in table.networks:
        if len(network.tasks) == 2:
            pairs.setdefault(network.tasks, []).append(network)
    return pairs


def _predict(group: tuple[str, ...], size: float, pairs: Mapping[tuple[str, ...], list[Network]]) -> tuple[float, ...]:
    """The mean of each task's losses in the pairs there are; nothing if a task has no pair."""
    losses: dict[str, list[float]] = {task: [] for task in group}
    for tasks in itertools.combinations(group, 2):
        if tasks in pairs:
            pair = min(pairs[tasks], key=lambda network: (abs(network.size - size), network.size))
            for task in tasks:
                losses[task].append(pair.loss(task))
    return tuple(sum(values) / len(values) for values in losses.values()) if all(losses.values()) else ()


def gains(table: GroupingsTable, single_cost: float = 0.5) -> dict[tuple[NetworkKey, str], float]:
    """What each task gains in each network of two and more tasks, as the paper's Table 1 has it for pairs.

    Args:
        table: Losses, measured or predicted.
        single_cost: The cost of the single-task networks that they are compared with.

    Returns:
        By network and task, the percent by which the task's loss is lower than in its single-task network; tasks
        without such a network, or with a loss of 0 there, are left out.
    """
    singles = (network for network in table.networks if len(network.tasks) == 1 and network.cost == single_cost)
    alone = {network.tasks[0]: network.losses[0] for network in singles}
    return {
        (network.key, task): 100 * (1 - loss / alone[task])
        for network in table.networks
        for task, loss in zip(network.tasks, network.losses, strict=True)
        if len(network.tasks) > 1 and alone.get(task)
    }


def kendall_tau(approximation: GroupingsTable, table: GroupingsTable, single_cost: float = 0.5) -> float:
    """How far an approximation orders the gains of training together as they are.

    Args:
        approximation: Predicted losses, or what stands for them.
        table: Measured losses, such as those of test images.
        single_cost: As for :func:`gains`: either table is compared with its own single-task networks.

    Returns:
        Kendall's τ-b over every (network, task) of the networks of two and more tasks that both tables have, all tasks
        and sizes of groups together; 1 if all are ordered alike, 0 by chance.

    Raises:
        InputError: Fewer than two gains in common, or one table has the same gain everywhere.
    """
    from scipy.stats import kendalltau

    (ours, theirs), _ = GroupingsTable.common(approximation, table)
    predicted, true = gains(ours, single_cost), gains(theirs, single_cost)
    both = [(predicted[place], true[place]) for place in predicted if place in true]
    columns = np.array(both).reshape(-1, 2)
    if len(columns) < 2 or not np.ptp(columns, axis=0).all():
        raise InputError(
            f"the order of gains needs two in common that differ; networks of two and more tasks and single-task ones "
            f"of cost {single_cost:g} have {len(columns)}"
        )
    return float(kendalltau(columns[:, 0], columns[:, 1]).statistic)


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
