"""The commands that need no Trainer, as typed functions: their arguments are the options, their docstrings the help."""

import sys
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json, write_text
from lightning_taskonomy.reports import report as write_report
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers import solve_taxonomy as solve
from lightning_taskonomy.studies.base import Study
from lightning_taskonomy.studies.results import Results

__all__ = ["report", "solve_taxonomy", "study"]


def study(
    study: Study,
    out: Path = Path("runs/study"),
    dry_run: bool = False,
    stages: list[str] | None = None,
    settings: dict[str, Any] | None = None,
) -> Results | None:
    """Measure which tasks help which, solve for budgets, write a report; resumes.

    Args:
        study: Which study, with its settings.
        out: The study's folder.
        dry_run: Say what would run, how long and on how much disk, without training.
        stages: Only these stages, again.
        settings: The whole configuration, kept beside the results.
    """
    import yaml

    if dry_run:
        print(study.dry_run(out))
        return None
    write_text(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    results = study.run(out, stages=stages)
    if results.report is not None:
        print(f"report: {results.report}")
    return results


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
    solver = solver or TaxonomySolver()
    given = {"budget": budget, "max_order": max_order}
    solver = TaxonomySolver(**{**vars(solver), **{name: value for name, value in given.items() if value is not None}})
    solution, table = solve(transfers, solver)
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
        print(
            f"objective {solution.objective:.6f}, {'proven optimal' if solution.proven else f'gap {solution.gap:.2%}'}"
        )
    rows = [[t, r.kind, ";".join(r.sources), r.affinity] for t, r in solution.policy.items()]
    return Results(
        {"objective": solution.objective, "sources": len(solution.sources), "seconds": solution.seconds},
        {"policy": (["target", "kind", "sources", "affinity"], rows)},
    )


def report(folder: Path) -> None:
    """Write tables, figures and one page from a finished study's folder.

    Args:
        folder: The study's folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give a study's")
    print(f"report: {write_report(folder)}")
