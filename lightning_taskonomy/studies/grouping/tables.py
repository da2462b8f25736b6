"""The tables of a grouping study, from the files that its finished runs left."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.affinity.groupings import Affinities, GroupingsTable, relationships
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping import ApproximationRow, approximation_rows
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.grouping.choices import CHOICES
from lightning_taskonomy.studies.grouping.examples import example_jobs, write_examples
from lightning_taskonomy.studies.grouping.measurements import SPLITS, Measured, groupings_table, measure
from lightning_taskonomy.studies.grouping.plan import CANDIDATE, Candidate, GroupingPlan
from lightning_taskonomy.studies.grouping.selection import affinities, chooser, joint_losses, trained
from lightning_taskonomy.studies.taxonomy.measurements import Measurements

if TYPE_CHECKING:
    from lightning_taskonomy.studies.grouping.study import GroupingStudy

__all__ = ["grouping_tables"]

_MEASURED_STEP = 5
"""What a step that measures affinities costs beyond a plain one, in plain ones, at about five tasks."""

_LOSSES = ("network", "kind", "tasks", "size", "cost", "seed", "split", "task", "loss")
_TRAININGS = ("network", "kind", "size", "seed", "epochs", "best_epoch", "seconds", "status", "reason", "folder")


def grouping_tables(study: "GroupingStudy", folder: Path) -> Iterator[tuple[str, Table | Any]]:
    """Losses, choices, relationships and affinities, by name of file.

    Args:
        study: The study.
        folder: Its folder.

    Raises:
        InputError: What is finished is not enough.
    """
    plans = study.plans(folder)
    plan = plans[0]
    for job in (plan.statistics, plan.encoders):
        if not job.is_done:
            raise InputError(f"{folder} holds no {job.kind} yet; run stage 'data' first, or see failures.json")
    yield "statistics.json", json.loads(plan.statistics.done[0].read_text())
    yield "backbones.json", json.loads(plan.encoders.done[0].read_text())
    prices = study.prices(plan)
    if prices.inference is not None:
        prices.inference.write(folder)
    by_seed = {one.settings.seed: measure(one, trained(study, one)[0] + one.compared()) for one in plans}
    measured = [one for several in by_seed.values() for one in several]
    costs = prices.of({one.network for one in measured})
    yield "trainings.csv", (_TRAININGS, [_training(one, folder) for one in measured])
    yield "network_losses.csv", (_LOSSES, _losses(measured, costs))
    for split in SPLITS:
        if split != "early" or any(split in one.losses for one in measured):
            groupings_table(list(plan.tasks), measured, split).write(folder / f"{split}.csv")
    choices = [choice for one in plans for choice in chooser(study, one, by_seed[one.settings.seed], prices).choices()]
    yield "choices.csv", ((*CHOICES, *plan.tasks), [choice.row(list(plan.tasks)) for choice in choices])
    if study.candidates == "all" and any(one.method == "optimal" for one in choices):
        yield "approximations.csv", _approximations(study, plan, measured)
    write_examples(folder, example_jobs(study, plan))
    _affinities(study, plan, folder).write(folder / "affinities.csv")


def _training(one: Measured, folder: Path) -> list[object]:
    network = one.network
    return [
        network.name, network.kind, network.size, one.seed, one.validations, one.best, one.seconds,
        "failed" if one.reason else "trained", one.reason, str(one.folder.relative_to(folder)),
    ]  # fmt: skip


def _losses(measured: Sequence[Measured], costs: Mapping[Candidate, float]) -> list[list[object]]:
    return [
        [
            one.network.name, one.network.kind, ";".join(one.network.tasks), one.network.size, costs[one.network],
            one.seed, split, task, loss,
        ]
        for one in measured
        for split in SPLITS
        for task, loss in one.losses.get(split, {}).items()
    ]  # fmt: skip


def _affinities(study: "GroupingStudy", plan: GroupingPlan, folder: Path) -> Affinities:
    """How much each partner helps each task, by every measure that was taken."""
    tasks = tuple(plan.tasks)
    values: dict[str, NDArray[np.float64]] = {}
    try:
        test = GroupingsTable.read(folder / "test.csv")
        values["cotraining"] = relationships(test, single_cost=study.single_size).change
    except InputError:  # pairs or single networks were not trained
        values["cotraining"] = np.full((len(tasks), len(tasks)), np.nan)
    if (taxonomy := study.taxonomy) is not None:
        transfers, *_ = Measurements(taxonomy.plan(folder), taxonomy.same_images).table()
        transfers.write(folder / "affinity.csv")
        values["transfer"] = _transfer(transfers, tasks)
    if (joint := affinities(plan)) is not None:
        values |= {measure: joint.of(measure, tasks) for measure in joint.values}
    return Affinities(tasks, values)


def _approximations(study: "GroupingStudy", plan: GroupingPlan, measured: Sequence[Measured]) -> Table:
    """What less training would have cost and lost, by the mean losses of all seeds."""
    tasks, columns = list(plan.tasks), [one.name for one in fields(ApproximationRow)]
    validation, test = (groupings_table(tasks, measured, split) for split in ("validation", "test"))
    try:
        early = groupings_table(tasks, measured, "early")
    except InputError:  # a task has no loss early on
        early = None
    taken = [one.validations for one in measured if one.network.kind == CANDIDATE and not one.reason]
    prices, joint = study.prices(plan), affinities(plan)
    cheapest = study.solver.replace(limits={}).sweep(prices.table(validation), study.all_budgets, skip_infeasible=True)
    rows = approximation_rows(
        validation,
        test,
        [solution.budget for solution in cheapest],
        early=early,
        early_part=1 / mean(taken),
        affinities=joint,
        affinity_trainings=1 + _MEASURED_STEP / (study.affinity_steps or 1),
        scale=joint_losses(plan, measured) if joint else None,
        solver=study.solver.replace(limits={}),
        single_cost=study.single_size,
        price=prices.table,
    )
    return columns, [[None if value != value else value for value in astuple(row)] for row in rows]  # NaN is empty


def _transfer(transfers: TransfersTable, tasks: Sequence[str]) -> NDArray[np.float64]:
    """(T, T) affinity of the transfer from the row's task to the column's."""
    values = np.full((len(tasks), len(tasks)), np.nan)
    for row in transfers.candidates:
        if row.kind == "transfer" and row.order == 1 and row.target in tasks and row.sources[0] in tasks:
            values[tasks.index(row.sources[0]), tasks.index(row.target)] = row.affinity
    return values
