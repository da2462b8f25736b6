"""Which tasks are alike as sources: a tree of their transferring-out behaviour.

Taskonomy (Zamir et al., CVPR 2018), section 5.3 and Fig. 13: agglomerative clustering, the columns of the normalised
affinity matrix P as features. The paper does not state its linkage. Ward's on the logarithm of the affinities puts the
paper's families together on its published measurements; ``linkage_agreement`` compares the alternatives. Support of a
node is Felsenstein's bootstrap ("Confidence limits on phylogenies", Evolution 1985) with targets as the characters.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError

__all__ = ["Linkage", "LinkageAgreement", "Tree", "first_order_matrix", "linkage_agreement", "similarity_tree"]

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
        support: (S - 1,) per merge the share in [0, 1] of bootstrap trees that have a cluster of the same leaves;
            None if none were drawn.
    """

    names: tuple[str, ...]
    linkage: NDArray[np.float64]
    order: tuple[str, ...]
    cophenetic: float
    support: NDArray[np.float64] | None = None

    def clusters(self, count: int) -> list[tuple[str, ...]]:
        """The leaves cut into ``count`` clusters, each in drawing order, from left to right."""
        from scipy.cluster.hierarchy import cut_tree

        labels = dict(zip(self.names, cut_tree(self.linkage, count)[:, 0].tolist(), strict=True))
        groups: dict[int, list[str]] = {}
        for name in self.order:
            groups.setdefault(labels[name], []).append(name)
        return [tuple(group) for group in groups.values()]

    @property
    def nodes(self) -> tuple[frozenset[str], ...]:
        """The leaves below each merge, in the order of ``linkage``; the last has all of them."""
        return tuple(frozenset(self.names[leaf] for leaf in leaves) for leaves in _nodes(self.linkage))

    def newick(self) -> str:
        """The tree in Newick format, names quoted, branch lengths in the linkage's distance, support as node labels."""
        count = len(self.names)
        texts = [f"'{name.replace(chr(39), chr(39) * 2)}'" for name in self.names]
        heights = [0.0] * count
        for row, (left, right, height, _) in enumerate(self.linkage):
            label = "" if self.support is None else f"{self.support[row]:.3g}"
            children = (int(left), int(right))
            texts.append("(" + ",".join(f"{texts[c]}:{height - heights[c]:.9g}" for c in children) + ")" + label)
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


def similarity_tree(
    table: TransfersTable,
    linkage: Linkage = "ward",
    logarithm: bool = True,
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> Tree:
    """Clusters the sources by what they transfer to (Euclidean distance between columns).

    Args:
        table: First-order transfers are used; targets that were not measured from every source are left out.
        linkage: How the distance of two clusters is taken.
        logarithm: Compares ratios of affinities; zeros count as the smallest positive affinity of the table.
        bootstrap: Trees that the support of the nodes is counted over, each of as many targets, drawn with
            replacement; 0 leaves support out. 1,000 of 27 tasks take about a second.
        seed: Of the draws; the same seed gives the same support.

    Raises:
        InputError: Fewer than two sources, or no target was measured from all of them.
    """
    from scipy.cluster.hierarchy import cophenet, leaves_list
    from scipy.cluster.hierarchy import linkage as merge
    from scipy.spatial.distance import pdist

    names, features = _features(table, logarithm)
    distances = pdist(features)
    merges = merge(distances, method=linkage, optimal_ordering=True)
    correlation = _correlation(cophenet(merges), distances)
    support = None
    if bootstrap:
        generator = np.random.default_rng(seed)
        counts: Counter[frozenset[int]] = Counter()
        for _ in range(bootstrap):
            drawn = generator.integers(features.shape[1], size=features.shape[1])
            counts.update(_nodes(merge(pdist(features[:, drawn]), method=linkage)))
        support = np.array([counts[leaves] for leaves in _nodes(merges)]) / bootstrap
    return Tree(names, merges, tuple(names[leaf] for leaf in leaves_list(merges)), correlation, support)


@dataclass(frozen=True)
class LinkageAgreement:
    """How one way to build the tree compares.

    Args:
        linkage: How the distance of two clusters is taken.
        logarithm: Of logarithms of the affinities.
        cophenetic: How faithful it is: correlation of distances in the tree with those between its own columns.
        agreement: How alike it is to the default tree: correlation of the distances in both. Both correlations are in
            [-1, 1]; NaN for fewer than three sources.
    """

    linkage: Linkage
    logarithm: bool
    cophenetic: float
    agreement: float


def linkage_agreement(table: TransfersTable) -> list[LinkageAgreement]:
    """Every linkage on logarithmic and on raw columns, set beside the default (Ward on logarithms, the first row).

    Raises:
        InputError: Fewer than two sources, or no target was measured from all of them.
    """
    from scipy.cluster.hierarchy import cophenet

    ways = [(linkage, logarithm) for logarithm in (True, False) for linkage in get_args(Linkage)]
    trees = [similarity_tree(table, linkage, logarithm) for linkage, logarithm in ways]
    default, *_ = distances = [cophenet(tree.linkage) for tree in trees]
    return [
        LinkageAgreement(linkage, logarithm, tree.cophenetic, _correlation(default, other))
        for (linkage, logarithm), tree, other in zip(ways, trees, distances, strict=True)
    ]


def _features(table: TransfersTable, logarithm: bool) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The S sources and what describes them: (S, T) affinities to the targets that were measured from all of them."""
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
    return sources, np.ascontiguousarray(complete.T)


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Pearson's r; NaN where one of both does not vary."""
    if min(np.ptp(left), np.ptp(right)) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])


def _nodes(merges: NDArray[np.float64]) -> Sequence[frozenset[int]]:
    """The leaves below each merge."""
    nodes = [frozenset([leaf]) for leaf in range(len(merges) + 1)]
    for left, right in merges[:, :2].astype(int):
        nodes.append(nodes[left] | nodes[right])
    return nodes[len(merges) + 1 :]
