"""A rule that predicts gains from the factors of influence: ridge regression for few chains.

The predictors are those that "Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021) finds to matter:
domain distance, same task type, same domain, and the logarithm of the source's size. The rule itself is not in the
paper.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains.factors import Factors, factors_of
from lightning_taskonomy.errors import InputError

__all__ = ["PREDICTORS", "Rule", "fit_rule", "predictors", "ridge"]

PREDICTORS = ("distance", "same_task_type", "same_domain", "log_size")
"""What gains are predicted from; log_size is the natural logarithm of the source's number of images."""

STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""The strengths to choose from: 0 is least squares; at 1 the weight of a predictor unlike the others is halved."""

MIN_CHAINS = len(PREDICTORS) + 1
"""The fewest chains that a rule is fitted on: as many as it has numbers."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A fitted rule: gain = intercept + the sum of weight times predictor.

    Args:
        intercept: In percent.
        weights: Percent of gain per unit of each predictor, by its name.
        strength: Of the ridge; the one with the least error on what was left out.
        error: The root mean square of the errors on what was left out, in percent.
        error_of_mean: The same for the mean gain of the others in place of a rule, which a useful rule stays below.
        residuals: (n,) measured minus predicted gains when left out.
        groups: (n,) what was left out together and is drawn together: the targets, or single chains of fewer than
            three targets.
    """

    intercept: float
    weights: dict[str, float]
    strength: float
    error: float
    error_of_mean: float
    residuals: Array = field(repr=False, compare=False)
    groups: NDArray[np.intp] = field(repr=False, compare=False)

    def predict(self, rows: Array) -> Array:
        """Gains in percent (n,) of chains (n, 4), their columns as in ``PREDICTORS``."""
        result: Array = self.intercept + rows @ np.array([self.weights[name] for name in PREDICTORS])
        return result


def predictors(
    chains: Iterable[tuple[str, str]], factors: Mapping[str, Factors], distances: Mapping[tuple[str, str], float]
) -> Array:
    """What the gain of each chain is predicted from.

    Args:
        chains: n of them, (target, source).
        factors: Of all targets and sources.
        distances: Of all chains.

    Returns:
        (n, 4), columns as in ``PREDICTORS``.

    Raises:
        InputError: A name has no factors, or a chain no distance.
    """
    rows = []
    for target, source in chains:
        ours, theirs = factors_of(target, factors), factors_of(source, factors)
        if (target, source) not in distances:
            raise InputError(f"the distance of {target!r} from source {source!r} is missing: measure it from features")
        distance = distances[target, source]
        rows.append((distance, theirs.same_type(ours), theirs.same_domain(ours), np.log(theirs.size)))
    return np.array(rows, dtype=np.float64).reshape(-1, len(PREDICTORS))


def ridge(rows: Array, gains: Array, weights: Array, strength: float) -> tuple[Array, Array]:
    """Ridge regressions of the same data under several weights.

    Each minimises the weighted mean of squared errors plus strength times the squared norm of the weights of predictors
    scaled to a deviation of 1; the intercept is free. A predictor that does not vary has weight 0, and where predictors
    say the same without a penalty, the smallest weights are taken.

    Args:
        rows: (n, p) predictors.
        gains: (n,) in percent.
        weights: (B, n), at least 0, such as how often a bootstrap drew each row; none is 0 throughout.
        strength: At least 0.

    Returns:
        Intercepts (B,) and weights (B, p), per unit of the predictors.
    """
    weights = weights / weights.sum(axis=1, keepdims=True)
    centre = rows.mean(axis=0)
    x = rows - centre
    mean, level = weights @ x, weights @ gains
    spread = np.einsum("bn,np,nq->bpq", weights, x, x) - mean[:, :, None] * mean[:, None, :]
    common = np.einsum("bn,np,n->bp", weights, x, gains) - mean * level[:, None]
    variance = np.einsum("bpp->bp", spread)
    scale = np.sqrt(np.where(variance > 1e-12 * (x**2).mean(axis=0), variance, np.inf))
    inverse = np.linalg.pinv(
        spread / (scale[:, :, None] * scale[:, None, :]) + strength * np.eye(rows.shape[1]), rcond=1e-9, hermitian=True
    )
    slopes = np.einsum("bpq,bq->bp", inverse, common / scale) / scale
    return level - np.einsum("bp,bp->b", slopes, mean + centre), slopes


def fit_rule(chains: Sequence[tuple[str, str]], rows: Array, gains: Array) -> Rule:
    """Fits the rule, its strength chosen by leaving each target out in turn.

    Args:
        chains: (target, source) of n measured chains.
        rows: (n, 4) their predictors.
        gains: (n,) their gains in percent.

    Raises:
        InputError: There are fewer chains than numbers to fit.
    """
    if len(chains) < MIN_CHAINS:
        raise InputError(
            f"{len(chains)} measured chains with a distance: a rule takes at least {MIN_CHAINS}; measure more, or rank "
            "by distance alone"
        )
    groups = grouped([target for target, _ in chains])
    left_out = groups == np.arange(groups.max() + 1)[:, None]
    kept = (~left_out).astype(np.float64)
    residuals = {}
    for strength in STRENGTHS:
        intercepts, slopes = ridge(rows, gains, kept, strength)
        residuals[strength] = gains - intercepts[groups] - np.einsum("np,np->n", slopes[groups], rows)
    errors = {strength: _rms(values) for strength, values in residuals.items()}
    strength = min(STRENGTHS, key=lambda each: (errors[each], -each))
    intercepts, slopes = ridge(rows, gains, np.ones((1, len(gains))), strength)
    means = (kept @ gains / kept.sum(axis=1))[groups]
    return Rule(
        float(intercepts[0]),
        dict(zip(PREDICTORS, slopes[0].tolist(), strict=True)),
        strength,
        errors[strength],
        _rms(gains - means),
        residuals[strength],
        groups,
    )


def grouped(targets: Sequence[str]) -> NDArray[np.intp]:
    """(n,) which chains belong together: those of a target, or none where there are fewer than three targets."""
    names = list(dict.fromkeys(targets))
    if len(names) < 3:
        return np.arange(len(targets), dtype=np.intp)
    return np.array([names.index(target) for target in targets], dtype=np.intp)


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))
