"""What a chosen set of networks does: which of them serves each task, and which serves none.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), sections 3 and 6.
"""

from collections.abc import Sequence

from lightning_taskonomy.affinity.groupings.table import Network

__all__ = ["idle", "serving"]


def serving(networks: Sequence[Network]) -> dict[str, int]:
    """Who serves each task: the network with the lowest loss on it, the first of equals.

    Args:
        networks: The chosen ones, with the losses to judge them by.

    Returns:
        Per task that any of them serves, the position of its network.
    """
    best: dict[str, int] = {}
    for position, network in enumerate(networks):
        for task, loss in zip(network.tasks, network.losses, strict=True):
            if task not in best or loss < networks[best[task]].loss(task):
                best[task] = position
    return best


def idle(networks: Sequence[Network]) -> tuple[Network, ...]:
    """The chosen networks that serve no task, because for each of theirs another one is better.

    Of a selection by approximate losses this is known when the chosen networks have been trained to the end. The
    paper's remedy (section 6): remove such a network from the candidates and select again.

    Args:
        networks: The chosen ones, with their real losses.
    """
    busy = set(serving(networks).values())
    return tuple(network for position, network in enumerate(networks) if position not in busy)
