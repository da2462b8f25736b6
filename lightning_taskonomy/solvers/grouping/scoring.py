"""What a choice of networks is worth on losses other than those it was chosen by."""

from collections.abc import Sequence

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network, idle, serving
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution
from lightning_taskonomy.solvers.grouping.solver import GroupingSolver

__all__ = ["score", "select_again", "served"]


def served(networks: Sequence[Network], by: GroupingsTable) -> tuple[tuple[str, ...], ...]:
    """Per network of a choice the tasks it serves: those that none of the others is better at; of equals the first.

    Args:
        networks: The choice, one that serves every task.
        by: The losses that count; networks are found in it by their tasks and cost.

    Raises:
        InputError: The table lacks a network.
    """
    places = serving(_measured(networks, by))
    return tuple(tuple(task for task in by.tasks if places[task] == n) for n in range(len(networks)))


def score(networks: Sequence[Network], on: GroupingsTable, by: GroupingsTable) -> dict[str, float]:
    """The loss of each task of a choice, such as its test losses.

    Args:
        networks: The choice, one that serves every task.
        on: The losses that are reported, such as those of test images.
        by: The losses by which it is decided which network serves a task, such as those of validation images; of equal
            ones the first.

    Raises:
        InputError: A table lacks a network.
    """
    places, measured = serving(_measured(networks, by)), _measured(networks, on)
    return {task: measured[places[task]].loss(task) for task in on.tasks}


def select_again(
    solver: GroupingSolver, approximated: GroupingsTable, trained: GroupingsTable
) -> tuple[GroupingSolution, tuple[Network, ...]]:
    """Selects by approximated losses without networks that turn out useless once they are trained.

    The remedy of section 6: a chosen network that by its losses after training serves no task, as the others do better
    at each, is removed from the candidates, and the selection is made again until every chosen network serves a task.

    Args:
        solver: How to select.
        approximated: The losses to select by.
        trained: The losses after training; only those of chosen networks are looked at.

    Returns:
        The last selection, and the networks removed, in the order of removal.

    Raises:
        InputError: As ``GroupingSolver.solve``; or ``trained`` lacks a chosen network.
    """
    removed: list[Network] = []
    while True:
        left = tuple(network for network in approximated.networks if network not in removed)
        solution = solver.solve(GroupingsTable(approximated.tasks, left))
        useless = {network.key for network in idle(_measured(solution.networks, trained))}
        if not useless:
            return solution, tuple(removed)
        removed += [network for network in solution.networks if network.key in useless]


def _measured(networks: Sequence[Network], table: GroupingsTable) -> list[Network]:
    """Networks with their losses in another table."""
    measured = []
    for network in networks:
        if network.key not in table.by_key:
            raise InputError(f"network {network} is not in the table; networks match by tasks and cost")
        measured.append(table.by_key[network.key])
    return measured
