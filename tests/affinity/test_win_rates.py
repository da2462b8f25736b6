"""Win rates against a loop over images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_taskonomy.affinity import tournament, win_rate
from lightning_taskonomy.errors import InputError


def by_loop(ours, theirs):
    wins, both = 0.0, 0
    for a, b in zip(ours, theirs, strict=True):
        if not (np.isnan(a) or np.isnan(b)):
            both += 1
            wins += 1.0 if a < b else 0.5 if a == b else 0.0
    return wins / both if both else np.nan


def scores_with_holes_and_ties(seed, count=7, images=60):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, (count, images)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.3] = np.nan
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_tournament_is_the_loop(seed):
    scores = scores_with_holes_and_ties(seed)
    expected = np.array([[by_loop(a, b) for b in scores] for a in scores])
    np.testing.assert_allclose(tournament(scores), expected, rtol=0, atol=1e-15)
    assert win_rate(scores[0], scores[1]) == pytest.approx(expected[0, 1], abs=1e-15)


@pytest.mark.parametrize("images", [1, 15, 2047, 2048, 2049, 5000])
def test_blocks_of_images_add_up(images):
    generator = np.random.default_rng(images)
    scores = generator.integers(0, 9, (5, images)).astype(np.float32)
    scores[generator.random(scores.shape) < 0.2] = np.nan
    ours, theirs = scores[:, None], scores[None]
    both = (~np.isnan(ours) & ~np.isnan(theirs)).sum(axis=2)
    wins = (ours < theirs).sum(axis=2) + 0.5 * (ours == theirs).sum(axis=2)
    expected = np.divide(wins, both, out=np.full((5, 5), np.nan), where=both > 0)
    np.testing.assert_array_equal(tournament(scores), expected)


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([-0.0, 0.0, 1e-45, -3e38, 3e38, np.nan]) | st.floats(width=32),
    )
)
def test_any_scores_are_compared_as_the_loop_does(scores):
    expected = [[by_loop(a, b) for b in scores] for a in scores]
    np.testing.assert_array_equal(tournament(scores), expected)


def test_scores_need_not_lie_side_by_side():
    scores = scores_with_holes_and_ties(3)
    np.testing.assert_array_equal(tournament(np.asfortranarray(scores)), tournament(scores))
    np.testing.assert_array_equal(tournament(np.repeat(scores, 2, axis=0)[::2]), tournament(scores))
    assert tournament(np.empty((0, 5), np.float32)).shape == (0, 0)
    assert np.isnan(tournament(np.empty((2, 0), np.float32))).all()


def test_win_rates_of_a_pair_sum_to_one_and_only_the_order_of_scores_counts():
    scores = scores_with_holes_and_ties(1)
    rates = tournament(scores)
    np.testing.assert_allclose(rates + rates.T, 1)
    np.testing.assert_allclose(np.diag(rates), 0.5)
    np.testing.assert_array_equal(rates, tournament(np.exp(scores)))


def test_permutation_of_transfers_and_images():
    scores = scores_with_holes_and_ties(2)
    rows, columns = np.random.default_rng(0).permutation(7), np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal(tournament(scores[rows][:, columns]), tournament(scores)[np.ix_(rows, rows)])


def test_without_a_common_image_there_is_no_win_rate():
    scores = np.array([[1, np.nan], [np.nan, 2], [3, 3]], dtype=np.float32)
    rates = tournament(scores)
    assert np.isnan(rates[0, 1])
    assert np.isnan(win_rate(scores[0], scores[1]))
    assert rates[0, 2] == 1


def test_scores_of_different_images_are_refused():
    with pytest.raises(InputError, match="cannot be compared"):
        win_rate(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="not a tournament"):
        tournament(np.zeros(3))
