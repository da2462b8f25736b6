"""The tables of a Taskonomy study, from the files that its finished runs left."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_taskonomy.affinity import TransfersTable, win_rate
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import atomic
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers.taxonomy import as_entry, measure_chance
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.runs import content_hash
from lightning_taskonomy.studies.taxonomy.analysis import mean_scores, read_scores, shuffled
from lightning_taskonomy.studies.taxonomy.fine_tune import fine_tuned
from lightning_taskonomy.studies.taxonomy.measurements import Measurements
from lightning_taskonomy.studies.taxonomy.novel import novel_tasks
from lightning_taskonomy.studies.taxonomy.plan import RANDOM, TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.transitive import transitive
from lightning_taskonomy.studies.taxonomy.variants import spread, stability

if TYPE_CHECKING:
    from lightning_taskonomy.studies.taxonomy.study import TaxonomyStudy

__all__ = [
    "SeededPlans",
    "control",
    "example_jobs",
    "labels",
    "losses",
    "sanity",
    "solutions",
    "taxonomy_tables",
    "write_examples",
]

SeededPlans = Sequence[TaxonomyPlan]
"""One plan under several seeds, the study's own first."""


def taxonomy_tables(study: "TaxonomyStudy", folder: Path) -> Iterator[tuple[str, Table | Any]]:
    """Affinities, taxonomies of every budget, and what else was asked for, by name of file.

    Args:
        study: The study.
        folder: Its folder.

    Raises:
        InputError: What is finished is not enough.
    """
    plan = study.plan(folder)
    yield "tasks.json", plan.described()
    measured = Measurements(plan, study.same_images)
    table, *_ = measured.table()
    table.write(folder / "affinity.csv")
    yield "losses.csv", losses(measured)
    yield "sanity.csv", sanity(plan)
    yield "labels.json", labels(plan)
    if study.controls:
        plans = [plan, *study.seeded(plan).values()]
        yield "control.json", [control(pair, plans, study.same_images) for pair in study.controls]
    solver = TaxonomySolver(label_costs=study.label_costs, importance=study.importance)
    budgets = study.budgets or list(range(1, len(plan.tasks) + 1))
    table = TransfersTable.read(folder / "affinity.csv")  # as other commands read it
    yield (
        "solutions.json",
        solutions(table, solver, budgets, study.max_order, draws=study.random_taxonomies, seed=study.seed),
    )
    write_examples(folder, example_jobs(plan, table, study.examples))
    yield from _beyond(study, plan, measured)


