"""The Taskonomy study: which tasks help which, and what to train under a budget (CVPR 2018, section 3)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import read_csv
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.specs import BackboneSpec
from lightning_taskonomy.studies.taxonomy import tables
from lightning_taskonomy.studies.taxonomy.fine_tune import FineTune, check_fine_tune, fine_tune_jobs, fine_tuned
from lightning_taskonomy.studies.taxonomy.measurements import Measurements
from lightning_taskonomy.studies.taxonomy.novel import fixed_jobs, novel_tasks
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings, Variant
from lightning_taskonomy.studies.taxonomy.transitive import chain_jobs, transitive
from lightning_taskonomy.studies.taxonomy.variants import spread, stability

__all__ = ["TaxonomyStudy"]


@dataclass(frozen=True)
class TaxonomyStudy(TaxonomySettings, Study):
    """Task-specific networks, transfers of growing order, affinities, taxonomies per budget, a report.

    Args:
        budgets: Supervision budgets to solve for; 1 to the number of tasks where not given.
        label_costs: What the labels of a source cost, by task; 1 where not given.
        importance: The weight of a target, by task; 1 where not given.
        same_images: Measure gain and quality on the images of the affinity, as the paper does.
        seeds: Further seeds: the whole study again, for the spread.
        variants: Other settings by name (``{wide: {transfer_width: 64}}``): measured too, for the stability.
        controls: Pairs (source, target) known to be related: the positive control.
        random_taxonomies: How many random taxonomies each one is compared with.
        examples: Test images shown in the report.
        novel: Also solve each target as if it were new, all-for-one (section 4.2).
        imagenet: A timm backbone with pretrained weights whose fixed features novel tasks are compared with.
        transitive: Chains (source, first, second) compared with the direct transfer (section 3.2).
        transitive_sizes: Transfer images of the low- and the high-data setting of chains.
        fine_tune: Other data sets on which the task-specific networks are fine-tuned (section 5.1).
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    budgets: list[int] | None = None
    label_costs: dict[str, float] | None = None
    importance: dict[str, float] | None = None
    same_images: bool = False
    seeds: list[int] | None = None
    variants: dict[str, Variant] = field(default_factory=dict)
    controls: list[tuple[str, str]] = field(default_factory=list)
    random_taxonomies: int = 1000
    examples: int = 4
    novel: bool = False
    imagenet: BackboneSpec | None = None
    transitive: list[tuple[str, str, str]] = field(default_factory=list)
    transitive_sizes: list[int] | None = None
    fine_tune: list[FineTune] = field(default_factory=list)
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.taxonomy.TaxonomyReport"
    tables: ClassVar[Mapping[str, str]] = {"transfers": "affinity.csv"}

    def __post_init__(self) -> None:
        super().__post_init__()
        described: Any = self.fine_tune  # a recipe gives plain data
        built = [FineTune(**one) if isinstance(one, dict) else one for one in described]
        object.__setattr__(self, "fine_tune", built)
        plan = self.plan(Path("."))
        named: dict[str, Sequence[Sequence[str]]] = {"controls": self.controls, "transitive": self.transitive}
        for option, groups in named.items():
            for name in (name for group in groups for name in group):
                if name not in plan.tasks:
                    raise InputError(
                        f"{option} name {name!r}, which is not a task of this study{hint(name, plan.tasks)}"
                    )
        for budget in self.budgets or []:
            if budget < 1:
                raise InputError(f"budget {budget}: no taxonomy meets it; give at least 1")
        _ = self.others(plan)
        check_fine_tune(plan.targets, self.fine_tune)

    def plan(self, folder: Path) -> TaxonomyPlan:
        """The runs of the study's own settings."""
        settings = TaxonomySettings(**{one.name: getattr(self, one.name) for one in fields(TaxonomySettings)})
        return TaxonomyPlan(settings, folder, self.checkpoint_seconds)

    def seeded(self, plan: TaxonomyPlan) -> dict[str, TaxonomyPlan]:
        """The plan under each further seed."""
        return {f"seed {seed}": plan.but(seed=seed) for seed in self.seeds or []}

    def others(self, plan: TaxonomyPlan) -> dict[str, TaxonomyPlan]:
        """The plan under further seeds and other settings."""
        return self.seeded(plan) | {name: plan.but(**changes) for name, changes in self.variants.items()}

    def fixed(self, plan: TaxonomyPlan) -> RunSpec | None:
        """A network of fixed ImageNet features, never trained here."""
        return None if self.imagenet is None else plan.but(backbone=self.imagenet).untrained("imagenet")

    def stages(self, folder: Path) -> list[Stage]:
        """Networks and transfers under every setting, then what else was asked for; see the base class."""
        plan = self.plan(folder)
        stages: list[Stage] = []

        def add(name: str, title: str, jobs: Any, *arguments: Any, expected: Mapping[str, int] | None = None) -> None:
            stages.append(Stage(name=name, title=title, jobs=partial(jobs, *arguments), expected=expected))

        for label, one in {"": plan, **{f" ({name})": one for name, one in self.others(plan).items()}}.items():
            add("networks", f"networks{label}", one.networks)
            add("transfers", f"transfers of order 1{label}", one.first_orders)
            if (expected := one.higher_order_counts())["transfer"]:
                measured = Measurements(one, self.same_images)
                add("transfers", f"transfers of higher order{label}", measured.higher_jobs, expected=expected)
        if self.novel:
            measured = Measurements(plan, self.same_images, novel=True)  # without its own network, other sources lead
            expected = plan.higher_order_counts()  # at most: many are those of the study itself
            add("transfers", "novel tasks: transfers of higher order", measured.higher_jobs, expected=expected)
            if (fixed := self.fixed(plan)) is not None:
                add("transfers", "ImageNet features", fixed_jobs, plan, fixed)
        for size in self.chain_sizes if self.transitive else ():
            add("transfers", f"chains ({size or 'all'} images)", chain_jobs, plan, self.transitive, size)
        for one_set in self.fine_tune:
            add("transfers", f"fine-tuning on {one_set.title}", fine_tune_jobs, plan, one_set)
        if dense := [name for name in plan.targets if plan.tasks[name].is_dense] if self.examples else []:
            add("examples", "examples", self._example_jobs, plan, expected=Counter(examples=len(dense)))
        return stages

    @property
    def chain_sizes(self) -> Sequence[int | None]:
        """Transfer images of the settings that chains are measured at."""
        return self.transitive_sizes or [self.transfer_size]

    def _example_jobs(self, plan: TaxonomyPlan) -> list[Job]:
        table, *_ = Measurements(plan, self.same_images).table()
        return tables.example_jobs(plan, table, self.examples)

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Affinities, taxonomies of every budget, and what else was asked for; see the base class."""
        plan = self.plan(folder)
        yield "tasks.json", plan.described()
        measured = Measurements(plan, self.same_images)
        table, *_ = measured.table()
        table.write(folder / "affinity.csv")
        yield "losses.csv", tables.losses(measured)
        yield "sanity.csv", tables.sanity(plan)
        yield "labels.json", tables.labels(plan)
        if self.controls:
            plans = [plan, *self.seeded(plan).values()]
            yield "control.json", [tables.control(pair, plans, self.same_images) for pair in self.controls]
        solver = TaxonomySolver(label_costs=self.label_costs, importance=self.importance)
        budgets = self.budgets or list(range(1, len(plan.tasks) + 1))
        settings = {"draws": self.random_taxonomies, "seed": self.seed}
        table = TransfersTable.read(
            folder / "affinity.csv"
        )  # as other commands read it: what is solved is what is written
        yield "solutions.json", tables.solutions(table, solver, budgets, self.max_order, **settings)
        tables.write_examples(folder, tables.example_jobs(plan, table, self.examples))
        yield from self._beyond(plan, measured)

    def _beyond(self, plan: TaxonomyPlan, measured: Measurements) -> Iterator[tuple[str, Table | Any]]:
        table, *_ = measured.table()
        if self.novel:
            yield "novel.csv", novel_tasks(replace(measured, novel=True), self.fixed(plan))
        if self.transitive:
            yield "transitive.csv", transitive(plan, self.transitive, self.chain_sizes)
        if self.fine_tune:
            rows, rankings = fine_tuned(plan, table, self.fine_tune)
            yield "fine_tune.csv", rows
            yield "fine_tune.json", rankings
        others = {name: Measurements(one, self.same_images).table()[0] for name, one in self.others(plan).items()}
        if self.seeds:
            yield "spread.csv", spread([table, *(others[name] for name in self.seeded(plan))])
        if others:
            yield "stability.csv", stability(table, others, max(1, len(plan.tasks) // 2), self.max_order)

    def results(self, folder: Path) -> Results:
        """Objective, gain and quality of every taxonomy, and the tables; see the base class."""
        names = ("affinity", "novel", "transitive", "fine_tune", "stability", "spread")
        files = {name: folder / f"{name}.csv" for name in names}
        results = Results(tables={name: read_csv(file) for name, file in files.items() if file.is_file()})
        solved = folder / "solutions.json"
        if solved.is_file():
            results.artifacts["solutions"] = solved
            for entry in json.loads(solved.read_text()):
                prefix = f"order_{entry['max_order']}/budget_{entry['budget']:g}"
                for name in ("objective", "mean_gain", "mean_quality"):
                    if entry[name] is not None:
                        results.scalars[f"{prefix}/{name}"] = entry[name]
        return results

    def probes(self, folder: Path) -> dict[str, Probe]:
        """A few steps of each kind of network, timed; see the base class."""
        from lightning_taskonomy.studies.taxonomy.estimate import probes

        return probes(self.plan(folder))
