"""Which networks a grouping study trains once others are measured, and what chooses among them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import starmap
from typing import TYPE_CHECKING

from lightning_taskonomy.affinity.groupings import (
    Affinities,
    GroupingsTable,
    NetworkKey,
    by_affinity,
    candidate_groups,
    completed,
)
from lightning_taskonomy.callbacks.affinity import MEASURES
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping import GroupingSolver, next_trainings, searched
from lightning_taskonomy.studies.grouping.choices import Chooser
from lightning_taskonomy.studies.grouping.measurements import Measured, groupings_table, measure
from lightning_taskonomy.studies.grouping.plan import CANDIDATE, Candidate, GroupingPlan
from lightning_taskonomy.studies.grouping.prices import Prices

if TYPE_CHECKING:
    from lightning_taskonomy.studies.grouping.study import GroupingStudy

__all__ = ["affinities", "chooser", "joint_losses", "trained"]

_STAND_INS = ("esa", *MEASURES)
"""What methods select by that are no final losses."""


def trained(study: "GroupingStudy", plan: GroupingPlan) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates whose training was asked for, and those of them that are still to be trained.

    Args:
        study: The study.
        plan: The runs under one seed.

    Raises:
        InputError: What is finished is not enough to ask for more.
    """
    networks, runs = plan.first(), plan.is_over
    while all(map(runs, networks)):
        wanted = dict.fromkeys(_asked(study, plan, measure(plan, networks)))
        asked = [network for network in wanted if network not in networks]
        if not asked:
            return networks, []
        networks += asked
    return networks, [network for network in networks if not runs(network)]


def _asked(study: "GroupingStudy", plan: GroupingPlan, measured: Sequence[Measured]) -> Iterator[Candidate]:
    """What the losses so far ask to be trained to the end."""
    tasks, prices = list(plan.tasks), study.prices(plan)
    solver = study.solver
    match study.candidates:
        case "early":
            table, solver = groupings_table(tasks, measured, "early"), _without_limits(solver)
        case "pairs":
            validation = groupings_table(tasks, measured, "validation")
            table = _by_pairs(validation, _open_groups(study, tasks, validation, measured))
        case "search":
            validation = groupings_table(tasks, measured, "validation")
            groups = _open_groups(study, tasks, validation, measured)
            asked = next_trainings(validation, groups, study.all_budgets, solver, prices.table)
            yield from starmap(Candidate, asked.networks)
            return
        case _:
            return
    for solution in solver.sweep(prices.table(table), study.all_budgets, skip_infeasible=True):
        for network in solution.networks:
            yield Candidate(network.tasks, network.size)


def _open_groups(
    study: "GroupingStudy", tasks: Sequence[str], validation: GroupingsTable, measured: Sequence[Measured]
) -> list[NetworkKey]:
    """The candidates that are trained or may be, by tasks and size: all but those whose training failed."""
    failed = {(m.network.tasks, m.network.size) for m in measured if m.reason and m.network.kind == CANDIDATE}
    return [key for key in candidate_groups(tasks, validation, single_cost=study.single_size) if key not in failed]


def _by_pairs(validation: GroupingsTable, groups: Sequence[NetworkKey]) -> GroupingsTable:
    """The Higher Order Approximation, by those pairs whose training did not fail."""
    small = GroupingsTable(validation.tasks, tuple(n for n in validation.networks if len(n.tasks) < 3))
    return completed(small, groups, corrected=False)


def _without_limits(solver: GroupingSolver) -> GroupingSolver:
    """For what is no final loss, such as early losses: limits are on final ones."""
    return solver.replace(limits={})


def chooser(study: "GroupingStudy", plan: GroupingPlan, measured: Sequence[Measured], prices: Prices) -> Chooser:
    """What chooses among the networks of one seed.

    Args:
        study: The study.
        plan: The runs under that seed.
        measured: What was trained.
        prices: What networks cost.

    Raises:
        InputError: A task is served by no network that was trained.
    """
    tasks = list(plan.tasks)
    validation = groupings_table(tasks, measured, "validation")
    by = dict(_tables(study, plan, measured, validation, prices))
    return Chooser(
        tasks=tasks,
        seed=plan.settings.seed,
        budgets=study.all_budgets,
        validation=prices.table(validation),
        test=prices.table(groupings_table(tasks, measured, "test")),
        draws=study.candidates == "all" or study.groups is not None,
        by={
            method: (_without_limits(study.solver) if method in _STAND_INS else study.solver, prices.table(table))
            for method, table in by.items()
        },
        measured=measured,
        costs=prices.of({one.network for one in measured}),
    )


def affinities(plan: GroupingPlan) -> Affinities | None:
    """What one joint training measured, if that was asked for and is done."""
    file = plan.run(plan.joint).folder / "affinities.csv"
    return Affinities.read(file) if plan.settings.affinity_steps and file.is_file() else None


def joint_losses(plan: GroupingPlan, measured: Sequence[Measured]) -> dict[str, float]:
    """The validation losses of the network in which affinities are measured, by which shares of losses are weighed."""
    return next((dict(m.losses.get("validation", {})) for m in measured if m.network == plan.joint), {})


def _tables(
    study: "GroupingStudy", plan: GroupingPlan, measured: Sequence[Measured], validation: GroupingsTable, prices: Prices
) -> Iterator[tuple[str, GroupingsTable]]:
    """What each method selects by; costs are sizes."""
    tasks, mode, keys = list(plan.tasks), study.candidates, tuple(validation.by_key)
    if mode == "search":
        yield "search", completed(validation, _open_groups(study, tasks, validation, measured))
    elif mode == "pairs":
        yield "hoa", _by_pairs(validation, _open_groups(study, tasks, validation, measured))
    elif mode != "early":
        yield "optimal", validation
        with suppress(InputError):  # no pair of some task was trained
            yield "hoa", _by_pairs(validation, keys)
    if mode not in ("pairs", "search"):  # there the candidates of early stopping are only those that were asked for
        with suppress(InputError):  # a task has no loss early on
            yield "esa", groupings_table(tasks, measured, "early")
    if mode == "all":
        with suppress(InputError):  # networks failed, without which a task stays unserved
            yield "search", completed(searched(validation, keys, study.all_budgets, study.solver, prices.table), keys)
    if (measures := affinities(plan)) is not None:
        scale = joint_losses(plan, measured)
        for measure in measures.values:
            with suppress(InputError):  # a pair was never measured
                yield measure, by_affinity(measures.of(measure, tasks), tasks, keys, scale=scale)
