"""The grouping study: which tasks to learn together under an inference budget (Standley et al., ICML 2020)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers.grouping import GroupingSolver
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.grouping.plan import GroupingPlan
from lightning_taskonomy.studies.grouping.settings import GroupingSettings
from lightning_taskonomy.studies.grouping.tables import grouping_tables
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy
from lightning_taskonomy.tasks import resolve

__all__ = ["GroupingStudy"]


@dataclass(frozen=True)
class GroupingStudy(GroupingSettings, Study):
    """Which tasks should be learned together, and what is that worth under an inference budget?

    Networks of groups of tasks are trained side by side; those to keep under each budget are selected by their
    validation losses and reported by their test losses, beside what needs no search.

    Args:
        budgets: What the kept networks may cost together at inference, in full-size encoders.
        importance: The weight of a task's loss in the choice, by task; 1 where not given.
        limits: The highest validation loss that a task may have, by task, in multiples of its labels' deviation.
        seeds: Further seeds: all networks again, and a choice under each; mean and interval of every loss.
        transfers: Also run the Taskonomy study on these tasks, to compare transfer affinity with co-training (section
            5.1): settings of ``TaxonomyStudy`` that differ from this study's.
        examples: Test images shown in the report.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    budgets: list[float] | None = None
    importance: dict[str, float] | None = None
    limits: dict[str, float] | None = None
    seeds: list[int] | None = None
    transfers: dict[str, Any] | None = None
    examples: int = 4
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.base.Report"
    tables: ClassVar[Mapping[str, str]] = {
        "groupings": "validation.csv",
        "groupings_test": "test.csv",
        "groupings_early": "early.csv",
        "choices": "choices.csv",
        "network_losses": "network_losses.csv",
        "trainings": "trainings.csv",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        names = list(resolve(self.tasks))
        if len(set(self.all_seeds)) < len(self.all_seeds):
            raise InputError(f"seeds {self.all_seeds} repeat a seed; 'seeds' come in addition to 'seed'")
        for option, values in (("importance", self.importance), ("limits", self.limits)):
            for name in values or {}:
                if name not in names:
                    raise InputError(f"{option} names {name!r}, which is not a task of this study{hint(name, names)}")
        for budget in self.all_budgets:
            if not budget > 0:
                raise InputError(f"budget {budget:g} must be above 0; 1 is one full-size encoder")
        _ = self.solver, self.taxonomy

    @property
    def all_seeds(self) -> list[int]:
        """The first seed and the further ones."""
        return [self.seed, *(self.seeds or [])]

    @property
    def all_budgets(self) -> list[float]:
        """The budgets; 1 to the number of tasks by 0.5 where none were given (section 4.2)."""
        return list(self.budgets or [count / 2 for count in range(2, 2 * len(self.tasks) + 1)])

    @property
    def solver(self) -> GroupingSolver:
        """What chooses."""
        return GroupingSolver(importance=self.importance, limits=self.limits)

    @property
    def taxonomy(self) -> TaxonomyStudy | None:
        """The Taskonomy study on the same tasks, if it was asked for."""
        if self.transfers is None:
            return None
        allowed = {one.name for one in fields(TaxonomyStudy)}
        for name in self.transfers:
            if name not in allowed:
                raise InputError(f"transfers sets {name!r}, which TaxonomyStudy does not have{hint(name, allowed)}")
        shared = {name: getattr(self, name) for name in ("tasks", "data", "backbone", "heads", "trainer", "seed")}
        return TaxonomyStudy(**{**shared, "checkpoint_seconds": self.checkpoint_seconds, **self.transfers})

    def plan(self, folder: Path) -> GroupingPlan:
        """The runs under the first seed."""
        settings = GroupingSettings(**{one.name: getattr(self, one.name) for one in fields(GroupingSettings)})
        return GroupingPlan(settings, folder, self.checkpoint_seconds)

    def plans(self, folder: Path) -> list[GroupingPlan]:
        """The runs under every seed."""
        plan = self.plan(folder)
        return [plan, *(plan.but(seed=seed) for seed in self.seeds or [])]

    def stages(self, folder: Path) -> list[Stage]:
        """What is prepared, the networks, and what depends on their losses; see the base class."""
        plans = self.plans(folder)
        plan = plans[0]
        count = len([*plan.first(), *plan.compared()])
        networks = {"networks": -(-count // self.side_by_side) * len(plans)}
        stages = [
            Stage(name="data", jobs=lambda: [*plan.prepared, plan.statistics, plan.encoders]),
            Stage(name="inference", jobs=lambda: [plan.inference]),
            Stage(name="networks", jobs=partial(_networks, plans), expected=networks),
        ]
        if (taxonomy := self.taxonomy) is not None:
            stages += taxonomy.stages(folder)
        return stages

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Losses, choices of every method and budget, relationships and affinities; see the base class."""
        return grouping_tables(self, folder)

    def results(self, folder: Path) -> Results:
        """The test loss of every method and budget, and the tables; see the base class."""
        results = super().results(folder)
        return results

    def probes(self, folder: Path) -> dict[str, Probe]:
        """A few steps of the smallest and the largest network, timed; see the base class."""
        from lightning_taskonomy.studies.grouping.estimate import probes

        return probes(self.plan(folder))


def _networks(plans: Sequence[GroupingPlan]) -> list[Job]:
    """All networks that are trained whatever comes of others."""
    return [job for plan in plans for job in plan.jobs([*plan.first(), *plan.compared()])]