def _beyond(study: "TaxonomyStudy", plan: TaxonomyPlan, measured: Measurements) -> Iterator[tuple[str, Table | Any]]:
    table, *_ = measured.table()
    if study.novel:
        yield "novel.csv", novel_tasks(replace(measured, novel=True), study.fixed(plan))
    if study.transitive:
        yield "transitive.csv", transitive(plan, study.transitive, study.chain_sizes)
    if study.fine_tune:
        rows, rankings = fine_tuned(plan, table, study.fine_tune)
        yield "fine_tune.csv", rows
        yield "fine_tune.json", rankings
    others = {name: Measurements(one, study.same_images).table()[0] for name, one in study.others(plan).items()}
    if study.seeds:
        yield "spread.csv", spread([table, *(others[name] for name in study.seeded(plan))])
    if others:
        yield "stability.csv", stability(table, others, max(1, len(plan.tasks) // 2), study.max_order)


def losses(measurements: Measurements) -> Table:
    """The mean score of every network over the images that the affinity is measured on."""
    _, scores, images, _ = measurements.table()
    rows = [
        [target, len(sources), ";".join(sources), kind, f"{value:.6g}"]
        for (target, kind, sources), value in mean_scores(scores, images)
    ]
    return ["target", "order", "sources", "kind", "mean_score"], rows


def sanity(plan: TaxonomyPlan) -> Table:
    """Table 1: win rates of task-specific networks against the average guess and against a random encoder."""
    rows = []
    for name in plan.tasks:  # nothing is transferred to source-only ones, which the paper's Table 1 leaves open too
        run = plan.task_specific(name)
        if not run.is_done:
            continue
        _, scores = read_scores(run.folder / "scores.npz", name)
        rivals = [plan.average(name).done[0], plan.transfer(name, [RANDOM]).folder / "scores.npz"]
        rates = [win_rate(scores, read_scores(file, name)[1]) if file.is_file() else float("nan") for file in rivals]
        rows.append([name, *(f"{rate:.6g}" for rate in rates)])
    return ["task", "win_rate_vs_average", "win_rate_vs_random_encoder"], rows


def labels(plan: TaxonomyPlan) -> dict[str, int]:
    """Images that a source and a transfer train on.

    Raises:
        InputError: A split was not prepared.
    """
    prepared = plan.prepared
    for split, job in prepared.items():
        if not job.is_done:
            raise InputError(f"{plan.root}: split {split!r} of the data is not prepared; see its failures.json")
    counts = {split: json.loads(job.done[0].read_text())["images"] for split, job in prepared.items()}
    transferred = min(plan.settings.transfer_size or counts["validation"], counts["validation"])
    return {"labels_per_source": counts["train"], "labels_per_transfer": transferred}


def control(pair: tuple[str, str], plans: SeededPlans, same_images: bool) -> dict[str, Any]:
    """Does a related source beat a random encoder, over seeds; and does it when scores are shuffled?

    Args:
        pair: Source and target.
        plans: The study under several seeds.
        same_images: As in ``Measurements``.
    """
    source, target = pair
    seeds, rates, null, affinities = [], [], [], []
    for plan in plans:
        runs = [plan.transfer(target, [name]) for name in (source, RANDOM)]
        if not all(run.is_done for run in runs):
            continue
        scores = {
            (target, "transfer", (name,)): read_scores(run.folder / "scores.npz", target)[1]
            for name, run in zip((source, RANDOM), runs, strict=True)
        }
        mixed = shuffled({target: scores}, plan.settings.seed)[target]  # type: ignore[dict-item]  # keys are literal kinds
        seeds.append(plan.settings.seed)
        rates.append(win_rate(*scores.values()))
        null.append(win_rate(*mixed.values()))
        table, *_ = Measurements(plan, same_images).table()
        row = next((row for row in table.transfers if row.key == (target, "transfer", (source,))), None)
        affinities.append(None if row is None else row.affinity)
    return {
        "source": source, "target": target, "seeds": seeds,
        "win_rate_vs_random_encoder": rates, "shuffled": null, "affinity_per_seed": affinities,
    }  # fmt: skip


def solutions(
    table: TransfersTable, solver: TaxonomySolver, budgets: Sequence[float], max_order: int, *, draws: int, seed: int
) -> list[dict[str, Any]]:
    """(IV) The best taxonomy of each budget and order, each compared with random ones.

    Args:
        table: The transfers.
        solver: The solver with its costs and weights.
        budgets: Supervision budgets.
        max_order: The highest order.
        draws: Random taxonomies per budget and order.
        seed: Of the draws.
    """
    best = solver.sweep(table, budgets, range(1, max_order + 1))
    return [as_entry(solution, measure_chance(solution, table, count=draws, seed=seed)) for solution in best]


def example_jobs(plan: TaxonomyPlan, table: TransfersTable, count: int) -> list[Job]:
    """Pictures of the fully supervised network, the one from scratch and the best transfer, per dense target."""
    jobs = []
    for name in plan.targets:
        transfers = [row for row in table.transfers if row.target == name and row.kind == "transfer"]
        if not plan.tasks[name].is_dense or not transfers or count < 1:
            continue
        best = max(transfers, key=lambda row: row.affinity or 0.0)
        networks = {
            "task_specific": plan.task_specific(name), "scratch": plan.scratch(name),
            "transfer": plan.transfer(name, best.sources),
        }  # fmt: skip
        runs = {column: str(run.folder) for column, run in networks.items() if run.is_done}
        file = plan.root / "examples" / f"{name}-{content_hash([runs, count], plan.root)}" / "examples.npz"
        arguments = {"task": plan.references[name], "runs": runs, "count": count, "file": str(file)}
        function = "lightning_taskonomy.studies.jobs.examples"
        jobs.append(Job(kind="examples", name=name, function=function, arguments=arguments, done=(file,)))
    return jobs


def write_examples(root: Path, jobs: Sequence[Job]) -> None:
    """Collects the pictures of all targets in ``examples.npz``."""
    arrays = dict(_arrays(job for job in jobs if job.is_done))
    if arrays:
        with atomic(root / "examples.npz") as path, path.open("wb") as file:
            columns: Mapping[str, Any] = arrays
            np.savez_compressed(file, **columns)


def _arrays(jobs: Iterator[Job]) -> Iterator[tuple[str, Any]]:
    for job in jobs:
        with np.load(job.done[0], allow_pickle=False) as content:
            yield from ((f"{job.name}/{column}", content[column]) for column in content.files)
