"""The fitted rule and the recommendation: which source, how sure, what to measure next."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lightning_taskonomy.affinity.chains import (
    PREDICTORS,
    Factors,
    Gain,
    by_inclusion,
    by_rule,
    fit_rule,
    nearest,
    predictors,
    ridge,
    value_of_measuring,
)
from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import read_csv

FACTORS = {
    f"{domain}{number}.{kind}": Factors(
        {"s": "segmentation", "d": "depth"}[kind], (domain,), (f"{domain}{number}",), 100 * 4**number
    )
    for domain in ("indoor", "driving", "aerial")
    for number in range(3)
    for kind in "sd"
}


def measurements(seed=0, noise=1.0, targets=None):
    """Gains that follow a rule: 20 - 3 distance + 4 same type + 2 same domain + log size."""
    generator = np.random.default_rng(seed)
    pairs = [pair for pair in itertools.permutations(FACTORS, 2) if targets is None or pair[0] in targets]
    distances = {pair: float(generator.uniform(1, 9)) for pair in pairs}
    rows = predictors(pairs, FACTORS, distances)
    gains = 20 + rows @ [-3.0, 4.0, 2.0, 1.0] + noise * generator.normal(size=len(pairs))
    return pairs, rows, dict(zip(pairs, gains.tolist(), strict=True)), distances


def test_predictors_of_a_chain():
    row = predictors([("indoor0.s", "indoor1.d")], FACTORS, {("indoor0.s", "indoor1.d"): 2.5})
    np.testing.assert_allclose(row, [[2.5, 0, 1, np.log(400)]])
    assert PREDICTORS == ("distance", "same_task_type", "same_domain", "log_size")
    with pytest.raises(InputError, match=r"distance of 'indoor0\.s' from source 'indoor1\.d' is missing"):
        predictors([("indoor0.s", "indoor1.d")], FACTORS, {})


@pytest.mark.parametrize("strength", [0.0, 0.1, 3.0])
def test_ridge_is_that_of_scikit_learn(strength):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    generator = np.random.default_rng(1)
    rows, gains = generator.normal(size=(30, 4)) * [1, 5, 0.2, 100] + 7, generator.normal(size=30)
    weights = generator.integers(0, 4, (3, 30)).astype(float)
    for w, intercept, slopes in zip(weights, *ridge(rows, gains, weights, strength), strict=True):
        drawn = np.repeat(np.arange(30), w.astype(int))
        mean, scale = rows[drawn].mean(axis=0), rows[drawn].std(axis=0)
        model = linear_model.Ridge(alpha=strength * len(drawn)).fit((rows[drawn] - mean) / scale, gains[drawn])
        np.testing.assert_allclose(slopes, model.coef_ / scale, rtol=1e-6, atol=1e-9)
        assert intercept == pytest.approx(model.predict(-(mean / scale)[None])[0], rel=1e-6)


def test_predictors_that_do_not_vary_or_say_the_same():
    generator = np.random.default_rng(2)
    x = generator.normal(size=(20, 1))
    rows = np.hstack([x, x, np.ones((20, 1)), generator.normal(size=(20, 1))])
    (intercept,), (slopes,) = ridge(rows, 3 + 2 * x[:, 0], np.ones((1, 20)), 0.0)
    np.testing.assert_allclose(slopes, [1, 1, 0, 0], atol=1e-9)
    assert intercept == pytest.approx(3)


def test_a_rule_without_noise_comes_back():
    pairs, rows, gains, _ = measurements(noise=0.0)
    rule = fit_rule(pairs, rows, np.array(list(gains.values())))
    assert rule.strength == 0 and rule.intercept == pytest.approx(20)
    assert list(rule.weights.values()) == pytest.approx([-3, 4, 2, 1])
    assert rule.error == pytest.approx(0, abs=1e-9) and rule.error_of_mean > 5


def test_the_strength_is_the_one_with_the_least_error_on_targets_left_out():
    pairs, rows, gains, _ = measurements(3, noise=30.0)
    pairs, rows, values = pairs[::9], rows[::9], np.array(list(gains.values()))[::9]
    rule = fit_rule(pairs, rows, values)
    errors, mean_errors = {}, []
    for strength in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
        squares = []
        for name in dict.fromkeys(target for target, _ in pairs):
            out = np.array([target == name for target, _ in pairs])
            (intercept,), (slopes,) = ridge(rows[~out], values[~out], np.ones((1, (~out).sum())), strength)
            squares += ((values[out] - intercept - rows[out] @ slopes) ** 2).tolist()
            if strength == 0:
                mean_errors += ((values[out] - values[~out].mean()) ** 2).tolist()
        errors[strength] = np.sqrt(np.mean(squares))
    assert rule.strength == min(errors, key=errors.get) and rule.strength > 0
    assert rule.error == pytest.approx(errors[rule.strength])
    assert rule.error_of_mean == pytest.approx(np.sqrt(np.mean(mean_errors)))


def test_too_few_chains_are_refused():
    pairs, rows, gains, _ = measurements()
    with pytest.raises(InputError, match=r"4 measured chains .* at least 5"):
        fit_rule(pairs[:4], rows[:4], np.array(list(gains.values()))[:4])


def test_the_source_that_includes_the_target_comes_first():
    generator = np.random.default_rng(0)
    target = generator.normal(size=(50, 6))
    sources = {
        "far": generator.normal(size=(60, 6)) + 4,
        "wide": np.concatenate([generator.normal(size=(60, 6)), 50 + generator.normal(size=(200, 6))]),
        "near": generator.normal(size=(60, 6)) + 0.5,
    }
    result = by_inclusion({name: nearest(target, images).target_to_source for name, images in sources.items()})
    assert [candidate.source for candidate in result.candidates] == ["wide", "near", "far"]
    assert sum(candidate.best for candidate in result.candidates) == pytest.approx(1)
    assert result.candidates[-1].best == 0 and result.measure_next == result.candidates[0]


def test_probabilities_of_the_nearest_are_those_of_the_bootstrap_in_closed_form():
    # The mean difference of two sources is about normal: P(nearest) = P(mean of n draws of the differences < 0).
    generator = np.random.default_rng(1)
    ours, theirs = generator.normal(5, 1, 400), generator.normal(5.05, 1, 400)
    difference = ours - theirs
    expected = stats.norm.cdf(-difference.mean() / (difference.std() / 20))
    result = by_inclusion({"ours": ours, "theirs": theirs}, draws=4000)
    assert {c.source: c.best for c in result.candidates}["ours"] == pytest.approx(expected, abs=0.03)
    alike = by_inclusion({"one": ours, "other": ours})
    assert [c.best for c in alike.candidates] == [0.5, 0.5]
    with pytest.raises(InputError, match="give those of the same ones"):
        by_inclusion({"ours": ours, "theirs": theirs[:-1]})


def test_measured_gains_are_as_sure_as_their_standard_errors():
    """Two normal gains: the first is the higher with probability Phi(difference / deviation of the difference)."""
    _, _, gains, distances = measurements(4, noise=3.0)
    target, pair = "indoor0.s", [name for name in FACTORS if name != "indoor0.s"][:2]
    deviations = {(target, pair[0]): 10.0, (target, pair[1]): 7.5}
    result = by_rule(target, pair, gains, FACTORS, distances, deviations=deviations, draws=20_000)
    first, second = result.candidates
    expected = stats.norm.cdf((first.gain - second.gain) / np.hypot(10.0, 7.5))
    assert first.best == pytest.approx(expected, abs=0.015)
    reach = deviations[target, first.source] * stats.norm.ppf(0.95)
    np.testing.assert_allclose(first.interval, (first.gain - reach, first.gain + reach), atol=0.75)
    assert first.measured and second.measured and result.measure_next is None and result.regret > 0
    (sure, _) = by_rule(target, pair, gains, FACTORS, distances).candidates
    assert sure.best == 1 and sure.interval is None


def test_the_standard_error_of_a_gain_is_that_of_its_mean():
    values = [1.0, 2.0, 4.0]
    gain = Gain("t", "s", "small", "miou", np.mean(values), half_width(values), len(values))
    assert gain.standard_error == pytest.approx(stats.sem(values))
    assert Gain("t", "s", "small", "miou", 1.0).standard_error is None


def test_candidates_are_ranked_by_rule_and_measurement(tmp_path):
    _, _, gains, distances = measurements(4, noise=3.0)
    target, others = "indoor0.s", [name for name in FACTORS if name != "indoor0.s"]
    truth = {source: gains[target, source] for source in others}
    best = max(truth, key=truth.get)
    measured = {pair: gain for pair, gain in gains.items() if pair[0] != target}
    result = by_rule(target, others, measured, FACTORS, distances)
    expected = [candidate.gain for candidate in result.candidates]
    assert expected == sorted(expected, reverse=True)
    assert stats.spearmanr([truth[c.source] for c in result.candidates], expected).statistic > 0.9
    inside = [c.interval[0] <= truth[c.source] <= c.interval[1] for c in result.candidates]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.15)
    assert sum(c.best for c in result.candidates) == pytest.approx(1)
    assert {c.source: c for c in result.candidates}[best].best > 0.1
    assert result.regret > 0 and not any(c.measured for c in result.candidates)

    everything = by_rule(
        target, others, measured | {pair: gains[pair] for pair in gains if pair[0] == target}, FACTORS, distances
    )
    assert everything.candidates[0].source == best and everything.candidates[0].best == 1
    assert everything.regret == 0 and everything.measure_next is None

    some = by_rule(target, others, measured | {(target, best): truth[best]}, FACTORS, distances)
    by_name = {c.source: c for c in some.candidates}
    assert by_name[best].measured and by_name[best].gain == truth[best] and by_name[best].teaches is None
    assert some.measure_next.teaches == max(c.teaches for c in some.candidates if not c.measured)
    some.write(tmp_path / "recommendation.csv")
    header, lines = read_csv(tmp_path / "recommendation.csv")
    row = dict(zip(header, lines[[line[1] for line in lines].index(best)], strict=True))
    assert row["measured"] == "1" and float(row["gain"]) == truth[best] and row["teaches"] == ""


def test_probabilities_intervals_and_regret_say_what_happens():
    chance, hit, inside, regret, true_regret = [], [], [], [], []
    sources = [name for name in FACTORS if name != "indoor0.s"]
    for seed in range(40):
        _, _, gains, distances = measurements(seed, noise=4.0)
        generator = np.random.default_rng(seed)
        measured = {  # four sources of each of six targets
            (target, source): gains[target, source]
            for target in generator.choice(sources, 6, replace=False)
            for source in generator.permutation([name for name in FACTORS if name != target])[:4]
        }
        result = by_rule("indoor0.s", sources, measured, FACTORS, distances, draws=200, seed=seed)
        truth = {source: gains["indoor0.s", source] for source in sources}
        first = result.candidates[0]
        chance.append(first.best)
        hit.append(truth[first.source] == max(truth.values()))
        inside += [c.interval[0] <= truth[c.source] <= c.interval[1] for c in result.candidates]
        regret.append(result.regret)
        true_regret.append(max(truth.values()) - truth[first.source])
    assert np.mean(hit) == pytest.approx(np.mean(chance), abs=0.16)  # two standard errors of 40
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
    assert np.mean(true_regret) == pytest.approx(np.mean(regret), rel=0.3)


def test_candidates_without_a_distance_or_named_twice_are_refused():
    _, _, gains, distances = measurements()
    del distances["indoor0.s", "aerial1.s"]
    with pytest.raises(InputError, match=r"from source 'aerial1\.s' is missing"):
        by_rule("indoor0.s", ["aerial1.s"], gains, FACTORS, distances)
    for sources in ([], ["indoor1.s", "indoor1.s"]):
        with pytest.raises(InputError, match="at least one candidate, each once"):
            by_rule("indoor0.s", sources, gains, FACTORS, distances)


def test_value_of_measuring_one_of_two_in_closed_form():
    # Against a gain of 0 that is measured, an expected gain m with deviation s: E max(0, m + s z) - max(0, m).
    for m, s in ((0.0, 1.0), (-1.0, 2.0), (3.0, 2.0)):
        value = value_of_measuring(np.array([0.0, m]), np.diag([0.0, s**2]))
        z = m / s
        assert value == pytest.approx([0, s * stats.norm.pdf(z) + m * stats.norm.cdf(z) - max(0, m)])


def test_value_of_measuring_is_how_far_regret_falls_by_brute_force():
    generator = np.random.default_rng(5)
    root = generator.normal(size=(4, 4))
    mean, covariance = np.array([1.0, 0.5, 0.8, -1.0]), root @ root.T
    half = generator.multivariate_normal(mean, covariance, 100_000)
    worlds = np.concatenate([half, 2 * mean - half])  # mirrored, for less noise
    before = (worlds.max(axis=1) - worlds[:, mean.argmax()]).mean()
    for j, value in enumerate(value_of_measuring(mean, covariance)):
        # Worlds in which the measurement comes out alike: there the candidate that is best on average is taken.
        alike = worlds[worlds[:, j].argsort()].reshape(200, -1, 4)
        choice = alike.mean(axis=1).argmax(axis=1)
        taken = np.take_along_axis(alike, choice[:, None, None], axis=2)[:, :, 0]
        after = (alike.max(axis=2) - taken).mean()
        assert value == pytest.approx(before - after, abs=0.01)
