"""How affinities and taxonomies move when data, seed, order, architecture, split or dictionary change.

Taskonomy (Zamir et al., CVPR 2018), sections 5.1 (Spearman's rank correlation with another data set) and 5.2. Each
change is another table of transfers, whatever was changed, and policies are the transfer of every target, as a solver
returns them: the functions here compare two of them. A smaller dictionary is ``table.restricted(tasks)``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.errors import InputError

__all__ = [
    "Agreement",
    "affinity_agreement",
    "kept_affinity",
    "policy_agreement",
    "rank_correlation",
    "source_agreement",
]


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
        defined = [value for value in self.spearman.values() if value is not None]
        return math.fsum(defined) / len(defined) if defined else None


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


def source_agreement(ours: Mapping[str, Transfer], theirs: Mapping[str, Transfer]) -> float | None:
    """Share in [0, 1] of the sources of either policy that both use (Jaccard's index); None if neither has any."""
    left, right = ({name for row in policy.values() for name in row.sources} for policy in (ours, theirs))
    return len(left & right) / len(left | right) if left | right else None


def kept_affinity(policy: Mapping[str, Transfer], best: Mapping[str, Transfer], table: TransfersTable) -> float | None:
    """How much of the best objective is left when the policy was chosen elsewhere.

    Unlike ``policy_agreement`` it forgives another choice among transfers that are as good.

    Args:
        policy: A policy computed on another table.
        best: The one computed on ``table`` under the same budget and order.
        table: The measurements to judge by.

    Returns:
        The sum of the policy's affinities in ``table`` over that of ``best``, over the targets of both; None if a
        transfer of one of them was not measured there, if they have no common target, or if the best has no affinity.
    """
    affinity = {row.key: row.affinity for row in table.candidates}
    pairs = [(affinity.get(policy[name].key), affinity.get(best[name].key)) for name in policy if name in best]
    ours = [value for value, _ in pairs if value is not None]
    theirs = [value for _, value in pairs if value is not None]
    if not pairs or len(ours) + len(theirs) < 2 * len(pairs) or not any(theirs):
        return None
    return math.fsum(ours) / math.fsum(theirs)


def _by_target(table: TransfersTable, max_order: int | None) -> dict[str, dict[tuple[str, tuple[str, ...]], float]]:
    grouped: dict[str, dict[tuple[str, tuple[str, ...]], float]] = {}
    for row in table.candidates:
        if row.affinity is not None and (max_order is None or row.order <= max_order):
            grouped.setdefault(row.target, {})[row.key[1:]] = row.affinity
    return grouped
