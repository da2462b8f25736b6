"""Is the structure more than chance? A taxonomy against random ones of the same budget.

Taskonomy (Zamir et al., CVPR 2018), section 5 and Fig. 11: random feasible taxonomies that use the largest allowed
supervision budget; bars span the 5th to 95th percentiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.affinity.table import TransfersTable, incidence
from lightning_taskonomy.errors import InputError

__all__ = ["RandomTaxonomies", "band", "p_value", "random_taxonomies"]

ATTEMPTS = 1000
"""How many draws of sources are tried for each taxonomy asked for before the budget counts as too small."""


@dataclass(frozen=True)
class RandomTaxonomies:
    """N random taxonomies of one budget.

    Args:
        objective: (N,) sums of affinities.
        gain: (N,) mean win rates against scratch; NaN where a transfer has none.
        quality: (N,) mean win rates against task-specific networks; NaN where a transfer has none.
    """

    objective: NDArray[np.float64]
    gain: NDArray[np.float64]
    quality: NDArray[np.float64]


def random_taxonomies(
    table: TransfersTable, budget: float, *, max_order: int = 1, count: int = 1000, seed: int = 0
) -> RandomTaxonomies:
    """Draws taxonomies: as many sources as the budget allows, uniformly; per target uniformly one feasible transfer.

    A draw of sources that leaves a target without a transfer is drawn again. Training the target itself is one of the
    feasible transfers when the target is among the sources.

    Args:
        table: The transfers.
        budget: How many sources; the whole part counts.
        max_order: The highest order to draw from.
        count: N.
        seed: The same seed gives the same taxonomies.

    Raises:
        InputError: No budget, or (almost) no draw of so few sources reaches every target.
    """
    rows = [row for row in table.candidates if row.order <= max_order]
    names = sorted({name for row in rows for name in row.sources})
    size = min(int(budget), len(names))
    if size < 1 or count < 1:
        raise InputError(f"budget {budget} and count {count} must be at least 1 to draw random taxonomies")
    needs = incidence(rows, names).astype(np.float32)
    place = {target: index for index, target in enumerate(table.targets)}
    targets = np.array([place[row.target] for row in rows])
    rates = [(row.affinity, row.win_rate_vs_scratch, row.win_rate_vs_task_specific) for row in rows]
    numbers = np.array([[np.nan if value is None else value for value in values] for values in rates])
    generator = np.random.default_rng(seed)
    drawn = np.empty((0, len(place)), dtype=np.int64)
    tries = 0
    while len(drawn) < count:
        if tries >= ATTEMPTS * count:
            raise InputError(f"budget {budget:g}: random sources hardly ever reach every target; raise the budget")
        tries += count
        drawn = np.concatenate([drawn, _draw(generator, needs, targets, size, count)])
    affinity, gain, quality = np.moveaxis(numbers[drawn[:count]], -1, 0)
    return RandomTaxonomies(affinity.sum(axis=1), gain.mean(axis=1), quality.mean(axis=1))


def _draw(
    generator: np.random.Generator, needs: NDArray[np.float32], targets: NDArray[np.int64], size: int, count: int
) -> NDArray[np.int64]:
    """(M, T) positions of transfers of the feasible ones among ``count`` draws of sources."""
    absent = np.ones((count, needs.shape[1]), dtype=np.float32)
    np.put_along_axis(absent, generator.random(absent.shape).argsort(axis=1)[:, :size], 0, axis=1)
    keys = np.where(absent @ needs.T == 0, generator.random((count, len(needs))), -1.0)
    picks = []
    feasible = np.ones(count, dtype=bool)
    for target in range(targets.max() + 1):
        transfers = np.flatnonzero(targets == target)
        picks.append(transfers[keys[:, transfers].argmax(axis=1)])
        feasible &= keys[np.arange(count), picks[-1]] >= 0
    return np.stack(picks, axis=1)[feasible]


def band(values: ArrayLike) -> tuple[float, float, float]:
    """The 5th, 50th and 95th percentiles."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [5, 50, 95])
    return float(low), float(middle), float(high)


def p_value(ours: float, values: ArrayLike) -> float:
    """How often chance does as well: (1 + number of random values >= ours) / (1 + N), never 0."""
    random = np.asarray(values, dtype=np.float64)
    return float((1 + np.count_nonzero(random >= ours)) / (1 + random.size))
