"""``solve grouping``: which trained networks to keep, from tables of losses."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

from lightning_taskonomy.affinity.groupings import Batch, GroupingsTable, Unit, higher_order, priced
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import check_writable, write_json, write_text
from lightning_taskonomy.inference import InferenceCosts
from lightning_taskonomy.manifest import Manifest, table_file
from lightning_taskonomy.results import Results
from lightning_taskonomy.solvers import GroupingSolution, GroupingSolver
from lightning_taskonomy.solvers.grouping import score, select_again, served

__all__ = ["solve_grouping"]

UNITS = {"snt": "", "multiply_adds": " G multiply-adds", "milliseconds": " ms"}
"""What stands after a budget."""


def solve_grouping(
    validation: Path,
    test: Path | None = None,
    budget: list[float] | float | None = None,
    approximation: Literal["none", "hoa", "esa"] = "none",
    early: Path | None = None,
    solver: GroupingSolver | None = None,
    remove_idle: bool = False,
    tasks: list[str] | None = None,
    unit: Unit = "snt",
    count_decoders: bool = False,
    batch: Batch = 1,
    memory: float | None = None,
    inference: Path | None = None,
    other_machine: bool = False,
    json: bool = False,
    out: Path | None = None,
    report: Path | None = None,
    recipe: Path | None = None,
) -> Results:
    """Find which trained networks to keep under an inference budget, from tables of losses.

    Args:
        validation: The losses to select by, which also decide which kept network serves a task; or the folder of a
            study that has such a table.
        test: The losses to report; networks match by their tasks and cost. If not given, those of the study's folder.
        budget: One budget, or a list of them, in place of the solver's own; those that nothing meets are left out.
        approximation: Select by the losses as they are; or as if networks of three and more tasks were not trained
            (hoa, the Higher Order Approximation); or by losses early in training (esa, the Early Stopping one).
        early: The losses early in training: what 'esa' selects by; the report compares with them whatever is chosen. If
            not given, those of the study's folder.
        solver: The solver with its settings.
        remove_idle: Remove chosen networks that serve no task by their validation losses, and select again.
        tasks: The names of the columns, for tables without a header; with one, the tasks it may name.
        unit: What budgets and costs count: full-size encoders (snt, the tables' own), 1e9 multiply-adds per image, or
            milliseconds.
        count_decoders: Decoders count too, not encoders alone.
        batch: The batch whose milliseconds count.
        memory: MiB that the kept networks may take, in place of the solver's own.
        inference: What encoders and decoders cost: an inference.csv, or a study's folder; if not given, that of the
            study's folder in 'validation'.
        other_machine: Go by milliseconds that were measured on another machine.
        json: Print one JSON object instead of a table.
        out: Also write that object there.
        report: Also write a page with figures and tables into this folder.
        recipe: Also write a recipe for 'fit' that trains the choice, with the settings of the study whose folder
            'validation' is: a YAML file; for several budgets a folder, which gets one file each.
    """
    solver = (solver or GroupingSolver()).replace(**({} if memory is None else {"memory": memory}))
    budgets = [solver.budget] if budget is None else budget if isinstance(budget, list) else [budget]
    if not budgets:
        raise InputError("budget: the list is empty; give at least one")
    trained = GroupingsTable.read(table_file(validation, "groupings"), tasks)
    early = early or _beside(validation, "groupings_early")
    begun = None if early is None else GroupingsTable.read(early, tasks)
    match approximation:
        case "none":
            approximated = trained
        case "hoa":
            approximated = higher_order(trained)
        case "esa":
            if begun is None:
                raise InputError("approximation esa selects by losses early in training: give their table as --early")
            approximated = begun
    test = test or _beside(validation, "groupings_test")
    others = [] if test is None else [GroupingsTable.read(test, tasks)]
    read = [table for table in (trained, begun, *others) if table is not None]
    unmeasured = list(dict.fromkeys(name for table in read for name in table.unmeasured))
    for name in unmeasured:
        print(f"a loss is NaN, left out: {name}", file=sys.stderr)
    (trained, approximated, *others), missing = GroupingsTable.common(trained, approximated, *others)
    for name in missing:
        if name not in unmeasured:
            print(f"not in every table, left out: {name}", file=sys.stderr)
    wants = ["unit"] * (unit != "snt") + ["count_decoders"] * count_decoders + ["memory"] * (solver.memory is not None)
    costs = _costs(inference, validation, ", ".join(wants))
    if costs is not None:

        def price(table: GroupingsTable) -> GroupingsTable:
            return priced(table, costs, unit, count_decoders=count_decoders, batch=batch, other_machine=other_machine)

        trained, approximated, *others = map(price, (trained, approximated, *others))
        begun = None if begun is None else price(begun)
    tested = others[0] if others else None
    is_file = recipe is not None and recipe.suffix in (".yaml", ".yml")
    if is_file and len(budgets) > 1:
        raise InputError(f"recipe {recipe} is one file for {len(budgets)} budgets; give a folder, or one budget")
    check_writable(out, report and report / "index.html", recipe and (recipe if is_file else recipe / "budget"))
    solutions = solver.sweep(approximated, budgets, skip_infeasible=True)
    unmet = sorted({*budgets} - {solution.budget for solution in solutions})
    if unmet:
        print(f"below what any choice costs, left out: budget {', '.join(map(str, unmet))}", file=sys.stderr)
    if remove_idle:
        solutions = [_without_idle(solver.replace(budget=one.budget), approximated, trained) for one in solutions]
    plain = [_plain(solution, trained, tested) for solution in solutions]
    result = {"approximation": approximation, "unit": unit, "solutions": plain}
    if out is not None:
        write_json(out, result)
    print(dumps(result, allow_nan=False) if json else "\n".join(_words(one, UNITS[unit]) for one in plain))

    if recipe is not None:
        for one, solution in zip(plain, solutions, strict=True):
            file = recipe if is_file else recipe / f"budget_{solution.budget:g}.yaml"
            _write_recipe(file, solution, one["serves"], validation)

    def page(folder: Path) -> Path:
        from lightning_taskonomy.reports.grouping import write_solved_groupings

        return write_solved_groupings(
            folder,
            solver,
            solutions,
            trained,
            test=tested,
            early=None if begun is None else GroupingsTable.common(trained, begun)[0][1],
            approximation=approximation,
            remove_idle=remove_idle,
        )

    written = None if report is None else page(report)
    if written is not None:
        print(f"report: {written}", file=sys.stderr)
    columns = ["budget", "cost", "networks", "validation_loss", "test_loss", "proven", "seconds"]
    rows = [[_names(row["networks"]) if name == "networks" else row[name] for name in columns] for row in plain]
    return Results(
        {"seconds": math.fsum(solution.seconds for solution in solutions)},
        {"solutions": (columns, rows)},
        page=lambda folder: written or page(folder),
        artifacts={"grouping": result},
    )


def _beside(validation: Path, kind: str) -> Path | None:
    """Another table of the study whose folder was named, if it has one of that kind."""
    if not validation.is_dir():
        return None
    path = validation / Manifest.read(validation).tables.get(kind, "")
    return path if path.is_file() else None


def _costs(inference: Path | None, validation: Path, needed: str) -> InferenceCosts | None:
    """What inference of the networks' parts costs, if that is there or needed by some options."""
    if inference is not None:
        return InferenceCosts.read(table_file(inference, "inference"))
    if validation.is_dir():
        manifest = Manifest.read(validation)
        if needed or (validation / manifest.tables.get("inference", "")).is_file():
            return InferenceCosts.read(manifest.table("inference", validation))
    elif needed:
        raise InputError(f"{needed}: measured costs are needed; give them as --inference, or the folder of a study")
    return None


def _write_recipe(file: Path, solution: GroupingSolution, serves: list[list[str]], origin: Path) -> None:
    """Writes the recipe that trains a choice, as the study in a folder trained its networks."""
    from lightning_taskonomy.reports.candidates import CandidateTraining
    from lightning_taskonomy.reports.page.recipes import grouping_recipes

    training = CandidateTraining.read(origin) if origin.is_dir() else None
    write_text(file, grouping_recipes(solution.networks, serves, training, file.stem)[f"{file.stem}.yaml"])
    print(f"recipe: {file}", file=sys.stderr)


def _without_idle(solver: GroupingSolver, selected: GroupingsTable, trained: GroupingsTable) -> GroupingSolution:
    """The selection without networks that serve no task once trained; says which those are."""
    solution, removed = select_again(solver, selected, trained)
    for network in removed:
        print(f"budget {solver.budget:g}: serves no task once trained, removed: {network}", file=sys.stderr)
    return solution


def _plain(solution: GroupingSolution, trained: GroupingsTable, tested: GroupingsTable | None) -> dict[str, Any]:
    """A solution's own form, and beside it what each network serves and the losses in the tables."""
    losses = score(solution.networks, trained, trained)
    test_losses = None if tested is None else score(solution.networks, tested, trained)
    return {
        **solution.as_dict(),
        "serves": [list(tasks) for tasks in served(solution.networks, trained)],
        "validation_loss": math.fsum(losses.values()),
        "validation_losses": losses,
        "test_loss": None if test_losses is None else math.fsum(test_losses.values()),
        "test_losses": test_losses,
    }


def _words(plain: dict[str, Any], unit: str) -> str:
    """A solution as lines of a table."""
    test = "" if plain["test_loss"] is None else f", test loss {plain['test_loss']:.5f}"
    ended = "proven optimal" if plain["proven"] else f"gap {plain['gap']:.2%}"
    lines = [f"budget {plain['budget']:g}{unit}: validation loss {plain['validation_loss']:.5f}{test}, {ended}"]
    if plain["memory"] is not None:
        weights, activations = (plain["memory"][part] / 2**20 for part in ("weights", "activations"))
        lines[0] += f", {weights:.1f} MiB of weights and {activations:.1f} MiB of activations"
    lines += [
        f"  {'+'.join(network['tasks']):45} {_size(network)}cost {network['cost']:g}, "
        f"serves {', '.join(serves) or 'none'}"
        for network, serves in zip(plain["networks"], plain["serves"], strict=True)
    ]
    return "\n".join(lines)


def _size(network: dict[str, Any]) -> str:
    return "" if network["size"] == network["cost"] else f"size {network['size']:g}, "


def _names(networks: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{'+'.join(network['tasks'])} (cost {network['cost']:g})" for network in networks)
