"""Chains: whether a source helps a task better through a third one (section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_taskonomy.affinity.transitive import compare_detour
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.taxonomy.analysis import read_scores
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan

__all__ = ["chain_jobs", "transitive"]


@dataclass(frozen=True)
class _Chain:
    """The runs of s -> t1 -> t2 and of s -> t2, on so many images."""

    plan: TaxonomyPlan
    source: str
    first: str
    second: str

    @property
    def hop(self) -> RunSpec:
        return self.plan.transfer(self.first, [self.source])

    @property
    def direct(self) -> RunSpec:
        return self.plan.transfer(self.second, [self.source])

    @property
    def whole(self) -> RunSpec:
        return self.plan.transfer_from(self.second, [self.hop], self._label)

    @property
    def _label(self) -> str:
        return f"{self.first}<-{self.source}"

    def jobs(self) -> list[Job]:
        plan, source = self.plan, self.plan.source(self.source)
        inputs = [plan.tasks[name].input for name in (self.first, self.second)]
        return [
            *(plan.encode(source, key) for key in dict.fromkeys(inputs)),
            plan.transfer_job(self.first, [self.source]),
            plan.transfer_job(self.second, [self.source]),
            plan.encode(self.hop, inputs[1]),
            plan.transfer_from_job(self.second, [self.hop], self._label),
        ]


def _chains(plan: TaxonomyPlan, chains: Sequence[Sequence[str]], size: int | None) -> list[_Chain]:
    sized = plan.but(transfer_size=size)
    return [_Chain(sized, *chain) for chain in chains]


def chain_jobs(plan: TaxonomyPlan, chains: Sequence[Sequence[str]], size: int | None) -> list[Job]:
    """Trains s -> t1 -> t2 and s -> t2 on so many images."""
    return [job for chain in _chains(plan, chains, size) for job in chain.jobs()]


def transitive(plan: TaxonomyPlan, chains: Sequence[Sequence[str]], sizes: Sequence[int | None]) -> Table:
    """Whether s -> t1 -> t2 beats s -> t2 (section 3.2: equal in almost all cases).

    Args:
        plan: The study's runs.
        chains: Triples of a source and two targets.
        sizes: Transfer images: the low- and the high-data setting.

    Returns:
        Per chain and size the win rate of the transitive over the direct transfer on all test images, and the ends of
        its 95 % interval.
    """
    rows: list[list[Any]] = []
    for size in sizes:
        for chain in _chains(plan, chains, size):
            pair = [run.folder / "scores.npz" for run in (chain.whole, chain.direct) if run.is_done]
            if len(pair) == 2:
                ours, theirs = (read_scores(file, chain.second)[1] for file in pair)
                detour = compare_detour(ours, theirs)
                rows.append([chain.source, chain.first, chain.second, size, detour.win_rate, *detour.interval])
    return ["source", "first", "second", "images", "win_rate_vs_direct", "low", "high"], rows
