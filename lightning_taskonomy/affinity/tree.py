"""Which tasks are alike as sources: a tree of their transferring-out behaviour.

Taskonomy (Zamir et al., CVPR 2018), section 5.3 and Fig. 13: agglomerative clustering, the columns of the normalised
affinity matrix P as features. The paper does not state its linkage. Ward's on the logarithm of the affinities puts the
paper's families together on its published measurements; ``cophenetic`` tells how faithful each choice is.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError

__all__ = ["Linkage", "Tree", "first_order_matrix", "similarity_tree"]

Linkage = Literal["ward", "average", "complete", "single"]


@dataclass(frozen=True)
class Tree:
    """A binary tree over tasks.

    Args:
        names: The S leaves, sorted.
        linkage: (S - 1, 4) merges in SciPy's form: the two clusters, their distance, how many leaves.
        order: The leaves from left to right in a drawing.
        cophenetic: Correlation of distances in the tree with those between the columns, in [-1, 1]; NaN for fewer
            than three tasks.
    """

    names: tuple[str, ...]
    linkage: NDArray[np.float64]
    order: tuple[str, ...]
    cophenetic: float

    def clusters(self, count: int) -> list[tuple[str, ...]]:
        """The leaves cut into ``count`` clusters, each in drawing order, from left to right."""
        from scipy.cluster.hierarchy import cut_tree

        labels = dict(zip(self.names, cut_tree(self.linkage, count)[:, 0].tolist(), strict=True))
        groups: dict[int, list[str]] = {}
        for name in self.order:
            groups.setdefault(labels[name], []).append(name)
        return [tuple(group) for group in groups.values()]

    def newick(self) -> str:
        """The tree in Newick format, names quoted, branch lengths in the linkage's distance."""
        count = len(self.names)
        texts = [f"'{name.replace(chr(39), chr(39) * 2)}'" for name in self.names]
        heights = [0.0] * count
        for left, right, height, _ in self.linkage:
            children = (int(left), int(right))
            texts.append("(" + ",".join(f"{texts[c]}:{height - heights[c]:.9g}" for c in children) + ")")
            heights.append(float(height))
        return texts[-1] + ";"


def first_order_matrix(table: TransfersTable) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.float64]]:
    """P of the first-order transfers.

    A task's entry for itself is the transfer from its own frozen representation if that was measured, else the
    task-specific network.

    Returns:
        T targets and S sources, both sorted, and (T, S) affinities, NaN where unmeasured.
    """
    rows = sorted(
        (row for row in table.candidates if row.order == 1), key=lambda row: row.kind == "transfer"
    )  # a transfer overwrites the task-specific entry
    targets, sources = sorted({row.target for row in rows}), sorted({row.sources[0] for row in rows})
    matrix = np.full((len(targets), len(sources)), np.nan)
    for row in rows:
        matrix[targets.index(row.target), sources.index(row.sources[0])] = row.affinity
    return tuple(targets), tuple(sources), matrix


def similarity_tree(table: TransfersTable, linkage: Linkage = "ward", logarithm: bool = True) -> Tree:
    """Clusters the sources by what they transfer to (Euclidean distance between columns).

    Args:
        table: First-order transfers are used; targets that were not measured from every source are left out.
        linkage: How the distance of two clusters is taken.
        logarithm: Compares ratios of affinities; zeros count as the smallest positive affinity of the table.

    Raises:
        InputError: Fewer than two sources, or no target was measured from all of them.
    """
    from scipy.cluster.hierarchy import cophenet, leaves_list
    from scipy.cluster.hierarchy import linkage as merge
    from scipy.spatial.distance import pdist

    _, sources, matrix = first_order_matrix(table)
    complete = matrix[np.isfinite(matrix).all(axis=1)]
    if len(sources) < 2 or not len(complete):
        raise InputError(
            f"a similarity tree needs two sources or more ({len(sources)} here) and a target measured from all of "
            f"them ({len(complete)} here): measure the missing first-order transfers"
        )
    if logarithm:
        positive = complete[complete > 0]
        complete = np.log(np.maximum(complete, positive.min() if positive.size else 1.0))
    distances = pdist(complete.T)
    merges = merge(distances, method=linkage, optimal_ordering=True)
    correlation = float("nan")
    if len(sources) > 2 and np.ptp(distances) > 0:
        correlation = float(cophenet(merges, distances)[0])
    return Tree(sources, merges, tuple(sources[leaf] for leaf in leaves_list(merges)), correlation)
