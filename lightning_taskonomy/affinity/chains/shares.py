"""The aggregated tables: which share of chains helps or harms, by factors of influence.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), section 6: Tables 7, 8 and 11, observations
A5, A8 and A9.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains.factors import Factors, factors_of
from lightning_taskonomy.affinity.chains.gains import Gain, by_chain, level

__all__ = [
    "GROUPS",
    "Across",
    "Multi",
    "QuickTest",
    "Relation",
    "Shares",
    "best_sources",
    "by_factors",
    "by_size",
    "by_task_types",
    "multi_against_largest",
    "quick_test",
    "shared_images",
    "shares",
]

Across = Literal["all", "within", "cross"]
"""Whether source and target agree in a factor: ``within`` and ``cross``, or no matter."""

GROUPS: tuple[tuple[Across, Across], ...] = (
    ("all", "all"),
    ("within", "within"),
    ("within", "cross"),
    ("cross", "within"),
    ("cross", "cross"),
)
"""The rows of the paper's Tables 7 and 8: image domain, task type."""

Relation = Literal["same_images", "same_domain", "other_domain", "among_others"]
"""How the images of source and target are related: the same; others of the same domain, as in Table 11; others of
another domain; or the target's ``among_others``, of a model of several sources that saw them."""


@dataclass(frozen=True)
class Shares:
    """How many gains are of which level.

    Args:
        positive: Above 2 %, very positive ones included.
        very_positive: Above 10 %.
        negative: Below -2 %.
        count: All of them.
    """

    positive: int
    very_positive: int
    negative: int
    count: int

    def percent(self, part: Literal["positive", "very_positive", "negative"]) -> float | None:
        """The share of a level in percent; None where there is nothing."""
        number: int = getattr(self, part)
        return 100 * number / self.count if self.count else None


def shares(gains: Iterable[float]) -> Shares:
    """Counts gains, in percent, by level."""
    levels = [level(gain) for gain in gains]
    very = levels.count("VP")
    return Shares(very + levels.count("P"), very, levels.count("N"), len(levels))


def best_sources(gains: Iterable[Gain]) -> dict[str, Gain]:
    """Per target the gain of its best source; of equal ones the first."""
    best: dict[str, Gain] = {}
    for gain in gains:
        if gain.target not in best or gain.value > best[gain.target].value:
            best[gain.target] = gain
    return best


def by_factors(
    gains: Sequence[Gain], factors: Mapping[str, Factors], *, best: bool = False
) -> dict[tuple[Across, Across], Shares]:
    """Shares within and across image domain and task type.

    Args:
        gains: Of one setting.
        factors: Of all its sources and targets.
        best: The best source per target and group (Table 8) instead of all chains (Table 7).

    Returns:
        One row per entry of ``GROUPS``: (domain, task type).

    Raises:
        InputError: A source or target has no factors.
    """
    groups: dict[tuple[Across, Across], list[Gain]] = {group: [] for group in GROUPS}
    for gain in gains:
        source, target = factors_of(gain.source, factors), factors_of(gain.target, factors)
        domain: Across = "within" if source.same_domain(target) else "cross"
        task_type: Across = "within" if source.same_type(target) else "cross"
        groups["all", "all"].append(gain)
        groups[domain, task_type].append(gain)
    rows = {group: list(best_sources(row).values()) if best else row for group, row in groups.items()}
    return {group: shares(gain.value for gain in row) for group, row in rows.items()}


def by_task_types(
    gains: Sequence[Gain], factors: Mapping[str, Factors]
) -> dict[tuple[str, str], dict[Relation, Shares]]:
    """Shares by (task type of the source, of the target) and how their images are related (Table 11).

    The paper does not say where it counts multi-source models that saw the target's images. Its numbers leave room for
    them in neither column: two chains from segmentation to detection on the same data set are COCO's and BDD's, and two
    of the same domain to keypoints are COCO's and the multi-source model's on MPII. The 43 chains of its Table 11 are 6
    fewer than those within the domain and across task types in its Table 7. So they are a group of their own here.
    Multi-source models that did not see the target's images are of its domain, as the caption counts SUIM's on UWT.

    Args:
        gains: Of one setting.
        factors: Of all its sources and targets.

    Returns:
        Pairs of one task type, too.

    Raises:
        InputError: A source or target has no factors.
    """
    groups: dict[tuple[str, str], dict[Relation, list[float]]] = {}
    for gain in gains:
        source, target = factors_of(gain.source, factors), factors_of(gain.target, factors)
        relation: Relation = "same_domain" if source.same_domain(target) else "other_domain"
        if source.shares_images(target):
            relation = "among_others" if source.multi_source else "same_images"
        pair = groups.setdefault((source.task_type, target.task_type), {})
        pair.setdefault(relation, []).append(gain.value)
    return {pair: {name: shares(values) for name, values in row.items()} for pair, row in groups.items()}


