"""The report of a solved groupings table: which networks to keep under each budget, and what that is worth."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lightning_taskonomy.affinity.groupings import (
    GroupingsTable,
    Network,
    Relationships,
    early_correlation,
    higher_order,
    max_ratio_error,
    random_groupings,
    relationships,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.grouping import figures
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.words import join, readable, whole
from lightning_taskonomy.solvers.grouping import GroupingSolution, GroupingSolver, pessimal, score, served
from lightning_taskonomy.solvers.taxonomy import Band

__all__ = [
    "ESA", "HOA", "OPTIMAL", "random_bands", "write_approximations", "write_groupings", "write_relations",
    "write_solved_groupings",
]  # fmt: skip

STEPS = 9
"""At most so many budgets are drawn beside those asked for."""

PESSIMAL_SECONDS = 2.0
"""The search for the worst grouping of a budget is given up after so long."""

OPTIMAL, ESA, HOA = "optimal", "early stopping (ESA)", "higher order (HOA)"

SELECTED_BY = {
    "none": "the losses at the end of training",
    "hoa": "losses in which networks of three and more tasks are predicted from the pairs (Higher Order Approximation)",
    "esa": "losses early in training (Early Stopping Approximation)",
}


@dataclass(frozen=True)
class _LossTables:
    """What was measured: the losses that decide, those that count, and early ones."""

    validation: GroupingsTable
    test: GroupingsTable
    early: GroupingsTable | None

    def kept(self, solution: GroupingSolution) -> figures.KeptNetworks:
        """A solution with the losses that count; kept networks serve by their validation losses."""
        losses = score(solution.networks, self.test, self.validation)
        return figures.KeptNetworks(
            budget=solution.budget,
            networks=solution.networks,
            serves=served(solution.networks, self.validation),
            loss=sum(losses.values()),
        )


def write_solved_groupings(
    folder: Path,
    solver: GroupingSolver,
    solutions: Sequence[GroupingSolution],
    validation: GroupingsTable,
    *,
    test: GroupingsTable | None = None,
    early: GroupingsTable | None = None,
    approximation: Literal["none", "hoa", "esa"] = "none",
    remove_idle: bool = False,
) -> Path:
    """Writes ``index.html`` with its PNG and CSV files on what ``solve grouping`` found.

    Other budgets and the approximations are solved too, for the curves, and compared with random and pessimal
    groupings.

    Args:
        folder: Where the page goes.
        solver: The solver.
        solutions: What it returned, one per budget.
        validation: The losses that decide which kept network serves a task.
        test: The losses that are reported; those of ``validation`` if not given.
        early: Losses early in training, for the approximation by them.
        approximation: What the solutions were selected by.
        remove_idle: Whether networks that serve no task were removed and the selection made again.

    Returns:
        The path of ``index.html``.
    """
    tables = _LossTables(validation, test or validation, early)
    tasks = validation.tasks
    page = Page(
        folder,
        "Which tasks to learn together",
        f"{len(tasks)} tasks, {len(validation.networks)} candidate networks, {len(solutions)} inference budgets.",
    )
    page.text(_lead(solver, approximation, remove_idle, "validation" if test is None else "test"))
    if validation.unmeasured:
        page.text(f"Left out, as a loss is NaN: {'; '.join(validation.unmeasured)}.")
    page.section("Answer")
    _answer(page, solutions, tables)
    page.section("The networks")
    kept = [tables.kept(solution) for solution in solutions]
    page.figure(
        figures.kept_networks(kept, tasks),
        "networks",
        alt="; ".join(f"budget {k.budget:g}: {_in_words(k.networks)}" for k in kept),
        caption="A box is a network that is kept. Hollow: trained along because it helps the others, not used.",
    )
    page.section("Loss against budget")
    _curves(page, solver, solutions, tables, "total validation loss" if test is None else "total test loss")
    page.section("What tasks do to each other")
    try:
        write_relations(page, relationships(tables.test))
    except InputError as reason:
        page.text(f"Not here: {reason}.")
    page.section("Approximations")
    write_approximations(page, tables.validation, tables.test, tables.early)
    return page.write()


def write_groupings(folder: Path, table: GroupingsTable) -> Path:
    """Writes the page on a table of groupings alone: what to keep under each of even budgets.

    Args:
        folder: Where the page goes.
        table: The losses.

    Returns:
        The path of ``index.html``.
    """
    solver = GroupingSolver()
    solutions = solver.sweep(table, _budgets(table, ()), skip_infeasible=True)
    return write_solved_groupings(folder, solver, solutions, table)


def _answer(page: Page, solutions: Sequence[GroupingSolution], tables: _LossTables) -> None:
    """The networks of every budget, in words and numbers."""
    kept = [tables.kept(solution) for solution in solutions]
    page.answer([f"Budget {k.budget:g}: keep {_in_words(k.networks)}. Total loss {k.loss:.4f}." for k in kept])
    losses = [score(s.networks, tables.test, tables.validation) for s in solutions]
    page.table(
        "solutions",
        ("budget", "cost", "networks", "total loss", *map(readable, tables.test.tasks), "proven"),
        [
            (whole(s.budget), whole(s.cost), len(s.networks), k.loss, *(loss[t] for t in tables.test.tasks), s.proven)
            for s, k, loss in zip(solutions, kept, losses, strict=True)
        ],
        caption="Losses of every task; proven: no better choice exists by the losses that it was chosen by.",
    )


def _lead(solver: GroupingSolver, approximation: str, remove_idle: bool, images: str) -> str:
    """How the networks were chosen."""
    what = "total loss" if solver.objective == "total" else "largest loss of a task"
    weights = join([f"{readable(task)} × {weight:g}" for task, weight in solver.importance.items()])
    limits = join([f"{readable(task)} at most {limit:g}" for task, limit in solver.limits.items()])
    return "".join(
        [
            f"Networks were chosen by {SELECTED_BY[approximation]}, for the lowest {what} within each budget",
            f", weighted {weights}" if solver.importance else "",
            f", with {limits}" if solver.limits else "",
            "; chosen ones that serve no task once trained were removed and the choice made again" * remove_idle,
            f". Validation losses decide which network serves a task; losses below are those of {images} images.",
        ]
    )


def _curves(
    page: Page, solver: GroupingSolver, solutions: Sequence[GroupingSolution], tables: _LossTables, measure: str
) -> None:
    """Every way to choose, at every budget."""
    budgets = _budgets(tables.validation, [s.budget for s in solutions])
    plain = solver.objective == "total" and not solver.importance and not solver.limits
    exact = OPTIMAL if plain else "all losses known"
    ways = {exact: tables.validation}
    try:
        ways[HOA] = higher_order(tables.validation)
    except InputError:
        page.text("Without networks of all pairs of tasks there is no Higher Order Approximation.")
    if tables.early is not None:
        ways[ESA] = tables.early
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, table in ways.items():
        try:
            kept = [tables.kept(s) for s in solver.sweep(table, budgets, skip_infeasible=True)]
        except InputError as reason:  # its losses are beyond the limits
            page.text(f"No curve of {name}: {reason}.")
        else:
            curves[name] = [(k.budget, k.loss) for k in kept]
    random = random_bands(tables.test, budgets)
    worst = []
    for budget, _ in random:
        with suppress(InputError):  # no choice spends this budget
            worst.append(pessimal(tables.test, budget, time_limit=PESSIMAL_SECONDS))
    if all(solution.proven for solution in worst):
        curves["pessimal"] = [(solution.budget, solution.objective) for solution in worst]
    page.figure(
        figures.grouping_curves(curves, random=random, points=_points(tables.test), measure=measure),
        "loss-by-budget",
        alt=f"{measure.capitalize()} against the budget; "
        + "; ".join(f"{name}: {', '.join(f'{x:g} {y:.3f}' for x, y in line)}" for name, line in curves.items()),
        caption=f"{exact.capitalize()}: chosen by {SELECTED_BY['none']}. Random and pessimal groupings spend the "
        "budget.",
    )


def write_relations(page: Page, relations: Relationships, alone: str = "a half-size network") -> None:
    """The relationship table and the symmetric affinity, as figure and table.

    Args:
        page: Where they go.
        relations: The change of each task with each partner.
        alone: What pairs are compared with, in words.
    """
    page.figure(
        figures.relationship_matrices(
            {"Trained in a pair": relations.change, "Mean of both directions": relations.symmetric}, relations.tasks
        ),
        "relationships",
        alt="How much each task's loss falls when trained with each other; relationships-numbers.csv has the numbers.",
        caption=f"Per cent by which the loss is lower in a full-size network of two than in {alone} alone; "
        "blue helps, red hurts. Right: what a pair does to both, its affinity.",
    )
    rows: list[list[Cell]] = [
        [readable(task), *map(float, row), float(mean)]
        for task, row, mean in zip(relations.tasks, relations.change, relations.as_partner, strict=True)
    ]
    rows.append(["mean", *map(float, relations.with_partner), float(np.nanmean(relations.change))])
    page.table("relationships-numbers", ("trained with", *map(readable, relations.tasks), "mean"), rows)


def write_approximations(
    page: Page, validation: GroupingsTable, test: GroupingsTable, early: GroupingsTable | None
) -> None:
    """How well losses that were not trained to the end tell the real ones, as a figure.

    Args:
        page: Where it goes.
        validation: The losses of which the higher orders are predicted.
        test: The losses at the end.
        early: Losses early in training, if there are any.
    """
    panels: dict[str, tuple[Sequence[float], Sequence[float], str]] = {}
    try:
        guessed = higher_order(validation)
        error = max_ratio_error(guessed, validation)
        groups = [p for p in zip(guessed.networks, validation.networks, strict=True) if len(p[1].tasks) > 2]
        predicted, measured = ([loss for pair in groups for loss in pair[side].losses] for side in (0, 1))
        panels["Higher order: a loss per task"] = predicted, measured, f"mean max-ratio error {100 * error:.1f} %"
    except InputError as reason:
        page.text(f"No Higher Order Approximation: {reason}.")
    if early is not None:
        (begun, final), _ = GroupingsTable.common(early, test)
        first, last = ([float(np.mean(network.losses)) for network in table.networks] for table in (begun, final))
        panels["Early stopping: mean loss"] = first, last, f"Pearson r = {early_correlation(begun, final):.3f}"
    if panels:
        page.figure(
            figures.approximation_scatter(panels),
            "approximations",
            alt="; ".join(f"{title}: {note}" for title, (_, _, note) in panels.items()),
            caption="Left to right: what is predicted without training every network to the end. Dotted: as measured.",
        )


def random_bands(
    table: GroupingsTable, budgets: Iterable[float], weights: Sequence[float] | None = None
) -> list[tuple[float, Band]]:
    """The 5th percentile, mean and 95th percentile of the total loss of random groupings.

    Budgets that are so small that random groupings hardly ever serve every task are left out.

    Args:
        table: The candidates.
        budgets: The budgets.
        weights: Of each task's loss in the total; 1 if not given.
    """
    weighted = np.ones(len(table.tasks)) if weights is None else np.asarray(weights, float)
    bands = []
    for budget in budgets:
        try:
            totals = random_groupings(table, budget) @ weighted
        except InputError:
            continue
        low, high = np.percentile(totals, [5, 95])
        bands.append((budget, Band(float(low), float(totals.mean()), float(high))))
    return bands


def _budgets(table: GroupingsTable, requested: Iterable[float]) -> list[float]:
    """Those asked for, and even ones from the cheapest network that serves all tasks to one full network per task."""
    costs = sorted({network.cost for network in table.networks})
    span = costs[-1] * (len(table.tasks) - 1)
    step = costs[0] * max(math.ceil(span / costs[0] / (STEPS - 1)), 1)
    return sorted({*requested, *(round(costs[-1] + step * place, 6) for place in range(int(span / step) + 1))})


def _points(table: GroupingsTable) -> dict[str, tuple[float, float]]:
    """Choices without a search: all tasks in one network, and a network for each."""
    points = {}
    for cost in sorted({network.cost for network in table.networks}, reverse=True):
        alone = [table.by_key.get(((task,), cost)) for task in table.tasks]
        losses = [network.losses[0] for network in alone if network is not None]
        if len(losses) == len(table.tasks):
            points[f"a network of cost {cost:g} for each task"] = (cost * len(losses), sum(losses))
        together = table.by_key.get((table.tasks, cost))
        if together is not None:
            points[f"all tasks in one network of cost {cost:g}"] = (cost, sum(together.losses))
    return points


def _in_words(networks: Sequence[Network]) -> str:
    return join([" + ".join(map(readable, n.tasks)) + f" (cost {n.cost:g})" for n in networks])
