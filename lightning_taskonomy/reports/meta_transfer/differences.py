"""Differences between two methods, paired by seed: same network, same images X with primary labels, same seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from lightning_taskonomy.affinity.intervals import half_width

__all__ = ["Difference", "paired", "pooled"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far a method leads another; a positive number says that it is better.

    Args:
        leads: By seed; at least one.
        cases: The number of cases of which each lead is the mean.
    """

    leads: Mapping[int, float]
    cases: int = 1

    @property
    def mean(self) -> float:
        """The mean lead over seeds."""
        return fmean(self.leads.values())

    @property
    def half(self) -> float | None:
        """Half of the 95 % t interval of the mean lead over seeds; None of one seed."""
        return half_width(list(self.leads.values()))

    @property
    def seeds(self) -> int:
        """How many seeds both methods have."""
        return len(self.leads)

    @property
    def better(self) -> int:
        """In how many seeds the method is better."""
        return sum(lead > 0 for lead in self.leads.values())

    @property
    def verdict(self) -> int:
        """1 where the interval lies above zero, -1 where it lies below, else 0, as it is of one seed."""
        half = self.half
        if half is None or not abs(self.mean) > half:
            return 0
        return 1 if self.mean > 0 else -1


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], *, relative: bool = False) -> Difference | None:
    """The lead of a method over another in each seed that both have.

    Args:
        ours: The method's errors by seed.
        theirs: Those of the other.
        relative: As a share of the other's error, 1 where nothing of it is left; else in the unit of the errors.

    Returns:
        The difference, or None where they share no seed.
    """
    leads = {
        seed: 1 - error / theirs[seed] if relative else theirs[seed] - error
        for seed, error in ours.items()
        if seed in theirs and (theirs[seed] or not relative)
    }
    return Difference(leads=leads) if leads else None


def pooled(cases: Iterable[tuple[Mapping[int, float], Mapping[int, float]]]) -> Difference | None:
    """The lead over several cases, as a share of the other method's error.

    Seeds are the independent measurements, since the cases of a seed share images and weights: the lead of a seed is
    the mean over all cases, of the seeds that all of them have.

    Args:
        cases: Per case the errors by seed of the method and of the other.

    Returns:
        The difference, or None where no case has a seed of both, or no seed is in all of those that have.
    """
    single = [one for ours, theirs in cases if (one := paired(ours, theirs, relative=True)) is not None]
    seeds = set.intersection(*(set(one.leads) for one in single)) if single else set()
    leads = {seed: fmean(one.leads[seed] for one in single) for seed in sorted(seeds)}
    return Difference(leads=leads, cases=len(single)) if leads else None