def by_size(gains: Iterable[Gain], factors: Mapping[str, Factors]) -> dict[Literal["larger", "smaller"], Shares]:
    """Shares within domain and task type, by whether the source has more training images than the target (A8).

    Sizes are those of the full data sets, whatever the setting. Multi-source models are left out, as A8 looks at the
    blocks of single data sets around the diagonal of Tables 4a and 5a; so are pairs of the same size.

    Args:
        gains: Of one setting.
        factors: Of all its sources and targets.

    Raises:
        InputError: A source or target has no factors.
    """
    larger, smaller = list[float](), list[float]()
    for gain in gains:
        source, target = factors_of(gain.source, factors), factors_of(gain.target, factors)
        within = source.same_domain(target) and source.same_type(target) and not source.multi_source
        if within and source.size != target.size:
            (larger if source.size > target.size else smaller).append(gain.value)
    return {"larger": shares(larger), "smaller": shares(smaller)}


@dataclass(frozen=True)
class Multi:
    """A multi-source model against the largest single source of the target's domain and task type.

    Args:
        target: A target whose images the multi-source model was not trained on.
        multi_source: The multi-source model of the target's task type.
        largest: The largest single source.
        multi_gain: The gain of the former, in percent.
        largest_gain: The gain of the latter, in percent.
    """

    target: str
    multi_source: str
    largest: str
    multi_gain: float
    largest_gain: float

    @property
    def largest_wins(self) -> bool:
        """Whether the largest source is better by more than 2 points, which A5 calls significantly better."""
        return self.largest_gain - self.multi_gain > 2


def multi_against_largest(gains: Sequence[Gain], factors: Mapping[str, Factors]) -> tuple[Multi, ...]:
    """Multi-source models against the largest source within the domain (A5), where both were measured.

    Args:
        gains: Of one setting.
        factors: Of all its sources and targets.

    Raises:
        InputError: A source or target has no factors.
    """
    rows = []
    for target in dict.fromkeys(gain.target for gain in gains):
        goal = factors_of(target, factors)
        same_type = [g for g in gains if g.target == target and factors_of(g.source, factors).same_type(goal)]
        multi = [g for g in same_type if factors[g.source].multi_source and not factors[g.source].shares_images(goal)]
        single = [g for g in same_type if not factors[g.source].multi_source and factors[g.source].same_domain(goal)]
        if single:
            largest = max(single, key=lambda gain: factors[gain.source].size)
            rows += [Multi(target, gain.source, largest.source, gain.value, largest.value) for gain in multi]
    return tuple(rows)


@dataclass(frozen=True)
class QuickTest:
    """Whether small targets tell what full targets show (A9), over the chains measured in both settings.

    Args:
        full_positive_small_positive: Of the chains that are positive on full targets, the percentage that is so on
            small ones (paper: 80); None where there is none, as below.
        small_positive_full_positive: Of those positive on small targets, the percentage that is so on full ones (43).
        small_negative_full_not_positive: Of those negative on small targets, the percentage that stays negative or
            becomes insignificant on full ones (100).
        same_sign: The percentage whose gain has the same sign in both settings.
        count: How many chains.
        pairs: (count, 2) gains in percent on small and on full targets, for a rank correlation and a picture.
    """

    full_positive_small_positive: float | None
    small_positive_full_positive: float | None
    small_negative_full_not_positive: float | None
    same_sign: float | None
    count: int
    pairs: tuple[tuple[float, float], ...]


def quick_test(small: Iterable[Gain], full: Iterable[Gain]) -> QuickTest:
    """Compares the gains of the same chains on small and on full targets.

    Args:
        small: Gains of the small setting.
        full: Gains of the full setting.
    """
    quick, slow = by_chain(small), by_chain(full)
    pairs = tuple((quick[chain], slow[chain]) for chain in quick if chain in slow)
    ours, theirs = (np.array([pair[column] for pair in pairs]) for column in (0, 1))
    return QuickTest(
        _percent((ours > 2)[theirs > 2]),
        _percent((theirs > 2)[ours > 2]),
        _percent((theirs <= 2)[ours < -2]),
        _percent(np.sign(ours) == np.sign(theirs)),
        len(pairs),
        pairs,
    )


def shared_images(gains: Iterable[Gain], factors: Mapping[str, Factors]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The chains to mark: their source saw images of the target for another task (section 5.2).

    Args:
        gains: Of any setting.
        factors: Of all their sources and targets.

    Returns:
        By (target, source) the collections of images that they share.

    Raises:
        InputError: A source or target has no factors.
    """
    marks = {}
    for gain in gains:
        source, target = factors_of(gain.source, factors), factors_of(gain.target, factors)
        if source.saw_images_of(target):
            marks[gain.target, gain.source] = tuple(name for name in target.images if name in source.images)
    return marks


def _percent(mask: NDArray[np.bool_]) -> float | None:
    return 100 * float(mask.mean()) if mask.size else None
