"""Approximations, relationships, idle networks and random groupings on small tables, by hand and by brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_taskonomy.affinity import Transfer, TransfersTable
from lightning_taskonomy.affinity.groupings import (
    GroupingsTable,
    Network,
    agreement,
    early_correlation,
    higher_order,
    idle,
    max_ratio_error,
    overestimate,
    random_groupings,
    relationships,
    serving,
    transfer_affinity,
)
from lightning_taskonomy.errors import InputError

HAND = GroupingsTable(
    ("a", "b", "c"),
    (
        Network(("a",), 0.5, (2.0,)),
        Network(("b",), 0.5, (4.0,)),
        Network(("c",), 0.5, (10.0,)),
        Network(("a", "b"), 1.0, (1.0, 5.0)),
        Network(("a", "c"), 1.0, (3.0, 8.0)),
        Network(("b", "c"), 1.0, (4.0, 6.0)),
        Network(("a", "b", "c"), 1.0, (4.0, 9.0, 7.0)),
    ),
)


def complete(seed, tasks=4, halves=True):
    """Every group of some tasks at cost 1, single tasks at 0.5 too; random losses."""
    generator = np.random.default_rng(seed)
    names = tuple("abcdefgh"[:tasks])
    groups = [group for size in range(1, tasks + 1) for group in itertools.combinations(names, size)]
    keys = [((name,), 0.5) for name in names if halves] + [(group, 1.0) for group in groups]
    return GroupingsTable(
        names, tuple(Network(group, cost, tuple(generator.uniform(0.1, 1, len(group)))) for group, cost in keys)
    )


def test_a_group_of_three_by_hand():
    predicted = higher_order(HAND)
    assert predicted.networks[:6] == HAND.networks[:6]
    assert predicted.networks[6] == Network(("a", "b", "c"), 1.0, (2.0, 4.5, 7.0))
    assert max_ratio_error(predicted, HAND) == pytest.approx((4 / 2 + 9 / 4.5 + 7 / 7) / 3 - 1)
    assert overestimate(predicted, HAND) == pytest.approx((4 / 2 + 9 / 4.5 + 7 / 7) / 3 - 1)
    worse = GroupingsTable(HAND.tasks, (*HAND.networks[:6], Network(("a", "b", "c"), 1.0, (1.0, 9.0, 7.0))))
    assert max_ratio_error(predicted, worse) == pytest.approx((2 / 1 + 9 / 4.5 + 1) / 3 - 1)
    assert overestimate(predicted, worse) == pytest.approx((1 / 2 + 9 / 4.5 + 1) / 3 - 1)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), tasks=st.integers(3, 6))
def test_every_group_is_the_mean_of_its_pairs(seed, tasks):
    table = complete(seed, tasks)
    losses = {(network.tasks, task): network.loss(task) for network in table.networks for task in network.tasks}
    for network in higher_order(table).networks:
        for task in network.tasks:
            if len(network.tasks) < 3:
                expected = table.by_key[network.key].loss(task)
            else:
                others = [other for other in network.tasks if other != task]
                expected = np.mean([losses[tuple(sorted((task, other))), task] for other in others])
            assert network.loss(task) == pytest.approx(expected, rel=1e-12)


def test_groups_that_were_never_trained_are_predicted_from_pairs():
    table = complete(3)
    pairs = GroupingsTable(table.tasks, tuple(n for n in table.networks if len(n.tasks) < 3))
    assert set(higher_order(pairs, 1.0).networks) == set(higher_order(table).networks)
    assert higher_order(pairs) == pairs
    assert higher_order(table, 1.0) == higher_order(table)


def test_a_pair_of_the_nearest_cost_predicts():
    networks = [*HAND.networks, Network(("a", "b"), 2.0, (9.0, 9.0)), Network(("a", "b", "c"), 1.9, (1.0, 1.0, 1.0))]
    predicted = higher_order(GroupingsTable(HAND.tasks, tuple(networks)))
    assert predicted.networks[6].losses == (2.0, 4.5, 7.0)
    assert predicted.networks[8].losses == ((9 + 3) / 2, (9 + 4) / 2, (8 + 6) / 2)


def test_approximations_that_cannot_be_made():
    with pytest.raises(InputError, match=r"needs a network of a\+b: measure it"):
        higher_order(GroupingsTable(HAND.tasks, tuple(n for n in HAND.networks if n.tasks != ("a", "b"))))
    pairs = GroupingsTable(HAND.tasks, HAND.networks[:6])
    with pytest.raises(InputError, match="three or more tasks"):
        max_ratio_error(pairs, pairs)
    zero = GroupingsTable(HAND.tasks, (Network(("a", "b", "c"), 1.0, (0.0, 9.0, 7.0)),))
    with pytest.raises(InputError, match="above 0"):
        overestimate(HAND, zero)


@settings(max_examples=15)
@given(first=st.integers(0, 10**6), second=st.integers(0, 10**6))
def test_early_losses_correlate_as_scipy_says(first, second):
    early, final = complete(first), complete(second, halves=False)
    means = [[np.mean(n.losses) for n in t.networks if n.cost == 1] for t in (early, final)]
    assert early_correlation(early, final) == pytest.approx(stats.pearsonr(*means).statistic, abs=1e-12)


def test_a_correlation_needs_something_to_correlate():
    one = GroupingsTable(("a",), (Network(("a",), 1.0, (1.0,)), Network(("a",), 2.0, (1.0,))))
    with pytest.raises(InputError, match="different losses"):
        early_correlation(one, one)
    two = GroupingsTable(("a",), (Network(("a",), 1.0, (1.0,)), Network(("a",), 3.0, (2.0,))))
    with pytest.raises(InputError, match="two networks in common"):
        early_correlation(one, two)


def test_the_relationship_table_by_hand():
    relations = relationships(HAND)
    nan = np.nan
    np.testing.assert_allclose(relations.change, [[nan, -25, 20], [50, nan, 40], [-50, 0, nan]])
    np.testing.assert_allclose(relations.symmetric, [[nan, 12.5, -15], [12.5, nan, 20], [-15, 20, nan]])
    np.testing.assert_allclose(relations.as_partner, [-2.5, 45, -25])
    np.testing.assert_allclose(relations.with_partner, [0, -12.5, 30])
    partial = relationships(GroupingsTable(HAND.tasks, HAND.networks[:4]))
    np.testing.assert_allclose(partial.as_partner, [-25, 50, nan])


def test_relationships_need_their_networks():
    with pytest.raises(InputError, match=r"'a' has no single-task network of cost 1 with .* at costs: 0.5"):
        relationships(HAND, single_cost=1.0)
    with pytest.raises(InputError, match="no network of two tasks has cost 2"):
        relationships(HAND, pair_cost=2.0)


def transfers(affinities):
    """First-order transfers from (source, target) to affinity, and things that do not count."""
    rows = [Transfer(target, 1, (source,), "transfer", value) for (source, target), value in affinities.items()]
    rows += [Transfer("x", 2, ("y", "z"), "transfer", 9.0), Transfer("x", 1, ("x",), "task_specific", 9.0)]
    return TransfersTable(tuple(rows))


def test_transfer_affinity_is_the_mean_of_both_directions():
    table = transfers({("x", "y"): 1.0, ("y", "x"): 3.0, ("y", "z"): 5.0, ("z", "y"): 6.0, ("x", "z"): 7.0})
    nan = np.nan
    affinity = transfer_affinity(table, ("a", "y", "z"), {"a": "x"})
    np.testing.assert_array_equal(affinity, [[nan, 2, nan], [2, nan, 5.5], [nan, 5.5, nan]])
    for tasks, names, message in (
        (("y", "z"), {"b": "x"}, "'b' is unknown"),
        (("y", "zz"), {}, "'zz' is not a target of the transfers; did you mean 'z'"),
        (("y", "z"), {"y": "z"}, "two tasks are called 'z'"),
    ):
        with pytest.raises(InputError, match=message):
            transfer_affinity(table, tasks, names)


def test_agreement_counts_each_pair_once_and_leaves_out_what_it_should():
    relations = relationships(complete(0, 5))
    other = relationships(complete(1, 5)).symmetric
    names = relations.tasks
    pairs = [(i, j) for i, j in itertools.combinations(range(5), 2) if (i, j) != (1, 3)]
    left, right = ([values[pair] for pair in pairs] for values in (relations.symmetric, other))
    result = agreement(relations, other, [(names[3], names[1])])
    assert result.pairs == 9
    assert result.pearson == pytest.approx(np.corrcoef(left, right)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (left, right)]
    assert result.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    t = result.pearson * math.sqrt(7 / (1 - result.pearson**2))
    assert result.pearson_p == pytest.approx(2 * stats.t.sf(abs(t), 7))
    assert agreement(relations, relations.symmetric).spearman == pytest.approx(1)
    with pytest.raises(InputError, match="'q' is unknown"):
        agreement(relations, other, [("q", "a")])
    with pytest.raises(InputError, match="1 pairs have both measures"):
        agreement(relationships(GroupingsTable(HAND.tasks, HAND.networks[:4])), other[:3, :3])


def test_who_serves_and_who_is_idle():
    one, two, three = Network(("a", "b"), 1.0, (1.0, 5.0)), Network(("a",), 0.5, (1.0,)), Network(("b",), 0.5, (4.0,))
    assert serving([one, two, three]) == {"a": 0, "b": 2}
    assert idle([one, two, three]) == (two,)
    assert idle([two, one, three]) == (one,)
    assert idle([one]) == ()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_idle_networks_change_nothing(seed):
    chosen = complete(seed).networks[:: 2 + seed % 3]
    kept = [network for network in chosen if network not in idle(chosen)]

    def best(networks):
        return {task: min(n.loss(task) for n in networks if task in n.tasks) for n in networks for task in n.tasks}

    assert best(kept) == best(chosen)
    assert all(best([n for n in kept if n is not out]) != best(kept) for out in kept)


def feasible(table, budget):
    """Totals of every set that spends the budget and serves every task, rounded."""
    totals = set()
    for size in range(1, len(table.networks) + 1):
        for chosen in itertools.combinations(table.networks, size):
            left = budget - sum(network.cost for network in chosen)
            if left < 0 or any(network.cost <= left for network in table.networks if network not in chosen):
                continue
            losses = [[n.loss(t) for n in chosen if t in n.tasks] for t in table.tasks]
            if all(losses):
                totals.add(round(sum(map(min, losses)), 9))
    return totals


@pytest.mark.parametrize("budget", [1, 1.5, 2.5])
def test_random_groupings_are_those_that_spend_the_budget(budget):
    table = complete(7, 3)
    totals = random_groupings(table, budget, count=2000, seed=1).sum(axis=1)
    assert totals.shape == (2000,)
    assert set(totals.round(9)) == feasible(table, budget)


def test_random_groupings_come_in_uniform_order():
    """Of three networks one fits; the one that leaves a task out does not count, the others are as likely."""
    table = GroupingsTable(
        ("a", "c"),
        (Network(("a", "c"), 1.0, (1.0, 0.0)), Network(("a", "c"), 1.1, (2.0, 0.0)), Network(("a",), 0.9, (0.0,))),
    )
    totals = random_groupings(table, 1.1, count=6000, seed=0).sum(axis=1)
    assert abs(np.mean(totals == 1) - 0.5) < 4 * math.sqrt(0.25 / 6000)
    assert np.all(np.isin(totals, [1, 2]))


def test_random_groupings_repeat_by_seed_and_know_what_cannot_be():
    table = complete(0)
    np.testing.assert_array_equal(
        random_groupings(table, 2, count=50, seed=3), random_groupings(table, 2, count=50, seed=3)
    )
    assert not np.array_equal(random_groupings(table, 2, count=50), random_groupings(table, 2, count=50, seed=3))
    with pytest.raises(InputError, match=r"budget 0\.5: random groupings hardly ever serve every task"):
        random_groupings(table, 0.5, count=3)
    with pytest.raises(InputError, match="count 0"):
        random_groupings(table, 2, count=0)


def test_costs_that_sum_to_the_budget_in_decimals_fit():
    tasks = tuple("abcdefghij")
    table = GroupingsTable(tasks, tuple(Network((task,), 0.1, (1.0,)) for task in tasks))
    assert random_groupings(table, 1.0, count=5).tolist() == [[1.0] * 10] * 5
