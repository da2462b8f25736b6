"""Is a grouping better than chance? Losses of random groupings of the same budget.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 4.3 and Table 4.
"""

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable
from lightning_taskonomy.errors import InputError

__all__ = ["random_groupings"]

ATTEMPTS = 5000
"""How many draws are tried for each grouping asked for before the budget counts as too small."""

BATCH = 100_000
"""The most draws that are made at once."""

SLACK = 1e-9
"""By how much costs may exceed the budget, for sums of decimals such as ten times 0.1."""


def random_groupings(table: GroupingsTable, budget: float, *, count: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """Draws groupings that spend the budget and serve every task, whatever the losses.

    The networks come in uniformly random order, and each is taken if it still fits; so no network that was not taken
    fits into what is left (with networks of half and full size less than 0.5). A draw that leaves a task without a
    network is drawn again.

    Args:
        table: The candidates, with the losses to report, such as those on test data.
        budget: What the networks of one grouping may cost together.
        count: N.
        seed: The same seed gives the same groupings.

    Returns:
        (N, T) losses: per task the lowest among the networks drawn. Their sums over tasks are the totals of the paper.

    Raises:
        InputError: The count is not positive, or (almost) no draw within the budget serves every task.
    """
    if count < 1:
        raise InputError(f"count {count} must be at least 1 to draw random groupings")
    order = table.costs().argsort(kind="stable")
    costs, losses = table.costs()[order], table.losses()[order]
    losses[np.isnan(losses)] = np.inf
    generator = np.random.default_rng(seed)
    drawn = np.empty((0, len(table.tasks)))
    size, tries = count, 0
    while len(drawn) < count:
        if tries >= ATTEMPTS * count:
            raise InputError(f"budget {budget:g}: random groupings hardly ever serve every task; raise the budget")
        best = _draw(generator, costs, losses, budget, size)
        drawn = np.concatenate([drawn, best[np.isfinite(best).all(axis=1)]])
        tries += size
        size = min(2 * size, BATCH)
    return drawn[:count]


def _draw(
    generator: np.random.Generator, costs: NDArray[np.float64], losses: NDArray[np.float64], budget: float, count: int
) -> NDArray[np.float64]:
    """(count, T) lowest losses of as many draws, infinite where a task is not served; networks by rising cost.

    Taking each network of a random order if it fits is the same as taking one of those that still fit, again and again.
    """
    best = np.full((count, losses.shape[1]), np.inf)
    left = np.full(count, budget + SLACK)
    taken = np.empty((count, 0), dtype=np.int64)
    while True:
        fitting = np.searchsorted(costs, left, side="right")
        free = fitting > (taken < fitting[:, None]).sum(axis=1)
        if not free.any():
            return best
        pick = (generator.random(count) * fitting).astype(np.int64)
        new = free & (taken != pick[:, None]).all(axis=1)
        left[new] -= costs[pick[new]]
        best[new] = np.minimum(best[new], losses[pick[new]])
        taken = np.column_stack([taken, np.where(new, pick, len(costs))])
