"""Random taxonomies against all that there are, and the published taxonomy against them."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.significance import band, p_value, random_taxonomies
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import TaxonomySolver

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


def probabilities(rows, budget):
    """Of every taxonomy: feasible sets of sources are as likely as each other, and so are a target's transfers."""
    names = sorted({name for row in rows for name in row.sources})
    targets = sorted({row.target for row in rows})
    feasible = []
    for chosen in itertools.combinations(names, budget):
        options = [[row for row in rows if row.target == target and {*row.sources} <= {*chosen}] for target in targets]
        if all(options):
            feasible.append(options)
    counts = Counter()
    for options in feasible:
        for policy in itertools.product(*options):
            counts[round(sum(row.affinity for row in policy), 6)] += 1 / len(feasible) / np.prod([*map(len, options)])
    return counts


@pytest.mark.parametrize("budget", [2, 3])
def test_each_taxonomy_is_as_likely_as_the_paper_says(budget):
    rows = [
        Transfer("a", 1, ("s",), "transfer", 1.0),
        Transfer("a", 1, ("t",), "transfer", 2.0),
        Transfer("a", 2, ("s", "t"), "transfer", 4.0),
        Transfer("a", 1, ("a",), "task_specific", 8.0),
        Transfer("b", 1, ("t",), "transfer", 16.0),
        Transfer("b", 2, ("t", "u"), "transfer", 32.0),
        Transfer("b", 1, ("a",), "transfer", 64.0),
    ]
    expected = probabilities(rows, budget)
    count = 20_000
    drawn = random_taxonomies(TransfersTable(tuple(rows)), budget, max_order=2, count=count, seed=3)
    counts = Counter(np.round(drawn.objective, 6).tolist())
    assert set(counts) == set(expected)
    for value, share in expected.items():
        assert counts[value] / count == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / count))


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


@pytest.mark.parametrize("budgets", [[4, 20], pytest.param(range(4, 21), marks=pytest.mark.slow)])
@needs_published
def test_published_taxonomies_are_better_than_every_random_one(budgets):
    table = TransfersTable.read(PUBLISHED)
    for budget in budgets:
        ours = TaxonomySolver(budget=budget, max_order=4).solve(table)
        drawn = random_taxonomies(table, budget, max_order=4, count=1000, seed=budget)
        assert ours.mean_gain > drawn.gain.max()
        assert ours.mean_quality > drawn.quality.max()
        assert p_value(ours.objective, drawn.objective) == 1 / 1001
