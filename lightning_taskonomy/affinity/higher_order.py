"""Which transfers from several sources are worth training (Taskonomy, Zamir et al., CVPR 2018, section 3.2)."""

import math
from collections.abc import Mapping
from itertools import combinations

from lightning_taskonomy.errors import InputError

__all__ = ["best_sources", "candidates"]


def best_sources(first_order: Mapping[str, float]) -> list[str]:
    """A target's sources, the best first; ties and the order of the mapping do not matter (then by name).

    Args:
        first_order: The performance of each source alone, higher is better.

    Raises:
        InputError: A performance is NaN.
    """
    for name, score in first_order.items():
        if math.isnan(score):
            raise InputError(f"source {name!r} has no first-order performance: measure it or leave it out")
    return sorted(first_order, key=lambda name: (-first_order[name], name))


def candidates(first_order: Mapping[str, float], order: int, beam: int = 5) -> list[tuple[str, ...]]:
    """The source sets of one target and one order.

    Up to order ``beam`` all combinations of the ``beam`` best first-order sources; above it the top ``order`` sources
    alone (a beam of 1). At order ``beam`` both rules give the same set.

    Args:
        first_order: The performance of each source alone, higher is better; leave the target itself out.
        order: How many sources each set has, from 1.
        beam: How many sources are combined, 5 in the paper.

    Returns:
        Sets of sources, each sorted by name, the sets of better sources first; every source at order 1; none if there
        are fewer sources than ``order``.

    Raises:
        InputError: Order or beam is below 1, or a performance is NaN.
    """
    if order < 1 or beam < 1:
        raise InputError(f"order {order} and beam {beam} must be at least 1")
    ranked = best_sources(first_order)
    if order > 1:
        ranked = ranked[: max(order, beam)]
    return [tuple(sorted(sources)) for sources in combinations(ranked, order)]
