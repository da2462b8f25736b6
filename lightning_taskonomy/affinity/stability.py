"""How affinities and taxonomies move when data, seed, architecture, split or dictionary change.

Taskonomy (Zamir et al., CVPR 2018), sections 5.1 (Spearman's rank correlation with another data set) and 5.2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.errors import InputError

__all__ = ["Agreement", "affinity_agreement", "policy_agreement", "rank_correlation"]


@dataclass(frozen=True)
class Agreement:
    """How alike the affinities of two tables are, over the transfers in both.

    Args:
        spearman: Per common target the rank correlation of its transfers, in [-1, 1]; None if it is undefined (fewer
            than two common transfers, or all of them equal).
        frobenius: The norm of the difference over the mean of both norms, each target's affinities scaled to sum to 1
            over the common transfers; 0 if equal.
        transfers: How many transfers are in both.
    """

    spearman: dict[str, float | None]
    frobenius: float
    transfers: int

    @property
    def mean_spearman(self) -> float | None:
        """Mean over the targets for which it is defined; None if there is none."""
        known = [value for value in self.spearman.values() if value is not None]
        return math.fsum(known) / len(known) if known else None


def rank_correlation(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float | None:
    """Spearman's rho of two rankings over the names in both; None if undefined (section 5.1).

    Args:
        ours: A value per name, such as affinities to a target.
        theirs: A value per name, such as accuracies on another data set; higher is better in both.
    """
    from scipy.stats import rankdata

    common = sorted(set(ours) & set(theirs))
    left, right = (rankdata([values[name] for name in common]) for values in (ours, theirs))
    if len(common) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def affinity_agreement(ours: TransfersTable, theirs: TransfersTable, max_order: int | None = None) -> Agreement:
    """Compares the affinities of two tables.

    Args:
        ours: One table.
        theirs: Another of the same tasks; transfers in one alone are left out.
        max_order: Compares transfers of at most this order.

    Raises:
        InputError: The tables have no transfer in common.
    """
    left, right = (_by_target(table, max_order) for table in (ours, theirs))
    spearman: dict[str, float | None] = {}
    differences, norms, count = [], [], 0
    for target in (name for name in left if name in right):
        common = sorted(set(left[target]) & set(right[target]))
        if not common:
            continue
        count += len(common)
        a, b = (np.array([table[target][key] for key in common]) for table in (left, right))
        spearman[target] = rank_correlation(
            dict(zip(map(repr, common), a, strict=True)), dict(zip(map(repr, common), b, strict=True))
        )
        a, b = (values / values.sum() if values.sum() > 0 else values for values in (a, b))
        differences.append(((a - b) ** 2).sum())
        norms.append(((a**2).sum(), (b**2).sum()))
    if not count:
        raise InputError("the two tables have no transfer in common: compare runs over the same tasks")
    mean_norm = float(np.sqrt(np.array(norms).sum(axis=0)).mean())
    frobenius = math.sqrt(math.fsum(differences)) / mean_norm if mean_norm > 0 else 0.0
    return Agreement(spearman, frobenius, count)


def policy_agreement(ours: Mapping[str, Transfer], theirs: Mapping[str, Transfer]) -> float | None:
    """Share in [0, 1] of common targets that both policies solve by the same transfer; None without a common target."""
    common = [target for target in ours if target in theirs]
    if not common:
        return None
    return sum(ours[target].key == theirs[target].key for target in common) / len(common)


def _by_target(table: TransfersTable, max_order: int | None) -> dict[str, dict[tuple[str, tuple[str, ...]], float]]:
    grouped: dict[str, dict[tuple[str, tuple[str, ...]], float]] = {}
    for row in table.candidates:
        if row.affinity is not None and (max_order is None or row.order <= max_order):
            grouped.setdefault(row.target, {})[row.key[1:]] = row.affinity
    return grouped
