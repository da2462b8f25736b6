"""Kendall's tau of what influences gains, and its bootstrap intervals."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from lightning_taskonomy.affinity.chains import rank_correlation
from lightning_taskonomy.errors import InputError


def chains(seed, targets, sources, slope=0.0, step=1.0):
    """Gains that fall by the slope with a value; both in steps, so that there are ties."""
    generator = np.random.default_rng(seed)
    names = [(f"t{t}", f"s{s}") for t in range(targets) for s in range(sources)]
    values = generator.normal(size=len(names))
    gains = generator.normal(size=len(names)) - slope * values
    return [dict(zip(names, (np.round(each / step) * step).tolist(), strict=True)) for each in (gains, values)]


@pytest.mark.parametrize("step", [1.0, 0.2, 1e-6])
def test_tau_is_that_of_scipy(step):
    gains, values = chains(0, 5, 7, slope=1.0, step=step)
    result = rank_correlation(gains, values)
    assert result.pooled == pytest.approx(kendalltau(list(gains.values()), list(values.values())).statistic)
    for target, tau in result.targets.items():
        pairs = [(gains[chain], values[chain]) for chain in gains if chain[0] == target]
        assert tau == pytest.approx(kendalltau(*zip(*pairs, strict=True)).statistic)
    assert result.per_target == pytest.approx(np.mean(list(result.targets.values())))
    turned = rank_correlation(gains, values, lower_is_better=True)
    assert turned.pooled == pytest.approx(-result.pooled) and turned.per_target == pytest.approx(-result.per_target)


def test_the_interval_is_that_of_drawing_targets_with_replacement():
    gains, values = chains(1, 4, 5, slope=1.0, step=0.5)
    result = rank_correlation(gains, values, draws=300, level=0.9, seed=7)
    picks = np.random.default_rng(7).multinomial(4, np.full(4, 0.25), 300)
    pooled, means = [], []
    for weights in picks:
        names = [f"t{t}" for t, weight in enumerate(weights) for _ in range(weight)]
        drawn = [(gains[chain], values[chain]) for name in names for chain in gains if chain[0] == name]
        pooled.append(kendalltau(*zip(*drawn, strict=True)).statistic)
        means.append(np.mean([result.targets[name] for name in names]))
    assert result.pooled_interval == pytest.approx(np.percentile(pooled, [5, 95]))
    assert result.per_target_interval == pytest.approx(np.percentile(means, [5, 95]))


def test_intervals_cover_what_many_targets_show():
    gains, values = chains(2, 400, 6, slope=0.7, step=1e-9)
    truth = rank_correlation(gains, values, draws=1).pooled
    covered = []
    for seed in range(50):
        result = rank_correlation(*chains(100 + seed, 15, 6, slope=0.7, step=1e-9), draws=200)
        low, high = result.pooled_interval
        covered.append(low <= truth <= high)
    assert np.mean(covered) > 0.85  # percentiles of 15 targets are a little narrow


def test_what_has_no_order_has_no_tau():
    assert rank_correlation({}, {}).pooled is None
    same = rank_correlation({("a", "x"): 1.0, ("a", "y"): 2.0}, {("a", "x"): 3.0, ("a", "y"): 3.0})
    assert (same.pooled, same.per_target, same.targets, same.count) == (None, None, {}, 2)
    one = rank_correlation({("a", "x"): 1.0, ("a", "y"): 2.0, ("a", "z"): 2.0}, {("a", "x"): 3.0, ("a", "y"): 4.0})
    assert (one.pooled, one.pooled_interval, one.count) == (1.0, None, 2)
    lone = rank_correlation({("a", "x"): 1.0, ("b", "x"): 2.0}, {("a", "x"): 1.0, ("b", "x"): 2.0})
    assert (lone.pooled, lone.per_target) == (1.0, None)
    with pytest.raises(InputError, match="draws 0"):
        rank_correlation({}, {}, draws=0)
