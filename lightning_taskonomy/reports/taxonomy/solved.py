"""The report of a table of transfers: what to train under a budget, and what other budgets buy."""

from pathlib import Path

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import families, family_rank
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.taxonomy import decisions, measurements
from lightning_taskonomy.reports.taxonomy.files import TaskInfo, TaxonomyResults
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver, measure_chance

__all__ = ["solved_results", "write_solved_taxonomy"]

_SETTINGS = ("label_costs", "importance", "targets", "source_only", "target_only", "forbidden", "required", "novel")
"""With any of these set, random taxonomies of the whole table would not be a fair comparison."""

BUDGETS = 27
"""At most so many budgets are solved for the curves."""


def write_solved_taxonomy(
    folder: Path, table: TransfersTable, solver: TaxonomySolver | None = None, solution: TaxonomySolution | None = None
) -> Path:
    """Writes ``index.html`` with its PNG and CSV files on a table of transfers.

    Other budgets are solved too, for the curves, and compared with random taxonomies.

    Args:
        folder: Where the page goes.
        table: The transfers.
        solver: The solver; one of the highest order in the table if not given.
        solution: What it returned for the budget that was asked for; if not given the report recommends a budget.

    Returns:
        The path of ``index.html``.
    """
    results = solved_results(table, solver, solution)
    targets = set(results.taxonomies[0].policy)
    page = Page(
        folder,
        "What to train",
        f"A taxonomy of {len(results.tasks)} tasks: {len(targets)} targets, "
        f"{sum(row.target in targets for row in table.candidates)} measured ways to solve them.",
    )
    for heading, write in (
        ("Answer", decisions.answer),
        ("Other budgets", decisions.taxonomies),
        ("Gain and quality", decisions.gain_quality),
        ("Affinity", measurements.affinity),
        ("Similarity of tasks", measurements.similarity),
    ):
        page.section(heading)
        write(page, results)
    return page.write()


def solved_results(
    table: TransfersTable, solver: TaxonomySolver | None = None, solution: TaxonomySolution | None = None
) -> TaxonomyResults:
    """A solution, and beside it those of other budgets, so that a reader sees what one more unit of budget buys.

    Args:
        table: The transfers.
        solver: Its settings hold for the other budgets too.
        solution: The answer to the budget that was asked for, if one was.

    Raises:
        InputError: No target can be solved.
    """
    solver = solver or TaxonomySolver(max_order=max((row.order for row in table.candidates), default=1))
    highest = solver.max_order if solution is None else solution.max_order
    budgets = _budgets(table, solver, None if solution is None else solution.budget)
    solved = {} if solution is None else {(solution.max_order, solution.budget): solution}
    for order in sorted({1, highest}):
        try:
            others = solver.sweep(table, budgets, [order], skip_infeasible=True)
        except InputError:
            if order == highest and not solved:
                raise
            continue  # some target has no transfer of so low an order: no curve
        solved = {(one.max_order, one.budget): one for one in others} | solved
    plain = not any(getattr(solver, name) for name in _SETTINGS)
    drawn = {key: measure_chance(one, table) for key, one in solved.items() if plain and key[0] == highest}
    targets = next(iter(solved.values())).policy
    family = families((*table.targets, *table.sources))
    names = sorted(
        {**dict.fromkeys(table.targets), **dict.fromkeys(table.sources)},
        key=lambda name: family_rank(family.get(name, "")),
    )
    return TaxonomyResults(
        table=table,
        tasks={
            name: TaskInfo(name=name, family=family.get(name, ""), source_only=name not in targets) for name in names
        },
        taxonomies=tuple(solved[key] for key in sorted(solved)),
        chance={key: chance for key, chance in drawn.items() if chance is not None},
        requested=solution,
    )


def _budgets(table: TransfersTable, solver: TaxonomySolver, requested: float | None) -> list[float]:
    """Every number of tasks where labels cost alike; else even steps up to all labels."""
    total = sum(solver.label_costs.get(name, 1.0) for name in table.sources)
    if not solver.label_costs and total <= BUDGETS:
        return [float(number) for number in range(1, int(total) + 1)]
    even = {float(f"{total * step / (BUDGETS - 1):.3g}") for step in range(1, BUDGETS)}
    return sorted(even if requested is None else even | {requested})
