"""The commands that need no Trainer, as typed functions: their arguments are the options, their docstrings the help.

Heavy imports stand inside the functions: ``solve`` needs no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_json, write_text
from lightning_taskonomy.solvers import TaxonomySolver

if TYPE_CHECKING:
    from lightning_taskonomy.data import RoomsDataModule, TaskDataModule
    from lightning_taskonomy.studies import Study
    from lightning_taskonomy.results import Results

__all__ = ["data_cache", "data_check", "data_render", "report", "solve_taxonomy", "study"]


def study(
    study: Study,
    out: Path = Path("runs/study"),
    dry_run: bool = False,
    stages: list[str] | None = None,
    redo: bool = False,
    settings: dict[str, Any] | None = None,
) -> Results | None:
    """Measure which tasks help which, solve for budgets, write a report; resumes.

    Args:
        study: Which study, with its settings.
        out: The study's folder.
        dry_run: Say what would run, how long and on how much disk, without training.
        stages: Only these stages: networks, transfers, affinity, taxonomy, report.
        redo: Do them again even where they are done.
        settings: The whole configuration, kept beside the results.
    """
    import yaml

    if dry_run:
        print(study.dry_run(out))
        return None
    write_text(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    results = study.run(out, stages=stages, redo=redo)
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
    from lightning_taskonomy.results import Results
    from lightning_taskonomy.solvers import solve_taxonomy as solve

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


def report(folder: Path) -> None:
    """Write tables, figures and one page from a finished study's folder.

    Args:
        folder: The study's folder.
    """
    from lightning_taskonomy.reports import report as write

    print(f"report: {write(folder)}")


def data_check(data: TaskDataModule, limit: int | None = None, json: bool = False) -> None:
    """Look through a data set: images, labels, damaged and missing files, sizes, values, leaks between splits.

    Args:
        data: The data module.
        limit: At most so many samples of each split.
        json: Print one JSON object.
    """
    from json import dumps

    from lightning_taskonomy.data.doctor import check

    found = check(data, limit=limit)
    print(dumps(found.to_dict(), indent=1) if json else found)
    if not found.ok:
        raise InputError("the data has problems, named above; mend or remove those files")


def data_render(
    out: Path = Path("rooms.png"), size: int = 128, buildings: int = 4, labels: bool = True, samples: int = 2
) -> None:
    """Render rooms into one contact sheet.

    Args:
        out: The PNG.
        size: Pixels along each side of a picture.
        buildings: How many buildings; one view of each with all its labels, or six without.
        labels: Show every label.
        samples: Colour samples along each side of a pixel that lies on an edge.
    """
    from lightning_taskonomy.data.rooms.sheet import label_sheet, picture_sheet

    if labels:
        write_bytes(out, label_sheet([(building, 0) for building in range(buildings)], size, samples=samples))
    else:
        views = [(building, view) for building in range(buildings) for view in range(6)]
        write_bytes(out, picture_sheet(views, size, samples=samples))
    print(out)


def data_cache(data: RoomsDataModule, keys: list[str] | None = None, remove: bool = False) -> None:
    """Fill the cache of rendered rooms, or remove it.

    Args:
        data: The rooms, with a cache folder.
        keys: What to render; every label where not given.
        remove: Remove this configuration's cache instead.
    """
    if data.cache is None:
        raise InputError("the data has no cache folder; give --data.init_args.cache=FOLDER")
    wanted = sorted(keys or data.keys_offered)
    for split in data.buildings:
        samples = data.samples_of(split, wanted)
        done = samples.cache.remove() if remove and samples.cache else samples.prepare(data.num_workers)
        print(f"{split}: {done / 1e6:.1f} MB {'removed' if remove else 'cached'}")
