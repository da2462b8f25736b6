"""What ``solve taxonomy`` found, in the form that the report's sections and figures read."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning_taskonomy.affinity.significance import band, p_value, random_taxonomies
from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import families
from lightning_taskonomy.reports.study import Band, Choice, StudyResults, TaskInfo, Taxonomy
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver
from lightning_taskonomy.tasks import Family

__all__ = ["as_taxonomy", "solved_results"]

_LOG = logging.getLogger(__name__)

DRAWS = 1000
"""Random taxonomies per budget."""

_SETTINGS = ("label_costs", "importance", "targets", "source_only", "target_only", "forbidden", "required", "novel")
"""With any of these set, random taxonomies of the whole table are no fair comparison."""

BUDGETS = 27
"""At most so many budgets are solved for the curves."""


def as_taxonomy(solution: TaxonomySolution, table: TransfersTable | None = None) -> Taxonomy:
    """A solution as the figures read it.

    Args:
        solution: What the solver returned.
        table: Draws random taxonomies of the same budget from it for comparison, where some reach every target.
    """
    policy = tuple(
        Choice(target, row.sources, row.order, row.kind, row.affinity, row.win_rate_vs_scratch,
               row.win_rate_vs_task_specific)
        for target, row in solution.policy.items()
    )  # fmt: skip
    gain = quality = odds = None
    if table is not None and solution.budget >= 1:
        try:
            drawn = random_taxonomies(table, solution.budget, max_order=solution.max_order, count=DRAWS)
        except InputError as error:  # so few random sources hardly ever reach every target
            _LOG.info("budget %g is not compared with random taxonomies: %s", solution.budget, error)
        else:
            gain, quality = Band(*band(drawn.gain)), Band(*band(drawn.quality))
            odds = p_value(solution.objective, drawn.objective)
    return Taxonomy(
        solution.budget, solution.max_order, solution.sources, policy, solution.objective, solution.proven,
        solution.gap, solution.seconds, solution.mean_win_rate_vs_scratch, solution.mean_win_rate_vs_task_specific,
        gain, quality, odds,
    )  # fmt: skip


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
    chosen = solutions[0]
    taken = {(s.max_order, s.budget): s for s in solutions}
    for order in sorted({1, *(s.max_order for s in solutions)}):
        try:
            found = solver.sweep(table, _budgets(table, solver, chosen.budget), [order], skip_infeasible=True)
        except InputError:
            continue  # some target has no transfer of so low an order: no curve
        taken = {(s.max_order, s.budget): s for s in found} | taken
    plain = not any(getattr(solver, name) for name in _SETTINGS)
    highest = max(order for order, _ in taken)
    shown = {key: as_taxonomy(s, table if plain and key[0] == highest else None) for key, s in taken.items()}
    known = families((*table.targets, *table.sources))
    rank = {family.value: place for place, family in enumerate(Family)}
    names = sorted(dict.fromkeys((*table.targets, *table.sources)), key=lambda n: rank.get(known.get(n, ""), len(rank)))
    tasks = {name: TaskInfo(name, known.get(name, ""), source_only=name not in chosen.policy) for name in names}
    answer = shown[chosen.max_order, chosen.budget]
    return StudyResults(folder, table, tasks, tuple(shown[key] for key in sorted(shown)), chosen=answer)


def _budgets(table: TransfersTable, solver: TaxonomySolver, chosen: float) -> list[float]:
    """Every number of tasks where labels cost alike; else even steps up to all labels."""
    total = sum(solver.label_costs.get(name, 1.0) for name in table.sources)
    if not solver.label_costs and total <= BUDGETS:
        return [float(number) for number in range(1, int(total) + 1)]
    return sorted({float(f"{total * step / (BUDGETS - 1):.3g}") for step in range(1, BUDGETS)} | {chosen})
