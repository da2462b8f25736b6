"""The similarity tree: its clusters, the support of its nodes, the alternatives to its linkage."""

from pathlib import Path

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.tree import linkage_agreement, similarity_tree
from lightning_taskonomy.errors import InputError

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}"
)


def table(affinity):
    """First-order transfers of a (targets, sources) matrix."""
    return TransfersTable(
        tuple(
            Transfer(f"t{t}", 1, (f"s{s}",), "transfer", float(affinity[t, s])) for t, s in np.ndindex(affinity.shape)
        )
    )


def noisy_families(seed, noise):
    """Affinities of six targets from families of four, three and two sources."""
    generator = np.random.default_rng(seed)
    families = generator.random((6, 3)).repeat([4, 3, 2], axis=1)
    return families * np.exp(generator.normal(0, noise, families.shape))


FAMILIES = {frozenset(f"s{i}" for i in range(*ends)) for ends in ((0, 4), (4, 7), (7, 9))}


def cut(tree):
    """Every cluster of every cut: the nodes and the leaves."""
    return {frozenset(group) for count in range(1, len(tree.names) + 1) for group in tree.clusters(count)}


def test_tree_puts_alike_sources_together():
    generator = np.random.default_rng(0)
    families = generator.random((6, 3)).repeat([4, 3, 2], axis=1)
    tree = similarity_tree(table(families * np.exp(generator.normal(0, 0.01, families.shape))))
    expected = {frozenset(f"s{i}" for i in range(*ends)) for ends in ((0, 4), (4, 7), (7, 9))}
    assert {frozenset(group) for group in tree.clusters(3)} == expected
    assert sorted(tree.order) == list(tree.names)
    assert tree.cophenetic > 0.9
    assert tree.newick().count("'") == 18
    assert tree.newick().count("(") == tree.newick().count(")") == 8


def test_tree_of_columns_in_another_scale_is_the_same_up_to_its_logarithm():
    affinity = np.random.default_rng(1).random((5, 6)) + 0.1
    first = similarity_tree(table(affinity)).linkage
    np.testing.assert_allclose(first, similarity_tree(table(affinity / np.arange(1, 6)[:, None])).linkage)


def test_tree_without_enough_measurements_is_refused():
    rows = (Transfer("a", 1, ("s",), "transfer", 1.0), Transfer("b", 1, ("t",), "transfer", 1.0))
    with pytest.raises(InputError, match="similarity tree needs"):
        similarity_tree(TransfersTable(rows))


def test_nodes_are_the_clusters_of_all_cuts():
    tree = similarity_tree(table(np.random.default_rng(2).random((5, 9)) + 0.1))
    assert len(tree.nodes) == 8
    assert tree.nodes[-1] == set(tree.names)
    assert {*tree.nodes, *(frozenset([name]) for name in tree.names)} == cut(tree)


def test_families_far_apart_are_in_every_bootstrap_tree():
    tree = similarity_tree(table(noisy_families(0, 1e-4)), bootstrap=200)
    support = dict(zip(tree.nodes, tree.support, strict=True))
    assert {support[family] for family in FAMILIES} == {1.0}
    assert support[frozenset(tree.names)] == 1
    assert tree.newick().endswith(")1;")


@pytest.mark.parametrize("logarithm", [True, False])
def test_support_is_the_share_of_trees_of_resampled_targets(logarithm):
    affinity = noisy_families(1, 1.0)
    tree = similarity_tree(table(affinity), "average", logarithm, bootstrap=30, seed=5)
    generator = np.random.default_rng(5)
    counts = dict.fromkeys(tree.nodes, 0)
    for _ in range(30):
        resampled = similarity_tree(table(affinity[generator.integers(6, size=6)]), "average", logarithm)
        for node in cut(resampled) & set(tree.nodes):
            counts[node] += 1
    np.testing.assert_allclose(tree.support, [counts[node] / 30 for node in tree.nodes])
    assert tree.support.min() < 1


def test_support_has_its_seed_and_leaves_the_tree_alone():
    measured = table(noisy_families(2, 1.0))
    first, again, other = (similarity_tree(measured, bootstrap=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.support, again.support)
    assert not np.array_equal(first.support, other.support)
    plain = similarity_tree(measured)
    assert plain.support is None
    np.testing.assert_array_equal(plain.linkage, first.linkage)


def test_linkages_are_compared_as_scipy_does():
    affinity = np.random.default_rng(3).random((5, 8)) + 0.1
    rows = linkage_agreement(table(affinity))
    assert len({(row.linkage, row.logarithm) for row in rows}) == 8
    assert (rows[0].linkage, rows[0].logarithm) == ("ward", True)
    assert rows[0].agreement == pytest.approx(1)
    default = cophenet(linkage(np.log(affinity).T, "ward"))
    for row in rows:
        distances = pdist((np.log(affinity) if row.logarithm else affinity).T)
        correlation, within = cophenet(linkage(distances, row.linkage), distances)
        assert row.cophenetic == pytest.approx(correlation)
        assert row.agreement == pytest.approx(np.corrcoef(within, default)[0, 1])


def test_two_sources_or_equal_columns_have_no_correlation():
    assert all(np.isnan([row.cophenetic, row.agreement]).all() for row in linkage_agreement(table(np.ones((2, 2)))))
    assert np.isnan(similarity_tree(table(np.ones((2, 4))), bootstrap=3).cophenetic)


THREE_D = {"curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"}
TWO_D = {"autoencoder", "colorization", "denoise", "impainting_whole", "keypoint2d", "segment2d"}
SEMANTIC = {"class_1000", "class_places", "class_selected", "segmentsemantic_rb"}
GEOMETRIC = {
    "ego_motion", "fix_pose", "non_fixated_pose", "point_match", "room_layout", "vanishing_point_well_defined",
}  # fmt: skip


@needs_published
def test_published_families_lie_apart_with_ward_on_logarithms():
    tree = similarity_tree(TransfersTable.read(PUBLISHED), bootstrap=1000)
    rest = SEMANTIC | GEOMETRIC | {"jigsaw", "random"}
    assert sorted(map(sorted, tree.clusters(4))) == sorted(map(sorted, (THREE_D, TWO_D, rest, {"edge2d"})))
    assert [set(group) for group in tree.clusters(3) if THREE_D & set(group)] == [THREE_D]
    support = dict(zip(tree.nodes, tree.support, strict=True))
    documented = [(THREE_D, 0.99), (TWO_D, 0.90), (rest, 0.62), (SEMANTIC, 0.59), (GEOMETRIC | {"jigsaw"}, 0.28)]
    for family, share in documented:
        assert support[frozenset(family)] == pytest.approx(share, abs=0.01)


@needs_published
def test_published_families_do_not_show_with_average_linkage_on_raw_columns():
    nodes = similarity_tree(TransfersTable.read(PUBLISHED), "average", logarithm=False).nodes
    for family in (THREE_D, TWO_D, SEMANTIC | GEOMETRIC | {"jigsaw", "random"}):
        assert family not in nodes


@needs_published
def test_published_linkages_agree_as_documented():
    rows = {(row.linkage, row.logarithm): row for row in linkage_agreement(TransfersTable.read(PUBLISHED))}
    documented = {"ward": (0.86, 1.0), "average": (0.90, 0.96), "complete": (0.86, 0.96), "single": (0.84, 0.84)}
    for name, (cophenetic, agreement) in documented.items():
        assert rows[name, True].cophenetic == pytest.approx(cophenetic, abs=0.005)
        assert rows[name, True].agreement == pytest.approx(agreement, abs=0.005)
        assert rows[name, False].agreement < 0.4
