"""How affinity and taxonomy move with seeds and other settings (section 5.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.affinity.stability import (
    affinity_agreement,
    kept_affinity,
    policy_agreement,
    source_agreement,
)
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.studies.base import Table

__all__ = ["spread", "stability"]


def spread(tables: Sequence[TransfersTable]) -> Table:
    """Mean and standard deviation of each affinity over seeds, for the transfers that all of them measured."""
    measured = [{row.key: row.affinity for row in table.transfers if row.affinity is not None} for table in tables]
    rows: list[list[Any]] = []
    for key in measured[0]:
        values = np.array([affinities[key] for affinities in measured if key in affinities], float)
        if len(values) == len(tables):
            target, kind, sources = key
            rows.append([target, kind, ";".join(sources), len(values), values.mean(), values.std(ddof=1)])
    return ["target", "kind", "sources", "seeds", "mean", "std"], rows


def stability(table: TransfersTable, others: Mapping[str, TransfersTable], budget: float, max_order: int) -> Table:
    """How affinity and taxonomy move under other settings (section 5.2).

    Args:
        table: The study's transfers.
        others: Those of each variant.
        budget: The budget at which taxonomies are compared.
        max_order: Their highest order.
    """
    rows: list[list[Any]] = []
    for name, other in others.items():
        common = [target for target in table.targets if target in other.targets]
        agreement = affinity_agreement(table, other)
        ours, theirs = (
            TaxonomySolver(budget=budget, max_order=max_order, targets=common).solve(each).policy
            for each in (table, other)
        )
        rows.append(
            [
                name, agreement.mean_spearman, agreement.frobenius, policy_agreement(ours, theirs),
                source_agreement(ours, theirs), kept_affinity(theirs, ours, table),
            ]
        )  # fmt: skip
    columns = ["variant", "mean_spearman", "frobenius", "equal_policies", "equal_sources", "kept_affinity"]
    return columns, rows
