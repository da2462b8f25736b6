"""The Taskonomy study: which tasks help which, and what to train under a budget (CVPR 2018, section 3)."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightning_taskonomy.affinity import TransfersTable, win_rate
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import atomic, write_csv, write_json
from lightning_taskonomy.reports import report
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers.taxonomy import as_entry, measure_chance
from lightning_taskonomy.studies.base import Study, at_work, wanted
from lightning_taskonomy.studies.engine import Engine, Job
from lightning_taskonomy.studies.runs import RunSpec, content_hash
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec, HeadSpec, OptimizerSpec, SchedulerSpec, Variant
from lightning_taskonomy.studies.taxonomy.analysis import (
    mean_scores,
    read_scores,
    shuffled,
)
from lightning_taskonomy.studies.taxonomy.evidence import Evidence
from lightning_taskonomy.studies.taxonomy.extras import (
    FineTune,
    Table,
    check_fine_tune,
    fine_tuned,
    novel_tasks,
    spread,
    stability,
    train_fine_tuned,
    train_novel,
    train_transitive,
    transitive,
)
from lightning_taskonomy.studies.taxonomy.plan import RANDOM, Plan, Settings
from lightning_taskonomy.tasks import TaskKind

__all__ = ["TaxonomyStudy"]

Stage = Literal["networks", "transfers", "affinity", "taxonomy", "report"]
STAGES: tuple[Stage, ...] = ("networks", "transfers", "affinity", "taxonomy", "report")


class TaxonomyStudy(Study):
    """Task-specific networks, transfers of growing order, affinities, taxonomies per budget, a report.

    Args:
        tasks: Names of the catalog or dotted paths; source-only ones are never targets.
        data: The data module's class and arguments.
        backbone: The encoder's class and arguments, the same for all tasks.
        heads: Head factories by task or kind.
        transfer_heads: Those behind a readout; those of ``heads`` where not given.
        transfer_width: Channels of the readout's two convolutions.
        optimizer: The optimizer's class and arguments.
        scheduler: The schedule's class and arguments.
        scheduler_interval: Whether schedules count epochs or steps.
        transfer_scheduler: The schedule of transfers, annealed earlier; the networks' where not given.
        trainer: Further arguments of every Trainer (precision, accelerator, ...).
        epochs: Of task-specific networks.
        transfer_epochs: Of transfers.
        scratch_epochs: Of networks from scratch on the transfers' data; as many as transfers where not given.
        scratch_scheduler: Their schedule; that of transfers where not given.
        scratch_validation: The share of the transfers' images that they are not trained on but validated on, to keep
            the weights of their best epoch; 0 trains on all images and keeps the last.
        transfer_size: Images of the validation buildings that transfers train on; all where not given.
        test_images: Test images used; all where not given.
        max_order: The highest order of transfers.
        beam: The sources combined up to this order, 5 in the paper.
        budgets: Supervision budgets to solve for; 1 to the number of tasks where not given.
        label_costs: What the labels of a source cost, by task; 1 where not given.
        importance: The weight of a target, by task; 1 where not given.
        same_images: Measure gain and quality on the images of the affinity, as the paper does.
        seed: Of everything.
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
        workers: Worker processes.
        threads: Torch threads of each.
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    def __init__(
        self,
        tasks: list[str],
        data: DataSpec,
        backbone: BackboneSpec,
        heads: dict[str, HeadSpec] | None = None,
        transfer_heads: dict[str, HeadSpec] | None = None,
        transfer_width: int = 32,
        optimizer: OptimizerSpec | None = None,
        scheduler: SchedulerSpec | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        transfer_scheduler: SchedulerSpec | None = None,
        trainer: dict[str, Any] | None = None,
        epochs: int = 20,
        transfer_epochs: int = 10,
        scratch_epochs: int | None = None,
        scratch_scheduler: SchedulerSpec | None = None,
        scratch_validation: float = 0.0,
        transfer_size: int | None = None,
        test_images: int | None = None,
        max_order: int = 1,
        beam: int = 5,
        budgets: list[int] | None = None,
        label_costs: dict[str, float] | None = None,
        importance: dict[str, float] | None = None,
        same_images: bool = False,
        seed: int = 0,
        seeds: list[int] | None = None,
        variants: dict[str, Variant] | None = None,
        controls: list[tuple[str, str]] | None = None,
        random_taxonomies: int = 1000,
        examples: int = 4,
        novel: bool = False,
        imagenet: BackboneSpec | None = None,
        transitive: list[tuple[str, str, str]] | None = None,
        transitive_sizes: list[int] | None = None,
        fine_tune: list[FineTune] | None = None,
        workers: int = 2,
        threads: int = 1,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.settings = Settings(
            tuple(tasks), data, backbone, heads, transfer_heads, transfer_width, optimizer, scheduler,
            scheduler_interval, trainer or {}, epochs, transfer_epochs, scratch_epochs, transfer_scheduler,
            transfer_size, max_order, beam, seed, test_images, scratch_scheduler, scratch_validation,
        )  # fmt: skip
        self.budgets, self.same_images = budgets, same_images
        self.label_costs, self.importance = label_costs, importance
        self.variants = {f"seed {s}": Variant(seed=s) for s in seeds or []} | (variants or {})
        self.controls = controls or []
        self.random_taxonomies, self.examples = random_taxonomies, examples
        self.novel, self.imagenet = novel, imagenet
        self.transitive, self.transitive_sizes = transitive or [], transitive_sizes
        described: Any = fine_tune or []  # a recipe gives plain data
        self.fine_tune = [FineTune(**one) if isinstance(one, dict) else one for one in described]
        self.workers, self.threads, self.checkpoint_seconds = workers, threads, checkpoint_seconds
        self._check()

    def _check(self) -> None:
        plan = Plan(self.settings, Path("."))
        names = list(plan.tasks)
        for name, value in {"max_order": self.settings.max_order, "beam": self.settings.beam}.items():
            if value < 1:
                raise InputError(f"{name} is {value}, must be at least 1")
        if len(plan.targets) < 1 or len(names) < 2:
            raise InputError(f"a study needs two tasks, one of them a target; given: {', '.join(names)}")
        for name, task in plan.tasks.items():
            if task.kind is TaskKind.SET:
                raise InputError(f"task {name!r} is of objects, of which there is no average guess; leave it out")
        named: dict[str, Sequence[Sequence[str]]] = {"controls": self.controls, "transitive": self.transitive}
        for option, groups in named.items():
            for name in (name for group in groups for name in group):
                if name not in names:
                    raise InputError(f"{option} name {name!r}, which is no task here{hint(name, names)}")
        if not 0 <= self.settings.scratch_validation < 1:
            raise InputError(
                f"scratch_validation is {self.settings.scratch_validation}, must be a share of at least 0 and below 1"
            )
        for budget in self.budgets or []:
            if budget < 1:
                raise InputError(f"budget {budget}: no taxonomy meets it; give at least 1")
        for changes in self.variants.values():
            self.settings.but(changes)
        check_fine_tune(plan.targets, self.fine_tune)

    # the study

    def run(self, out: Path, *, stages: list[str] | None = None, redo: bool = False) -> Results:
        """Does what is not done yet; see the base class."""
        chosen, out = wanted(stages, STAGES), Path(out)
        plan = Plan(self.settings, out, self.checkpoint_seconds)
        with at_work(out, self.workers, self.threads, redo) as engine:
            write_json(out / "tasks.json", {name: _described(task) for name, task in plan.tasks.items()})
            self._stages(engine, plan, chosen)
            page = report(out) if "report" in chosen else None
            return self._results(out, page)

    def _stages(self, engine: Engine, plan: Plan, stages: Sequence[str]) -> None:
        self._train(engine, plan, stages)
        for name, changes in self.variants.items():
            self._train(engine, replace(plan, settings=self.settings.but(changes)), stages, f" ({name})")
        self._train_extras(engine, plan, stages)
        if "affinity" in stages:
            self._affinity(plan)
        if "taxonomy" in stages:
            self._taxonomy(plan)
            self._extras(plan)
        if "report" in stages:
            self._examples(engine, plan)

    def _train(self, engine: Engine, plan: Plan, stages: Sequence[str], label: str = "") -> None:
        """Stages I and II: networks, representations, transfers of each order."""
        if "networks" in stages:
            engine.run(f"data{label}", list(plan.prepared().values()))
            specs = [plan.task_specific(name) for name in plan.tasks] + [plan.scratch(name) for name in plan.targets]
            jobs = [spec.job(plan.checkpoint_seconds) for spec in [plan.random_encoder, *specs]]
            engine.run(f"networks{label}", jobs + [plan.average(name) for name in plan.tasks])
        if "transfers" in stages:
            sources = [name for name in [*plan.tasks, RANDOM] if plan.source(name).job(0).is_done]
            keys = {task.input for name, task in plan.tasks.items() if name in plan.targets}
            encoded = {job.done for job in engine.run(
                f"representations{label}", [plan.encode(name, key) for name in sources for key in sorted(keys)]
            )}  # fmt: skip

            def possible(target: str, names: Iterable[str]) -> bool:
                key = plan.tasks[target].input
                return all(plan.encode(name, key).done in encoded for name in names)

            first = [(t, (s,)) for t in plan.targets for s in sources if s != t and possible(t, (s,))]
            engine.run(f"transfers of order 1{label}", [self._transfer_job(plan, *pair) for pair in first])
            if plan.settings.max_order > 1:
                higher = [
                    (target, chosen)
                    for target in plan.targets
                    for chosen in self._evidence(plan).higher_orders(target)
                    if possible(target, chosen)
                ]
                engine.run(f"transfers of higher order{label}", [self._transfer_job(plan, *pair) for pair in higher])

    def _transfer_job(self, plan: Plan, target: str, sources: Sequence[str]) -> Job:
        return plan.transfer(target, sources).job(plan.checkpoint_seconds)

    # analysis

    def _evidence(self, plan: Plan) -> Evidence:
        return Evidence(plan, self.same_images)

    def _affinity(self, plan: Plan) -> None:
        table, scores, images, _ = self._evidence(plan).table()
        table.write(plan.root / "affinity.csv")
        rows = [
            [target, len(sources), ";".join(sources), kind, f"{value:.6g}"]
            for (target, kind, sources), value in mean_scores(scores, images)
        ]
        write_csv(plan.root / "losses.csv", ["target", "order", "sources", "kind", "mean_score"], rows)
        rows = []
        for name in plan.tasks:  # nothing is transferred to source-only ones, which the paper's Table 1 leaves open too
            spec = plan.task_specific(name)
            if not spec.job(0).is_done:
                continue
            _, own = read_scores(spec.folder / "scores.npz", name)
            against = [plan.average(name).done, plan.transfer(name, [RANDOM]).folder / "scores.npz"]
            rates = [win_rate(own, read_scores(file, name)[1]) if file.is_file() else float("nan") for file in against]
            rows.append([name, *(f"{rate:.6g}" for rate in rates)])
        write_csv(plan.root / "sanity.csv", ["task", "win_rate_vs_average", "win_rate_vs_random_encoder"], rows)
        counts = {split: json.loads(job.done.read_text())["images"] for split, job in plan.prepared().items()}
        transferred = min(plan.settings.transfer_size or counts["validation"], counts["validation"])
        labels = {"labels_per_source": counts["train"], "labels_per_transfer": transferred}
        write_json(plan.root / "labels.json", labels)
        if self.controls:
            write_json(plan.root / "control.json", [self._control(*pair, plan.root) for pair in self.controls])

    def _control(self, source: str, target: str, root: Path) -> dict[str, Any]:
        """Does a related source beat a random encoder, over seeds; and does it when scores are shuffled?"""
        seeds = [self.settings] + [self.settings.but(c) for n, c in self.variants.items() if n.startswith("seed ")]
        rates, null, affinities, measured = [], [], [], []
        for settings in seeds:
            plan = Plan(settings, root)
            files = [plan.transfer(target, [name]).folder / "scores.npz" for name in (source, RANDOM)]
            if not all(file.is_file() for file in files):
                continue
            pair = {
                (target, "transfer", (name,)): read_scores(file, target)[1]
                for name, file in zip((source, RANDOM), files, strict=True)
            }
            mixed = shuffled({target: pair}, settings.seed)[target]  # type: ignore[dict-item]  # keys are literal kinds
            measured.append(settings.seed)
            rates.append(win_rate(*pair.values()))
            null.append(win_rate(*mixed.values()))
            table, *_ = self._evidence(plan).table()
            row = next((r for r in table.transfers if r.key == (target, "transfer", (source,))), None)
            affinities.append(None if row is None else row.affinity)
        return {
            "source": source, "target": target, "seeds": measured,
            "win_rate_vs_random_encoder": rates, "shuffled": null, "affinity_per_seed": affinities,
        }  # fmt: skip

    def _taxonomy(self, plan: Plan) -> None:
        """(IV) The best taxonomy of each budget and order."""
        table = TransfersTable.read(plan.root / "affinity.csv")
        budgets = self.budgets or list(range(1, len(plan.tasks) + 1))
        solver = TaxonomySolver(label_costs=self.label_costs, importance=self.importance)
        solutions = solver.sweep(table, budgets, range(1, plan.settings.max_order + 1))
        write_json(
            plan.root / "solutions.json",
            [
                as_entry(s, measure_chance(s, table, count=self.random_taxonomies, seed=plan.settings.seed))
                for s in solutions
            ],
        )

    # beyond the taxonomy

    def _imagenet(self, plan: Plan) -> RunSpec | None:
        """A network of fixed ImageNet features, never trained here."""
        if self.imagenet is None:
            return None
        fixed = Plan(replace(plan.settings, backbone=self.imagenet), plan.root, plan.checkpoint_seconds)
        return fixed.untrained("imagenet")

    def _novel(self, plan: Plan) -> Evidence:
        """What the runs say of each target as if it were new."""
        return replace(self._evidence(plan), novel=True)

    def _train_extras(self, engine: Engine, plan: Plan, stages: Sequence[str]) -> None:
        if "transfers" in stages and self.novel:
            train_novel(engine, self._novel(plan), self._imagenet(plan))
        if "transfers" in stages and self.transitive:
            train_transitive(engine, plan, self.transitive, self._sizes(plan))
        if "transfers" in stages:
            train_fine_tuned(engine, plan, self.fine_tune)

    def _sizes(self, plan: Plan) -> Sequence[int | None]:
        return self.transitive_sizes or [plan.settings.transfer_size]

    def _extras(self, plan: Plan) -> None:
        tables: dict[str, Table] = {}
        table, *_ = self._evidence(plan).table()
        if self.novel:
            tables["novel"] = novel_tasks(self._novel(plan), self._imagenet(plan))
        if self.transitive:
            tables["transitive"] = transitive(plan, self.transitive, self._sizes(plan))
        if self.fine_tune:
            tables["fine_tune"], rankings = fine_tuned(plan, table, self.fine_tune)
            write_json(plan.root / "fine_tune.json", rankings)
        others = {}
        for name, changes in self.variants.items():
            others[name], *_ = self._evidence(Plan(self.settings.but(changes), plan.root)).table()
        if others:
            middle = max(1, len(plan.tasks) // 2)
            seeds = [other for name, other in others.items() if name.startswith("seed ")]
            if seeds:
                tables["spread"] = spread([table, *seeds])
            tables["stability"] = stability(table, others, middle, plan.settings.max_order)
        for name, (header, rows) in tables.items():
            write_csv(plan.root / f"{name}.csv", header, rows)

    def _examples(self, engine: Engine, plan: Plan) -> None:
        """Pictures of the fully supervised network, the one from scratch and the best transfer, per dense target."""
        table = TransfersTable.read(plan.root / "affinity.csv")
        jobs = []
        for name in plan.targets:
            transfers = [row for row in table.transfers if row.target == name and row.kind == "transfer"]
            if not plan.tasks[name].is_dense or not transfers or self.examples < 1:
                continue
            best = max(transfers, key=lambda row: row.affinity or 0.0)
            specs = {
                "task_specific": plan.task_specific(name), "scratch": plan.scratch(name),
                "transfer": plan.transfer(name, best.sources),
            }  # fmt: skip
            runs = {column: str(spec.folder) for column, spec in specs.items() if spec.job(0).is_done}
            file = plan.root / "examples" / f"{name}-{content_hash([runs, self.examples], plan.root)}.npz"
            kwargs = {"task": plan.references[name], "runs": runs, "count": self.examples, "file": str(file)}
            jobs.append(Job("examples", name, "lightning_taskonomy.studies.jobs.examples", kwargs, file))
        arrays: dict[str, Any] = {}
        for job in engine.run("examples", jobs):
            with np.load(job.done, allow_pickle=False) as content:
                arrays |= {f"{job.name}/{column}": content[column] for column in content.files}
        if arrays:
            with atomic(plan.root / "examples.npz") as path, path.open("wb") as opened:
                np.savez_compressed(opened, **arrays)

    def _results(self, out: Path, page: Path | None) -> Results:
        results = Results(report=page)
        if (out / "affinity.csv").is_file():
            with (out / "affinity.csv").open(newline="") as file:
                header, *rows = list(csv.reader(file))
            results.tables["affinity"] = (header, rows)
        if (out / "solutions.json").is_file():
            for entry in json.loads((out / "solutions.json").read_text()):
                prefix = f"order_{entry['max_order']}/budget_{entry['budget']:g}"
                for name in ("objective", "mean_gain", "mean_quality"):
                    if entry[name] is not None:
                        results.scalars[f"{prefix}/{name}"] = entry[name]
            results.artifacts["solutions"] = out / "solutions.json"
        for name in ("novel", "transitive", "fine_tune", "stability", "spread"):
            if (out / f"{name}.csv").is_file():
                with (out / f"{name}.csv").open(newline="") as file:
                    header, *rows = list(csv.reader(file))
                results.tables[name] = (header, rows)
        if page is not None:
            results.figures = {file.stem: file for file in sorted(page.parent.glob("*.png"))}
        return results

    def dry_run(self, out: Path) -> str:
        """Runs, expected time and disk; see the base class."""
        from lightning_taskonomy.studies.taxonomy.estimate import estimate

        plan = Plan(self.settings, Path(out))
        done = sum(1 for _ in Path(out).glob("runs/*/metrics.json"))
        text = str(estimate(plan, 1 + len(self.variants), self.workers))
        return f"{text}\n{done} runs are done already in {out}" if done else text


def _described(task: Any) -> dict[str, Any]:
    return {
        "family": task.family.value, "kind": task.kind.value, "channels": task.channels,
        "source_only": task.source_only, "units": task.units, "target": task.target,
        "class_names": list(task.class_names) if task.class_names else None,
    }  # fmt: skip
