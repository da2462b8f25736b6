"""Does a quantity order sources as their gains do? Kendall's tau with bootstrap intervals.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), section 6 (A3, A4) and Table 10. The paper
prints one number for all chains of a setting and says neither whether tau is taken over all of them at once or per
target, nor how ties count. Here both are given: ``pooled`` is the literal reading, ``per_target`` leaves out that gains
of one target are larger than those of another; ties count as in tau-b. The paper's positive numbers for distances mean
that nearer sources bring more, so that a distance enters with its sign turned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError

__all__ = ["RankCorrelation", "rank_correlation"]


@dataclass(frozen=True)
class RankCorrelation:
    """Kendall's tau-b of a quantity and the gains, in [-1, 1].

    Args:
        pooled: Over all pairs of chains; None where all gains or all values are the same, as below.
        pooled_interval: its bootstrap interval; None of a single target.
        per_target: The mean over targets of the tau of each target's sources.
        per_target_interval: Its bootstrap interval.
        targets: The tau of each target that has one.
        count: How many chains.
    """

    pooled: float | None
    pooled_interval: tuple[float, float] | None
    per_target: float | None
    per_target_interval: tuple[float, float] | None
    targets: dict[str, float]
    count: int


def rank_correlation(
    gains: Mapping[tuple[str, str], float],
    values: Mapping[tuple[str, str], float],
    *,
    lower_is_better: bool = False,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> RankCorrelation:
    """How far a quantity orders chains as their gains do.

    The bootstrap draws whole targets with replacement, as the chains of one target share their reference and are not
    independent; the interval spans percentiles. A single target has no interval.

    Args:
        gains: In percent by (target, source).
        values: The quantity by (target, source), such as a distance or a source's size; chains without one are left
            out, and so are values without a gain.
        lower_is_better: Turns the sign, as for distances.
        draws: How many bootstrap draws.
        level: The confidence, above 0 and below 1.
        seed: The same seed gives the same intervals.

    Raises:
        InputError: No draws, or no such level.
    """
    if draws < 1 or not 0 < level < 1:
        raise InputError(f"draws {draws} and level {level}: give at least 1, and a share between 0 and 1")
    chains = [chain for chain in gains if chain in values]
    names = list(dict.fromkeys(target for target, _ in chains))
    if not names:
        return RankCorrelation(None, None, None, None, {}, 0)
    sign = -1 if lower_is_better else 1
    ours, theirs = np.array([(gains[chain], sign * values[chain]) for chain in chains], dtype=np.float64).T
    left, right = (np.sign(np.subtract.outer(side, side)) for side in (ours, theirs))
    member = np.array([[target == name for target, _ in chains] for name in names], dtype=np.float64)
    concordant, untied_left, untied_right = (
        member @ pairs @ member.T for pairs in (left * right, np.abs(left), np.abs(right))
    )
    # Row 0: each target once, which is no draw.
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    weights = np.concatenate([np.ones((1, len(names))), weights])
    sums = (np.einsum("bi,ij,bj->b", weights, pairs, weights) for pairs in (concordant, untied_left, untied_right))
    pooled = _tau(*sums)
    each = _tau(*map(np.diagonal, (concordant, untied_left, untied_right)))
    defined = ~np.isnan(each)
    with np.errstate(invalid="ignore"):
        mean = weights[:, defined] @ each[defined] / weights[:, defined].sum(axis=1)
    return RankCorrelation(
        *_with_interval(pooled, level, len(names)),
        *_with_interval(mean, level, int(defined.sum())),
        {name: float(tau) for name, tau in zip(names, each, strict=True) if not np.isnan(tau)},
        len(chains),
    )


def _tau(concordant: NDArray[np.float64], left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Concordant minus discordant pairs over the geometric mean of the untied ones on either side; NaN without any."""
    with np.errstate(invalid="ignore"):
        tau: NDArray[np.float64] = concordant / np.sqrt(left * right)
    return tau


def _with_interval(
    values: NDArray[np.float64], level: float, targets: int
) -> tuple[float | None, tuple[float, float] | None]:
    """The first of the values, and the percentiles of the others that are numbers; none of a single target."""
    value, drawn = float(values[0]), values[1:][~np.isnan(values[1:])]
    if np.isnan(value):
        return None, None
    if targets < 2 or not drawn.size:
        return value, None
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return value, (float(low), float(high))
