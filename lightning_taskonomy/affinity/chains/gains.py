"""Relative transfer gains: how much better a chain is than the first link alone, in percent.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), Eq. (2) and the levels of section 6.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from lightning_taskonomy.affinity.chains.table import FIRST_LINK, Chain, ChainsTable, Setting
from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.errors import InputError

__all__ = [
    "Gain",
    "Level",
    "by_chain",
    "level",
    "relative_transfer_gain",
    "relative_transfer_gains",
    "scratch_gains",
    "without_gain",
]

Level = Literal["VP", "P", "I", "N"]
"""Very positive, positive, insignificant, negative."""


@dataclass(frozen=True)
class Gain:
    """What a source brings to a target.

    Args:
        target: The target.
        source: The source model; empty for training from scratch.
        setting: How much of target and source was used.
        metric: What the gain is measured by.
        value: The relative transfer gain in percent of the reference; above 0 is better, for errors too.
        half_width: Half of its 95 % interval over seeds, in the same unit; None of a single seed.
        seeds: How many seeds it is measured on.
    """

    target: str
    source: str
    setting: Setting
    metric: str
    value: float
    half_width: float | None = None
    seeds: int = 1

    @property
    def standard_error(self) -> float | None:
        """The standard deviation of the mean over seeds; None of a single seed."""
        from scipy.special import stdtrit

        return None if self.half_width is None else self.half_width / float(stdtrit(self.seeds - 1, 0.975))


def relative_transfer_gain(value: float, reference: float, higher_is_better: bool = True) -> float:
    """Eq. (2): r = (m(target | source) / m(target | ILSVRC) - 1) * 100, with its sign turned for errors.

    Args:
        value: m(target | source).
        reference: m(target | ILSVRC), above 0.
        higher_is_better: False for errors.

    Raises:
        InputError: The reference is 0, so that nothing can be relative to it.
    """
    if not reference > 0:
        raise InputError(f"a reference of {reference:g} gives no relative gain: it must be above 0")
    gain = (value / reference - 1) * 100
    return gain if higher_is_better else -gain


def level(gain: float) -> Level:
    """The level of a gain in percent: VP above 10, P above 2, N below -2, else I.

    The shares of P that the paper prints include VP.
    """
    if gain > 10:
        return "VP"
    if gain > 2:
        return "P"
    return "N" if gain < -2 else "I"


def relative_transfer_gains(
    table: ChainsTable, setting: Setting, metrics: Collection[str] | None = None
) -> tuple[Gain, ...]:
    """The gains of all chains of a setting.

    A chain and its reference are compared on the seeds that both have. The gain is that of their means; its interval
    is that of a ratio of paired means (the linearised residuals m - R m_ref over the mean reference, by Student's t).
    Chains with small sources have the references of the small setting, whose targets are the same, unless the table
    has some of their own.

    Args:
        table: The trained chains.
        setting: Which of them.
        metrics: The metrics that count, so that each target keeps one; all of them unless given.

    Returns:
        In the order of the table; without the targets of :func:`without_gain`.

    Raises:
        InputError: A target has several metrics, or a chain has no reference with one of its seeds.
    """
    return _gains(table, setting, metrics, "chain")[0]


def scratch_gains(table: ChainsTable, setting: Setting, metrics: Collection[str] | None = None) -> tuple[Gain, ...]:
    """The gains of training from scratch, which section 6 (A1) reports as always negative; source is empty.

    Args:
        table: The trained chains.
        setting: Which of them.
        metrics: As for :func:`relative_transfer_gains`.

    Raises:
        InputError: As for :func:`relative_transfer_gains`.
    """
    return _gains(table, setting, metrics, "scratch")[0]


def without_gain(table: ChainsTable, setting: Setting, metrics: Collection[str] | None = None) -> tuple[str, ...]:
    """The targets with chains that reach something relative to nothing, as their reference is 0: name them to the user.

    Args:
        table: The trained chains.
        setting: Which of them.
        metrics: As for :func:`relative_transfer_gains`.
    """
    return _gains(table, setting, metrics, "chain")[1]


def _references(table: ChainsTable, setting: Setting) -> dict[tuple[str, str], dict[int, Chain]]:
    """Rows of the first link alone by target and metric, then by seed."""
    settings: tuple[Setting, ...] = ("small", "small_source") if setting == "small_source" else (setting,)
    references = {}
    for each in settings:
        for (target, _, metric), rows in table.by_training(["pretrained"], each).items():
            references[target, metric] = rows
    return references


def _gains(
    table: ChainsTable, setting: Setting, metrics: Collection[str] | None, kind: Literal["chain", "scratch"]
) -> tuple[tuple[Gain, ...], tuple[str, ...]]:
    """Gains, and the targets that have none because their reference is 0."""
    references = _references(table, setting)
    measured: dict[str, str] = {}
    gains, undefined = [], dict[str, None]()
    for (target, source, metric), rows in table.by_training([kind], setting).items():
        if metrics is not None and metric not in metrics:
            continue
        if measured.setdefault(target, metric) != metric:
            raise InputError(f"target {target!r} has the metrics {measured[target]} and {metric}: say which one counts")
        reference = references.get((target, metric), {})
        seeds = sorted(rows.keys() & reference.keys())
        if not seeds:
            raise InputError(
                f"{next(iter(rows.values()))} has no reference: add a row {FIRST_LINK} -> {target} of kind pretrained "
                f"with its setting, metric and one of the seeds {', '.join(map(str, rows))}"
            )
        base = [reference[seed].value for seed in seeds]
        if not sum(base) > 0:
            undefined[target] = None
            continue
        ours = [rows[seed].value for seed in seeds]
        ratio, mean = sum(ours) / sum(base), sum(base) / len(base)
        value = relative_transfer_gain(ratio, 1.0, rows[seeds[0]].higher_is_better)
        residuals = [100 * (m - ratio * b) / mean for m, b in zip(ours, base, strict=True)]
        gains.append(Gain(target, source, setting, metric, value, half_width(residuals), len(seeds)))
    return tuple(gains), tuple(undefined)


def by_chain(gains: Iterable[Gain]) -> dict[tuple[str, str], float]:
    """The gains in percent by (target, source)."""
    return {(gain.target, gain.source): gain.value for gain in gains}
