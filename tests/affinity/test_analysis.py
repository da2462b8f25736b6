"""The beam rule, random taxonomies, stability and the similarity tree."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from lightning_taskonomy.affinity import Transfer, TransfersTable, candidates
from lightning_taskonomy.affinity.significance import band, p_value, random_taxonomies
from lightning_taskonomy.affinity.stability import affinity_agreement, policy_agreement, rank_correlation
from lightning_taskonomy.affinity.tree import similarity_tree
from lightning_taskonomy.errors import InputError

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskonomy/transfers_16k.csv"
needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason=f"the published measurements are not at {PUBLISHED}"
)


def table(affinity, names=None):
    """First-order transfers of a (targets, sources) matrix; win rates follow from it."""
    names = names or [f"s{index}" for index in range(affinity.shape[1])]
    return TransfersTable(
        tuple(
            Transfer(names[t], 1, (names[s],), "transfer", float(affinity[t, s]), float(affinity[t, s]) / 2, 0.5)
            for t, s in np.ndindex(affinity.shape)
        )
    )


def test_beam_takes_all_combinations_of_the_five_best_up_to_order_five():
    first_order = dict(zip("abcdefgh", [0.1, 0.8, 0.3, 0.3, 0.9, 0.2, 0.3, 0.05], strict=True))
    best = ["e", "b", "c", "d", "g"]
    assert {name for (name,) in candidates(first_order, 1)} == set("abcdefgh")
    for order in (2, 3, 4, 5):
        expected = {tuple(sorted(chosen)) for chosen in itertools.combinations(best, order)}
        found = candidates(first_order, order)
        assert set(found) == expected
        assert len(found) == len(expected)
    assert candidates(first_order, 2)[0] == ("b", "e")
    assert candidates(first_order, 6) == [tuple(sorted([*best, "f"]))]
    assert candidates(first_order, 9) == []
    assert candidates(dict(reversed(first_order.items())), 3) == candidates(first_order, 3)


def test_beam_of_few_sources_and_wrong_input():
    assert candidates({"a": 1.0, "b": 0.5}, 2) == [("a", "b")]
    assert candidates({"a": 1.0}, 2) == []
    with pytest.raises(InputError, match="'a' has no first-order"):
        candidates({"a": float("nan")}, 1)
    with pytest.raises(InputError, match="order 0"):
        candidates({"a": 1.0}, 0)


def test_random_taxonomies_have_the_mean_of_uniform_draws_and_their_seed():
    affinity = np.random.default_rng(0).random((4, 5))
    drawn = random_taxonomies(table(affinity), 2, count=4000, seed=1)
    # given the sources, each of them is as likely; over draws of sources, every transfer is as likely as any other
    assert drawn.objective.mean() == pytest.approx(affinity.mean(axis=1).sum(), abs=0.03)
    assert drawn.quality.mean() == pytest.approx(affinity.mean() / 2, abs=0.01)
    np.testing.assert_array_equal(drawn.gain, 0.5)
    again = random_taxonomies(table(affinity), 2, count=4000, seed=1)
    np.testing.assert_array_equal(drawn.objective, again.objective)
    assert not np.array_equal(drawn.objective, random_taxonomies(table(affinity), 2, count=4000, seed=2).objective)


def test_random_taxonomies_are_feasible():
    rows = (
        Transfer("a", 1, ("s",), "transfer", 1.0),
        Transfer("a", 2, ("s", "t"), "transfer", 10.0),
        Transfer("b", 1, ("t",), "transfer", 100.0),
    )
    drawn = random_taxonomies(TransfersTable(rows), 2, max_order=2, count=200)
    assert set(drawn.objective) == {101.0, 110.0}
    assert np.isnan(drawn.gain).all()
    with pytest.raises(InputError, match="budget 1: random sources hardly ever"):
        random_taxonomies(TransfersTable(rows), 1, count=5)
    with pytest.raises(InputError, match="at least 1"):
        random_taxonomies(TransfersTable(rows), 0)


def test_band_and_p_value():
    assert band(range(101)) == (5, 50, 95)
    assert p_value(99.0, range(99)) == 0.01
    assert p_value(50, range(99)) == (1 + 49) / 100


def test_rank_correlation_is_scipys():
    generator = np.random.default_rng(0)
    ours, theirs = generator.integers(0, 5, (2, 20))
    names = [f"n{index}" for index in range(20)]
    found = rank_correlation(dict(zip(names, ours, strict=True)), dict(zip(names, theirs, strict=True)) | {"x": 1.0})
    assert found == pytest.approx(scipy.stats.spearmanr(ours, theirs).statistic)
    assert rank_correlation({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}) is None
    assert rank_correlation({"a": 1.0}, {"a": 1.0}) is None


def test_agreement_of_two_tables():
    affinity = np.random.default_rng(0).random((3, 6))
    same = affinity_agreement(table(affinity), table(affinity * [[1], [0.5], [0.25]]))
    assert same.mean_spearman == pytest.approx(1)
    assert same.frobenius == pytest.approx(0, abs=1e-12)
    assert same.transfers == 18
    other = affinity_agreement(table(affinity), table(1 - affinity))
    assert other.mean_spearman == pytest.approx(-1)
    assert other.frobenius > 0.5
    with pytest.raises(InputError, match="no transfer in common"):
        affinity_agreement(table(affinity), table(affinity, names=list("uvwxyz")))


def test_agreement_of_two_policies():
    ours = {name: Transfer(name, 2, ("s", "t"), "transfer", 0.1) for name in "ab"}
    theirs = {
        "a": Transfer("a", 2, ("t", "s"), "transfer", 0.2),
        "b": Transfer("b", 1, ("t",), "transfer", 0.2),
        "c": Transfer("c", 1, ("t",), "transfer", 0.2),
    }
    assert policy_agreement(ours, theirs) == 0.5
    assert policy_agreement({}, theirs) is None


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


@needs_published
def test_published_families_lie_apart():
    tree = similarity_tree(TransfersTable.read(PUBLISHED))
    three_d = {"curvature", "edge3d", "keypoint3d", "reshade", "rgb2depth", "rgb2mist", "rgb2sfnorm", "segment25d"}
    two_d = {"autoencoder", "colorization", "denoise", "impainting_whole", "keypoint2d", "segment2d"}
    clusters = [set(group) for group in tree.clusters(4)]
    assert three_d in clusters
    assert two_d in clusters


def test_analysis_loads_without_torch():
    script = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'pandas'): sys.modules[name] = None\n"
        "from lightning_taskonomy.affinity import gains, significance, stability, tree\n"
        "import lightning_taskonomy.solvers\n"
        "assert 'mip' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
