"""What approximations cost, how well they order networks, and what is lost by selecting by them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import fsum, nan

from lightning_taskonomy.affinity.groupings import (
    Affinities,
    GroupingsTable,
    NetworkKey,
    by_affinity,
    completed,
    kendall_tau,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping.scoring import score
from lightning_taskonomy.solvers.grouping.search import Price, next_trainings
from lightning_taskonomy.solvers.grouping.solver import GroupingSolver

__all__ = ["ApproximationRow", "approximation_rows", "searched"]


@dataclass(frozen=True)
class ApproximationRow:
    """One approximation at one budget.

    Args:
        approximation: Its name.
        trainings: What it trains before it chooses, in trainings of one full-size network; one of half the size counts
            one half. The training of what it then chooses comes on top where that was not trained: all of it by early
            stopping and affinities, groups of three and more by pairs, nothing after a search.
        kendall_tau: How far it orders the gains of training together as those on test images are; NaN where there is
            no order.
        budget: The inference budget.
        test_loss: The total test loss of what it chooses, each task served by the network best at it on validation.
        optimal_loss: That of what the exhaustive validation losses choose.
        regret: How much higher the former is; below 0 where validation misleads.
    """

    approximation: str
    trainings: float
    kendall_tau: float
    budget: float
    test_loss: float
    optimal_loss: float
    regret: float


def approximation_rows(
    validation: GroupingsTable,
    test: GroupingsTable,
    budgets: Sequence[float],
    *,
    early: GroupingsTable | None = None,
    early_part: float = 0.2,
    affinities: Affinities | None = None,
    affinity_trainings: float = 1.5,
    scale: Mapping[str, float] | None = None,
    solver: GroupingSolver | None = None,
    single_cost: float = 0.5,
    price: Price = lambda table: table,
) -> list[ApproximationRow]:
    """Approximations against exhaustive training: ``exhaustive`` itself, ``hoa``, ``esa``, affinities, and ``search``.

    Args:
        validation: The exhaustive validation losses.
        test: The test losses of the same networks.
        budgets: The inference budgets, each at least what the cheapest networks of all tasks cost.
        early: Validation losses after a part of the training, for ``esa``.
        early_part: That part, above 0, at most 1.
        affinities: One approximation per measure, under its name.
        affinity_trainings: What the joint training that measured them cost in trainings; 1.5 is the most that
            look-ahead affinities of five tasks are to cost when taken at each tenth step.
        scale: That of :func:`~lightning_taskonomy.affinity.groupings.by_affinity`.
        solver: How to choose; its own budget plays no part.
        single_cost: The size of the single-task networks that gains are measured against.
        price: Gives a table, whose costs are sizes, the costs that budgets count.

    Returns:
        Per approximation one row for each budget that its networks meet; none of an approximation that leaves a task
        without a network.

    Raises:
        InputError: As the solver, or the part is out of range.
    """
    if not 0 < early_part <= 1:
        raise InputError(f"early_part {early_part} must be above 0 and at most 1: the part of the training")
    solver = solver or GroupingSolver()
    (validation, test), _ = GroupingsTable.common(validation, test)
    keys = tuple(validation.by_key)
    small = _only(validation, [key for key in keys if len(key[0]) < 3])
    tables: dict[str, tuple[GroupingsTable, float]] = {"exhaustive": (validation, _cost(keys))}
    with suppress(InputError):  # here and below: what is left leaves a task without a network
        tables["hoa"] = completed(small, keys), _cost(small.by_key)
    if early is not None:
        with suppress(InputError):
            (early, _), _ = GroupingsTable.common(early, validation)
            tables["esa"] = early, early_part * _cost(early.by_key)
    for measure in affinities.values if affinities is not None else ():
        assert affinities is not None  # for the type checker alone
        matrix = affinities.of(measure, validation.tasks)
        with suppress(InputError):
            tables[measure] = by_affinity(matrix, validation.tasks, keys, scale=scale), affinity_trainings
    with suppress(InputError):
        trained = searched(validation, keys, budgets, solver, price)
        tables["search"] = completed(trained, keys), _cost(trained.by_key)
    decides, counts = price(validation), price(test)
    optimal = _test_losses(decides, decides, counts, budgets, solver)
    rows = []
    for name, (table, trainings) in tables.items():
        try:
            tau = kendall_tau(table, test, single_cost)
        except InputError:  # all gains alike, or no single-task networks to gain against
            tau = nan
        with suppress(InputError):
            for budget, loss in _test_losses(price(table), decides, counts, budgets, solver).items():
                best = optimal[budget]
                rows.append(ApproximationRow(name, trainings, tau, budget, loss, best, loss - best))
    return rows


def searched(
    losses: GroupingsTable,
    candidates: Sequence[NetworkKey],
    budgets: Sequence[float],
    solver: GroupingSolver,
    price: Price = lambda table: table,
) -> GroupingsTable:
    """What a search would have trained: :func:`~.next_trainings` until its choice stands, on known losses.

    Args:
        losses: Those of all candidates.
        candidates: As for ``next_trainings``.
        budgets: Too.
        solver: Too.
        price: Too.

    Returns:
        The networks that it asks for, in the order of ``losses``.
    """
    asked: set[NetworkKey] = set()
    trained: GroupingsTable | None = None
    while step := next_trainings(trained, candidates, budgets, solver, price).networks:
        asked |= set(step)
        trained = _only(losses, asked)
    assert trained is not None  # nothing is measured at first, so that something is asked for
    return trained


def _only(table: GroupingsTable, keys: Sequence[NetworkKey] | set[NetworkKey]) -> GroupingsTable:
    return GroupingsTable(table.tasks, tuple(network for network in table.networks if network.key in set(keys)))


def _cost(keys: Sequence[NetworkKey] | Mapping[NetworkKey, object]) -> float:
    return fsum(cost for _, cost in keys)


def _test_losses(
    table: GroupingsTable,
    validation: GroupingsTable,
    test: GroupingsTable,
    budgets: Sequence[float],
    solver: GroupingSolver,
) -> dict[float, float]:
    """The weighted total test loss of what a table chooses, by budget; none for budgets below its networks."""
    return {
        solution.budget: fsum(
            solver.importance.get(task, 1.0) * loss
            for task, loss in score(solution.networks, on=test, by=validation).items()
        )
        for solution in solver.sweep(table, budgets, skip_infeasible=True)
    }
