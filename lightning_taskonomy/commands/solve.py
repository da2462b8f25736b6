"""``solve taxonomy``: decisions from a table."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_taskonomy.files import write_json
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers import solve_taxonomy as solve

__all__ = ["solve_taxonomy"]


def solve_taxonomy(
    transfers: Path,
    solver: TaxonomySolver | None = None,
    budget: float | None = None,
    max_order: int | None = None,
    json: bool = False,
    out: Path | None = None,
) -> Results:
    """Find what to train under a budget, from a table of transfers.

    Args:
        transfers: The table: a CSV as a study writes it.
        solver: The solver with its settings.
        budget: In place of the solver's own.
        max_order: In place of the solver's own.
        json: Print one JSON object instead of a table.
        out: Also write the solution there, as JSON.
    """
    given = {name: value for name, value in {"budget": budget, "max_order": max_order}.items() if value is not None}
    chosen = TaxonomySolver(**{**vars(solver or TaxonomySolver()), **given})
    solution, table = solve(transfers, chosen)
    for row in table.unmeasured:
        print(f"unmeasured, left out: {row}", file=sys.stderr)
    if out is not None:
        write_json(out, solution.as_dict())
    if json:
        print(solution.to_json())
    else:
        print(f"train: {', '.join(solution.sources)}")
        for target, transfer in solution.policy.items():
            print(f"  {target:30} {'+'.join(transfer.sources)}")
        ended = "proven optimal" if solution.proven else f"gap {solution.gap:.2%}"
        print(f"objective {solution.objective:.6f}, {ended}")
    rows = [[target, row.kind, ";".join(row.sources), row.affinity] for target, row in solution.policy.items()]
    return Results(
        {"objective": solution.objective, "sources": len(solution.sources), "seconds": solution.seconds},
        {"policy": (["target", "kind", "sources", "affinity"], rows)},
    )
