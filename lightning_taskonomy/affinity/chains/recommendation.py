"""Which source a target should take, how sure that is, and which chain to measure next.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021) recommends sources that include the target's
image domain (section 6, A4 and A10), of the same domain and task type (A7). How to weigh these, and how sure one may
be, is not in the paper.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains.factors import Factors
from lightning_taskonomy.affinity.chains.rule import Rule, fit_rule, predictors, ridge
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_csv

__all__ = ["Candidate", "Recommendation", "by_inclusion", "by_rule", "value_of_measuring"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A source that a target could take.

    Args:
        source: Its name.
        distance: Of the target's images to it, the target's nearest (Eq. (1)).
        best: The probability that it is the best of the candidates: the nearest, or the one with the highest gain.
        gain: The measured or expected gain in percent; None by distance alone.
        interval: The 5th and 95th percentile of the gain; None by distance alone, or where it counts as exact.
        measured: Whether the gain is measured.
        teaches: By how many points of gain the choice gets better on average if this chain is measured before one
            chooses; None by distance alone or where it is measured.
        saw_images: Whether it saw the target's images with labels of another task type (section 5.2).
    """

    source: str
    distance: float
    best: float
    gain: float | None = None
    interval: tuple[float, float] | None = None
    measured: bool = False
    teaches: float | None = None
    saw_images: bool = False


