"""Which networks a grouping study trains once others are measured, and what chooses among them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lightning_taskonomy.affinity.groupings import GroupingsTable, higher_order
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.grouping.choices import Chooser
from lightning_taskonomy.studies.grouping.measurements import Measured, groupings_table, measure
from lightning_taskonomy.studies.grouping.plan import Candidate, GroupingPlan
from lightning_taskonomy.studies.grouping.prices import Prices

if TYPE_CHECKING:
    from lightning_taskonomy.studies.grouping.study import GroupingStudy

__all__ = ["chooser", "trained"]


def trained(study: "GroupingStudy", plan: GroupingPlan) -> tuple[list[Candidate], list[Candidate]]:
    """The candidates whose training was asked for, and those of them that are still to be trained.

    Args:
        study: The study.
        plan: The runs under one seed.

    Raises:
        InputError: What is finished is not enough to ask for more.
    """
    networks, runs = plan.first(), plan.is_done
    while all(map(runs, networks)):
        asked = [one for one in _asked(study, plan, measure(plan, networks)) if one not in networks]
        if not asked:
            return networks, []
        networks += asked
    return networks, [network for network in networks if not runs(network)]


def _asked(study: "GroupingStudy", plan: GroupingPlan, measured: Sequence[Measured]) -> Iterator[Candidate]:
    """What the losses so far ask to be trained to the end."""
    tasks, prices = list(plan.tasks), study.prices(plan)
    match study.candidates:
        case "early":
            table = groupings_table(tasks, measured, "early")
        case "pairs":
            table = higher_order(groupings_table(tasks, measured, "validation"), cost=1.0)
        case _:
            return
    for solution in study.solver.sweep(prices.table(table), study.all_budgets, skip_infeasible=True):
        for network in solution.networks:
            yield Candidate(network.tasks, network.size)


def chooser(
    study: "GroupingStudy", tasks: Sequence[str], seed: int, measured: Sequence[Measured], prices: Prices
) -> Chooser:
    """What chooses among the networks of one seed.

    Args:
        study: The study.
        tasks: All tasks.
        seed: The seed.
        measured: What was trained under it.
        prices: What networks cost.

    Raises:
        InputError: A task is served by no network that was trained.
    """

    def table(split: str) -> GroupingsTable:
        return prices.table(groupings_table(tasks, measured, split))

    try:
        early = table("early")
    except InputError:  # a task has no early loss
        early = None
    return Chooser(
        tasks=tasks,
        seed=seed,
        solver=study.solver,
        budgets=study.all_budgets,
        validation=table("validation"),
        test=table("test"),
        early=early,
        measured=measured,
        costs=prices.of({one.network for one in measured}),
    )
