"""From per-image scores to rows, and what a policy is worth."""

import numpy as np
import pytest

from lightning_taskonomy.affinity import NetworkScores, Transfer, ahp, measure_target, tournament
from lightning_taskonomy.affinity.gains import policy_outcome
from lightning_taskonomy.errors import InputError


def networks(seed=0, images=200):
    generator = np.random.default_rng(seed)

    def scores(level):
        return (generator.random(images) + level).astype(np.float32)

    return {
        "own": NetworkScores(("depth",), "task_specific", scores(0.0)),
        "a": NetworkScores(("a",), "transfer", scores(0.1)),
        "b": NetworkScores(("b",), "transfer", scores(0.4)),
        "a+b": NetworkScores(("a", "b"), "transfer", scores(0.05)),
        "zero": NetworkScores((), "scratch", scores(0.3)),
    }


def test_one_tournament_over_all_orders_and_the_task_specific_network():
    measured = networks()
    rows = measure_target("depth", measured)
    rivals = np.stack([network.scores for network in measured.values()][:4])
    np.testing.assert_allclose([row.affinity for row in rows[:4]], ahp(tournament(rivals)))
    assert sum(row.affinity for row in rows[:4]) == pytest.approx(1)
    assert [row.order for row in rows] == [1, 1, 1, 2, 0]
    assert rows[4].affinity is None
    assert rows[4].win_rate_vs_scratch == rows[0].win_rate_vs_task_specific == 0.5
    for row, network in zip(rows, measured.values(), strict=True):
        assert row.win_rate_vs_scratch == pytest.approx(
            np.mean(network.scores < measured["zero"].scores) + 0.5 * np.mean(network.scores == measured["zero"].scores)
        )


def test_scratch_does_not_move_affinities():
    measured = networks()
    without = {name: network for name, network in measured.items() if name != "zero"}
    first, second = measure_target("depth", measured), measure_target("depth", without)
    assert [row.affinity for row in first[:4]] == [row.affinity for row in second]
    assert {row.win_rate_vs_scratch for row in second} == {None}


def test_a_network_without_a_valid_score_is_unmeasured():
    measured = networks() | {"c": NetworkScores(("c",), "transfer", np.full(200, np.nan, dtype=np.float32))}
    rows = {row.sources: row for row in measure_target("depth", measured) if row.kind == "transfer"}
    assert rows["c",].affinity is rows["c",].win_rate_vs_scratch is None
    assert rows["a",].affinity is not None


def test_networks_without_a_common_image_count_as_equal():
    left, right = np.full(4, np.nan, dtype=np.float32), np.full(4, np.nan, dtype=np.float32)
    left[:2], right[2:] = 1, 2
    rows = measure_target(
        "t", {"a": NetworkScores(("a",), "transfer", left), "b": NetworkScores(("b",), "transfer", right)}
    )
    assert [row.affinity for row in rows] == pytest.approx([0.5, 0.5])


def test_better_scores_never_lower_an_affinity():
    measured = networks(1)
    before = measure_target("depth", measured)[2].affinity
    better = measured | {"b": NetworkScores(("b",), "transfer", measured["b"].scores - 0.2)}
    assert measure_target("depth", better)[2].affinity > before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": NetworkScores(("b",), "transfer", np.zeros(3, dtype=np.float32))}, r"'b' has scores of shape \(3,\)"),
        ({"b": NetworkScores(("b",), "transfer", np.full(200, np.inf, dtype=np.float32))}, "'b' has infinite scores"),
        ({"b": NetworkScores((), "scratch", np.zeros(200, dtype=np.float32))}, "2 networks of kind scratch"),
        ({"b": NetworkScores((), "transfer", np.zeros(200, dtype=np.float32))}, "without sources"),
    ],
)
def test_wrong_scores_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        measure_target("depth", networks() | change)


def test_gain_and_quality_are_judged_on_the_images_given():
    other = networks(7, images=50)
    transfer = Transfer("depth", 2, ("b", "a"), "transfer", 0.3)
    outcome = policy_outcome({"depth": transfer}, {"depth": other})
    assert outcome.mean_gain == outcome.gain["depth"] == np.mean(other["a+b"].scores < other["zero"].scores)
    assert outcome.mean_quality == outcome.quality["depth"] == np.mean(other["a+b"].scores < other["own"].scores)
    del other["own"]
    assert policy_outcome({"depth": transfer}, {"depth": other}).mean_quality is None
    with pytest.raises(InputError, match="has no scores"):
        policy_outcome({"depth": Transfer("depth", 1, ("c",), "transfer", 0.3)}, {"depth": other})
