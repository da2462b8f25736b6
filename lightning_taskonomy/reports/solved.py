"""A solved table in the form that the report's sections and figures read."""

from collections.abc import Sequence
from pathlib import Path

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import families
from lightning_taskonomy.reports.study import StudyResults, TaskInfo
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver, measure_chance
from lightning_taskonomy.tasks import Family

__all__ = ["solved_results"]

_SETTINGS = ("label_costs", "importance", "targets", "source_only", "target_only", "forbidden", "required", "novel")
"""With any of these set, random taxonomies of the whole table are no fair comparison."""

BUDGETS = 27
"""At most so many budgets are solved for the curves."""


def solved_results(
    folder: Path, table: TransfersTable, solver: TaxonomySolver, solutions: Sequence[TaxonomySolution]
) -> StudyResults:
    """Solutions, and beside them those of other budgets, so that a reader sees what one more unit of budget buys.

    Args:
        folder: Where the report will be.
        table: What was solved.
        solver: The solver; its settings hold for the other budgets too.
        solutions: What it returned; the first is the answer.
    """
    answer = solutions[0]
    solved = {(s.max_order, s.budget): s for s in solutions}
    for order in sorted({1, *(s.max_order for s in solutions)}):
        try:
            others = solver.sweep(table, _budgets(table, solver, answer.budget), [order], skip_infeasible=True)
        except InputError:
            continue  # some target has no transfer of so low an order: no curve
        solved = {(s.max_order, s.budget): s for s in others} | solved
    plain = not any(getattr(solver, name) for name in _SETTINGS)
    highest = max(order for order, _ in solved)
    drawn = {key: measure_chance(s, table) for key, s in solved.items() if plain and key[0] == highest}
    family = families((*table.targets, *table.sources))
    rank = {one.value: place for place, one in enumerate(Family)}
    names = dict.fromkeys((*table.targets, *table.sources))
    tasks = {
        name: TaskInfo(name=name, family=family.get(name, ""), source_only=name not in answer.policy)
        for name in sorted(names, key=lambda name: rank.get(family.get(name, ""), len(rank)))
    }
    return StudyResults(
        folder=folder,
        table=table,
        tasks=tasks,
        taxonomies=tuple(solved[key] for key in sorted(solved)),
        chance={key: chance for key, chance in drawn.items() if chance is not None},
        requested=answer,
    )


def _budgets(table: TransfersTable, solver: TaxonomySolver, requested: float) -> list[float]:
    """Every number of tasks where labels cost alike; else even steps up to all labels."""
    total = sum(solver.label_costs.get(name, 1.0) for name in table.sources)
    if not solver.label_costs and total <= BUDGETS:
        return [float(number) for number in range(1, int(total) + 1)]
    return sorted({float(f"{total * step / (BUDGETS - 1):.3g}") for step in range(1, BUDGETS)} | {requested})