@dataclass(frozen=True)
class Recommendation:
    """The candidates, best first.

    Args:
        candidates: By expected gain, or by distance alone.
        rule: What gains are predicted by; None by distance alone.
        regret: How many points of gain the first candidate falls short of the best one on average; None by distance
            alone.
    """

    candidates: tuple[Candidate, ...]
    rule: Rule | None = None
    regret: float | None = None

    @property
    def measure_next(self) -> Candidate | None:
        """The unmeasured candidate that teaches most; by distance alone the nearest; None where all are measured."""
        if self.rule is None:
            return self.candidates[0]
        unmeasured = [candidate for candidate in self.candidates if not candidate.measured]
        return max(unmeasured, key=lambda candidate: candidate.teaches or 0.0, default=None)

    def marked(self, sources: Collection[str]) -> "Recommendation":
        """The same with these sources marked: they saw the target's images for another task."""
        candidates = tuple(replace(one, saw_images=one.source in sources) for one in self.candidates)
        return replace(self, candidates=candidates)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes a CSV, one candidate a line, atomically; what is None is empty."""
        header = ("rank", "source", "distance", "best", "gain", "low", "high", "measured", "teaches", "saw_images")
        rows = (
            (rank, c.source, c.distance, c.best, c.gain, *(c.interval or (None, None)), int(c.measured), c.teaches,
             int(c.saw_images))
            for rank, c in enumerate(self.candidates, 1)
        )  # fmt: skip
        write_csv(path, header, (["" if cell is None else cell for cell in row] for row in rows))


def by_inclusion(distances: Mapping[str, Array], *, draws: int = 1000, seed: int = 0) -> Recommendation:
    """Ranks sources by domain inclusion alone: the mean distance of a target image to the source's nearest.

    Probabilities are those of being the nearest when the target's images are drawn with replacement. They say how sure
    the order of distances is, not that the nearest source is the best one.

    Args:
        distances: (N,) by source, ``nearest(target, source).target_to_source`` of the same N target images.
        draws: How many bootstrap draws.
        seed: The same seed gives the same probabilities.

    Raises:
        InputError: There is no source, or their numbers of images differ.
    """
    sizes = {len(values) for values in distances.values()}
    if len(sizes) != 1 or not min(sizes):
        raise InputError(
            f"distances of {len(distances)} sources to {sorted(sizes)} images: give those of the same ones"
        )
    matrix = np.stack([np.asarray(values, dtype=np.float64) for values in distances.values()])
    count = matrix.shape[1]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws) / count
    chances, means = _chances(-(drawn @ matrix.T)), matrix.mean(axis=1)
    order = np.argsort(means, kind="stable")
    names = list(distances)
    return Recommendation(tuple(Candidate(names[i], float(means[i]), float(chances[i])) for i in order))


def by_rule(
    target: str,
    sources: Sequence[str],
    gains: Mapping[tuple[str, str], float],
    factors: Mapping[str, Factors],
    distances: Mapping[tuple[str, str], float],
    *,
    deviations: Mapping[tuple[str, str], float] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Recommendation:
    """Ranks sources by measured gains, and by a fitted rule where a chain was not measured.

    A bootstrap draws the measured targets with replacement (chains, where there are fewer than three targets), fits the
    rule to them and adds to each prediction one of the errors that the rule made on what was left out. A measured gain
    is drawn from a normal distribution if its standard error is given, each for itself though all gains of a target
    share its reference; else it counts as exact.

    Args:
        target: The target.
        sources: The candidates.
        gains: All measured gains in percent by (target, source), of this target or others.
        factors: Of all of them.
        distances: By (target, source); measured chains without one do not count for the rule.
        deviations: Standard errors of measured gains over seeds, by (target, source).
        draws: How many bootstrap draws.
        seed: The same seed gives the same answer.

    Raises:
        InputError: There is no candidate, one comes twice or lacks factors or a distance, or too few chains are
            measured.
    """
    if not sources or len(set(sources)) != len(sources):
        raise InputError(f"sources {', '.join(sources) or 'none'}: give at least one candidate, each once")
    chains = [chain for chain in gains if chain in distances]
    rows, measured = predictors(chains, factors, distances), np.array([gains[chain] for chain in chains])
    candidates = [(target, source) for source in sources]
    wanted = predictors(candidates, factors, distances)
    rule = fit_rule(chains, rows, measured)
    known = np.array([chain in gains for chain in candidates])
    mean = np.where(known, [gains.get(chain, 0.0) for chain in candidates], rule.predict(wanted))
    exact = np.array([chain in gains and chain not in (deviations or {}) for chain in candidates])
    spread = np.array([(deviations or {}).get(chain, 0.0) for chain in candidates])
    generator = np.random.default_rng(seed)
    count = int(rule.groups.max()) + 1
    weights = generator.multinomial(count, np.full(count, 1 / count), draws)[:, rule.groups].astype(np.float64)
    intercepts, slopes = ridge(rows, measured, weights, rule.strength)
    errors = rule.residuals - rule.residuals.mean()
    guesses = intercepts[:, None] + slopes @ wanted.T + generator.choice(errors, (draws, len(sources)))
    drawn = np.where(known, mean + spread * generator.standard_normal((draws, len(sources))), guesses)
    chances = _chances(drawn)
    low, high = np.percentile(drawn, [5, 95], axis=0)
    values = value_of_measuring(mean, np.atleast_2d(np.cov(drawn, rowvar=False)))
    order = np.argsort(-mean, kind="stable")
    ranked = tuple(
        Candidate(
            sources[i],
            float(wanted[i, 0]),
            float(chances[i]),
            float(mean[i]),
            None if exact[i] else (float(low[i]), float(high[i])),
            bool(known[i]),
            None if known[i] else float(values[i]),
        )
        for i in order
    )
    return Recommendation(ranked, rule, float((drawn.max(axis=1) - drawn[:, order[0]]).mean()))


def value_of_measuring(mean: Array, covariance: Array) -> Array:
    """How much better a choice gets on average by measuring one candidate first.

    Uncertainty about the best is the expected regret: how far the candidate with the highest expectation falls short of
    the best one. Measuring candidate j leaves the expectations mean + covariance[:, j] / deviation[j] * z, with z
    standard normal, and the highest of them is taken then; on average the regret falls by E max over candidates of
    these minus the highest mean. Exact for normal gains: the upper envelope of lines is integrated piece by piece.
    (In Bayesian optimisation this is the knowledge gradient: Frazier, Powell and Dayanik, 2009.)

    Args:
        mean: (C,) expected gains.
        covariance: (C, C) of the gains; 0 where a gain is exact.

    Returns:
        (C,), at least 0, in the unit of the means.
    """
    from scipy.special import ndtr

    deviations = np.sqrt(np.diagonal(covariance))
    values = np.zeros(len(mean))
    for j in np.flatnonzero(deviations > 0):
        slopes = covariance[:, j] / deviations[j]
        steeper = np.subtract.outer(slopes, slopes)
        crossings = -np.subtract.outer(mean, mean)[steeper > 0] / steeper[steeper > 0]
        ends = np.concatenate([[-np.inf], np.sort(crossings), [np.inf]])
        middles = np.zeros(1)
        if crossings.size:  # a point within each piece
            middles = np.concatenate([[ends[1] - 1], (ends[1:-2] + ends[2:-1]) / 2, [ends[-2] + 1]])
        top = (mean + slopes * middles[:, None]).argmax(axis=1)
        density = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
        pieces = mean[top] * np.diff(ndtr(ends)) - slopes[top] * np.diff(density)
        values[j] = max(0.0, float(pieces.sum()) - float(mean.max()))
    return values


def _chances(drawn: Array) -> Array:
    """(C,) the share of draws in which each of (B, C) is the highest; equal ones share."""
    highest = drawn == drawn.max(axis=1, keepdims=True)
    shares: Array = (highest / highest.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares
