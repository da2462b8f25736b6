"""What training takes: the sections of a grouping study's report on approximations and on the runs."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import RunEntry
from lightning_taskonomy.reports.grouping import study_figures
from lightning_taskonomy.reports.grouping.comparison import CHOICES, method_name
from lightning_taskonomy.reports.grouping.files import GroupingResults, Row
from lightning_taskonomy.reports.grouping.report import write_approximations
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.reading import read_json
from lightning_taskonomy.reports.words import readable, whole

__all__ = ["approximations", "trainings"]

_MANY = 18
"""Longer tables are folded away."""
_LOSS = "val/loss"
"""What learning curves show, of the metrics of a run's ``history.json``."""


def approximations(page: Page, results: GroupingResults) -> None:
    """What each approximation costs in trainings, and what its choices lose."""
    by_name: dict[str, list[Row]] = {}
    for row in results.approximations:
        by_name.setdefault(row["approximation"], []).append(row)
    names = [*(name for name in CHOICES if name in by_name), *(name for name in by_name if name not in CHOICES)]
    points, lines = {}, []
    budgets = sorted({row["budget"] for row in results.approximations if math.isfinite(row["budget"])})
    for name in names:
        rows = by_name[name]
        regrets = {row["budget"]: row["regret"] for row in rows if math.isfinite(row["regret"])}
        line: list[Cell] = [method_name(name), rows[0]["trainings"], rows[0]["kendall_tau"]]
        line += [fmean(regrets.values()), max(regrets.values())] if regrets else [None, None]
        lines.append([*line, *(regrets.get(budget) for budget in budgets)])
        if regrets and math.isfinite(rows[0]["trainings"]):
            points[method_name(name)] = rows[0]["trainings"], list(regrets.values())
    if points:
        page.figure(
            study_figures.regret_scatter(points, f"{results.selection.total} test loss"),
            "approximations-regret",
            alt="; ".join(f"{name}: {trainings:g} trainings, mean regret {fmean(regrets):.4f}"
                          for name, (trainings, regrets) in points.items()),
            caption="A mark is the mean regret over budgets, a line spans them; left and low is good.",
        )  # fmt: skip
    if lines:
        page.table(
            "approximations-numbers",
            ("approximation", "trainings", "Kendall τ", "mean regret", "largest regret",
             *(f"at {budget:g}" for budget in budgets)),
            lines,
            caption="Trainings: the cost in full trainings of a full-size network. Kendall τ: how far it orders the "
            f"gains of training together as those on test images. Regret: the {results.selection.total} test loss of "
            "the groups that it chooses above that of the optimal ones, by budget; below 0 they are better on test "
            "images.",
        )  # fmt: skip
    else:
        page.text("Without approximations.csv the cost of the approximations is not known.")
    if results.validation is None or results.test is None:
        page.text("How well early and predicted losses tell the final ones needs validation.csv and test.csv.")
        return
    if results.early is None:
        page.text("Early stopping is not compared: the study left no early.csv (losses after a part of the data).")
    try:
        write_approximations(page, results.validation, results.test, results.early)
    except InputError as reason:
        page.text(f"No comparison of early losses with final ones: {reason}.")


def trainings(page: Page, results: GroupingResults, folder: Path, runs: Sequence[RunEntry], seed: int) -> None:
    """How long each network trained, which failed and why, and how they learnt.

    Args:
        page: Where it goes.
        results: What the study left.
        folder: Its folder.
        runs: Its runs.
        seed: The study's first seed, whose learning curves are drawn.
    """
    rows = results.trainings
    failed = [row for row in rows if row["status"] == "failed"]
    if rows:
        seconds = math.fsum(row["seconds"] for row in rows if math.isfinite(row["seconds"]))
        page.text(f"{len(rows) - len(failed)} networks trained, in {seconds:,.0f} s of training in all.")
    else:
        page.text("Not here: the study left no trainings.csv, or an empty one.")
    for row in failed:
        page.text(f"Left out: {_label(row)}, seed {row['seed']} ({row['reason'] or 'no reason noted'}).")
    panels = _curves(folder, [run for run in runs if run.seed == seed])
    if panels:
        page.figure(
            study_figures.learning_curves(panels, "validation loss"),
            "learning-curves",
            alt="; ".join(f"{title}: {len(curves)} networks" for title, curves in panels.items()),
            caption="Mean validation loss over the tasks of a network, of the first seed; a ring where it was lowest, "
            "which is the network that was kept.",
        )
    else:
        page.text("No learning curves: no run of the first seed left a history.json with val/loss.")
    if rows:
        table: list[list[Cell]] = [
            [_label(row), row["size"], row["seed"], whole(row["epochs"]), whole(row["best_epoch"]), row["seconds"],
             row["status"], row["reason"]]
            for row in rows
        ]  # fmt: skip
        header = ("network", "size", "seed", "validations", "best", "seconds", "ended", "reason")
        with page.details(f"Each training ({len(rows)})") if len(rows) > _MANY else nullcontext():
            page.table("trainings", header, table)


def _label(row: Row) -> str:
    return " + ".join(readable(name) for name in str(row["network"]).partition("@")[0].split("+"))


def _curves(folder: Path, runs: Sequence[RunEntry]) -> dict[str, Mapping[str, Sequence[tuple[float, float]]]]:
    """Learning curves of some runs: candidates by their number of tasks, then all others by kind."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        history = read_json(folder / run.folder / "history.json", list, [])
        losses = [entry.get(_LOSS) for entry in history if isinstance(entry, Mapping)]
        points = [
            (float(n), float(loss)) for n, loss in enumerate(losses, 1) if loss is not None and math.isfinite(loss)
        ]
        if points:
            count = len(run.tasks)
            title = f"{count} task" + "s" * (count > 1) if run.kind == "candidate" else method_name(run.kind)
            panels.setdefault(title, {})[run.run] = points
    return {title: panels[title] for title in sorted(panels, key=lambda title: (not title[0].isdigit(), title))}
