"""Transitive against direct transfers, with SciPy's interval as the reference."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lightning_taskonomy.affinity.transitive import compare_detour
from lightning_taskonomy.errors import InputError


@pytest.mark.parametrize(("wins", "images"), [(0, 5), (5, 5), (40, 100), (520, 1000), (1, 1)])
def test_interval_is_scipys(wins, images):
    transitive = np.where(np.arange(images) < wins, 0.0, 2.0).astype(np.float32)
    detour = compare_detour(transitive, np.ones(images, np.float32))
    expected = binomtest(wins, images).proportion_ci(0.95, method="wilson")
    assert detour.images == images
    assert detour.win_rate == wins / images
    assert detour.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert detour.is_equal == (expected.low <= 0.5 <= expected.high)
    assert detour.gain is detour.direct_gain is None


def test_gains_are_win_rates_against_scratch_over_valid_images():
    nan = np.nan
    detour = compare_detour([1, 1, 1, nan, 3], [2, 1, nan, 0, 0], [3, 0, 1, 1, nan])
    assert detour.images == 3
    assert detour.win_rate == pytest.approx(1.5 / 3)  # better, equal, worse
    assert detour.gain == pytest.approx(1.5 / 3)
    assert detour.direct_gain == pytest.approx(2 / 3)
    assert detour.is_equal


def test_equally_good_transfers_are_told_apart_from_a_better_one():
    generator = np.random.default_rng(0)
    direct, transitive = generator.random((2, 2000), dtype=np.float32)
    assert compare_detour(transitive, direct).is_equal
    assert not compare_detour(transitive - np.float32(0.1), direct).is_equal


def test_without_a_common_image_nothing_is_known():
    detour = compare_detour([1, np.nan], [np.nan, 1], [np.nan, np.nan])
    assert (detour.images, detour.interval, detour.gain) == (0, (0, 1), None)
    assert np.isnan(detour.win_rate)
    assert detour.is_equal


def test_scores_of_other_images_are_refused():
    with pytest.raises(InputError, match="cannot be compared"):
        compare_detour(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="cannot be compared"):
        compare_detour(np.zeros(3), np.zeros(3), np.zeros(4))
