"""``solve taxonomy``: decisions from a table."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.files import check_writable, write_json
from lightning_taskonomy.manifest import table_file
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers import TaxonomySolver

__all__ = ["solve_taxonomy"]


def solve_taxonomy(
    transfers: Path,
    solver: TaxonomySolver | None = None,
    budget: float | None = None,
    max_order: int | None = None,
    count: int = 1,
    tasks: list[str] | None = None,
    json: bool = False,
    out: Path | None = None,
    report: Path | None = None,
) -> Results:
    """Find what to train under a budget, from a table of transfers.

    Args:
        transfers: The table: a CSV as a study writes it, or the folder of a study that has one.
        solver: The solver with its settings.
        budget: In place of the solver's own.
        max_order: In place of the solver's own.
        count: How many different taxonomies to find, the best first; those after the first are ``alternatives``.
        tasks: The tasks that the table may name; any if not given.
        json: Print one JSON object instead of a table.
        out: Also write the solution there, as JSON.
        report: Also write a page with figures and tables into this folder; other budgets are solved for it too.
    """
    changes = {name: value for name, value in {"budget": budget, "max_order": max_order}.items() if value is not None}
    asked = (solver or TaxonomySolver()).replace(**changes)
    table = TransfersTable.read(table_file(transfers, "transfers"), tasks)
    check_writable(out, report and report / "index.html")
    solution, *others = asked.best(table, count)
    for row in table.unmeasured:
        print(f"unmeasured, left out: {row}", file=sys.stderr)
    plain = solution.as_dict()
    if count > 1:
        plain["alternatives"] = [other.as_dict() for other in others]
    if out is not None:
        write_json(out, plain)
    if json:
        print(dumps(plain, allow_nan=False))
    else:
        print(f"train: {', '.join(solution.sources)}")
        for target, transfer in solution.policy.items():
            print(f"  {target:30} {'+'.join(transfer.sources)}")
        ended = "proven optimal" if solution.proven else f"gap {solution.gap:.2%}"
        print(f"objective {solution.objective:.6f}, {ended}")
        for other in others:
            print(f"or {other.objective:.6f}: {', '.join(other.sources)}")

    def page(folder: Path) -> Path:
        from lightning_taskonomy.reports.taxonomy import write_solved_taxonomy

        return write_solved_taxonomy(folder, table, asked, solution)

    written = None if report is None else page(report)
    if written is not None:
        print(f"report: {written}", file=sys.stderr)
    rows = [[target, row.kind, ";".join(row.sources), row.affinity] for target, row in solution.policy.items()]
    return Results(
        {"objective": solution.objective, "sources": len(solution.sources), "seconds": solution.seconds},
        {"policy": (["target", "kind", "sources", "affinity"], rows)},
        page=lambda folder: written or page(folder),
        artifacts={"taxonomy": plain},
    )
