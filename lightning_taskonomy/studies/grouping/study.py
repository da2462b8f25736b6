"""The grouping study: which tasks to learn together under an inference budget (Standley et al., ICML 2020)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from lightning_taskonomy.affinity.groupings import Unit
from lightning_taskonomy.affinity.groupings.costs import Batch
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.inference import InferenceCosts
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers.grouping import GroupingSolver
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.grouping.examples import example_jobs
from lightning_taskonomy.studies.grouping.plan import GroupingPlan
from lightning_taskonomy.studies.grouping.prices import Prices
from lightning_taskonomy.studies.grouping.selection import trained
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
        budgets: What the kept networks may cost together at inference.
        budget_unit: What budgets count: full-size encoders (``snt``, as the paper), 1e9 ``multiply_adds`` per image, or
            ``milliseconds`` per batch.
        count_decoders: Whether decoders count too.
        latency_batch: The images of the batch whose milliseconds count, 1 or 32.
        other_machine: Take milliseconds that were measured on another machine than this one.
        memory: MiB that the kept networks may take at inference: all weights and the largest activations of one.
        importance: The weight of a task's loss in the choice, by task; 1 where not given.
        limits: The highest validation loss that a task may have, by task, in multiples of its labels' deviation.
        seeds: Further seeds: all networks again, and a choice under each; mean and interval of every loss.
        transfers: Also run the Taskonomy study on these tasks, to compare transfer affinity with co-training (section
            5.1): settings of ``TaxonomyStudy`` that differ from this study's.
        examples: Test images shown in the report.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    budgets: list[float] | None = None
    budget_unit: Unit = "snt"
    count_decoders: bool = False
    latency_batch: Batch = 1
    other_machine: bool = False
    memory: float | None = None
    importance: dict[str, float] | None = None
    limits: dict[str, float] | None = None
    seeds: list[int] | None = None
    transfers: dict[str, Any] | None = None
    examples: int = 4
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.grouping.GroupingReport"
    tables: ClassVar[Mapping[str, str]] = {
        "groupings": "validation.csv",
        "groupings_test": "test.csv",
        "groupings_early": "early.csv",
        "choices": "choices.csv",
        "network_losses": "network_losses.csv",
        "trainings": "trainings.csv",
        "inference": "inference.csv",
        "affinities": "affinities.csv",
        "approximations": "approximations.csv",
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
        if self.budgets is None and self.budget_unit != "snt":
            raise InputError(f"budget_unit is {self.budget_unit}; give budgets in it, as in budgets: [1.5, 3]")
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
        return GroupingSolver(importance=self.importance, limits=self.limits, memory=self.memory)

    def prices(self, plan: GroupingPlan) -> Prices:
        """What networks cost, as far as inference is measured."""
        job = plan.inference
        return Prices(
            unit=self.budget_unit,
            count_decoders=self.count_decoders,
            batch=self.latency_batch,
            other_machine=self.other_machine,
            inference=InferenceCosts.read(job.done[0]) if job.is_done else None,
            memory=self.memory is not None,
        )

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
        for number in range(1, _ROUNDS.get(str(self.candidates), 0) + 1):
            asked = partial(_asked, self, plans)
            stages.append(Stage(name="networks", title=f"networks, round {number}", jobs=asked, expected={}))
        if dense := sum(task.is_dense for task in plan.tasks.values()) if self.examples else 0:
            pictures = Stage(
                name="examples", jobs=lambda: example_jobs(self, plan).values(), expected={"examples": dense}
            )
            stages.append(pictures)
        if (taxonomy := self.taxonomy) is not None:
            stages += [replace(one, title=f"taxonomy: {one.title or one.name}") for one in taxonomy.stages(folder)]
        return stages

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Losses, choices of every method and budget, relationships and affinities; see the base class."""
        return grouping_tables(self, folder)

    def results(self, folder: Path) -> Results:
        """The test loss of every method and budget, and the tables; see the base class."""
        results = super().results(folder)
        if "choices" in results.tables:
            columns, rows = results.tables["choices"]
            by_key: dict[str, list[float]] = {}
            for row in rows:
                cells = dict(zip(columns, row, strict=True))
                key = f"{cells['method']}/budget_{float(cells['budget']):g}/test_loss"
                by_key.setdefault(key, []).append(float(cells["test_loss"]))
            results.scalars = {key: mean(losses) for key, losses in by_key.items()}
            results.artifacts = {name: folder / file for name, file in self.tables.items() if (folder / file).is_file()}
        return results

    def probes(self, folder: Path) -> dict[str, Probe]:
        """A few steps of the smallest and the largest network, timed; see the base class."""
        from lightning_taskonomy.studies.grouping.estimate import probes

        return probes(self.plan(folder))


_ROUNDS = {"early": 1, "pairs": 1, "search": 10}
"""How often networks are trained that the losses so far ask for; the last rounds of a search ask for none."""


def _asked(study: GroupingStudy, plans: Sequence[GroupingPlan]) -> list[Job]:
    """The networks that the losses so far ask for."""
    return [job for plan in plans for job in plan.jobs(trained(study, plan)[1])]


def _networks(plans: Sequence[GroupingPlan]) -> list[Job]:
    """All networks that are trained whatever comes of others."""
    return [job for plan in plans for job in plan.jobs([*plan.first(), *plan.compared()])]
