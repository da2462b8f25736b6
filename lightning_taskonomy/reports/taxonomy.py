"""The report of a Taskonomy study, or of a solved table: one page that says what to train, and shows why."""

from collections.abc import Sequence
from pathlib import Path

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.reports import decisions, evidence
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.solved import solved_results
from lightning_taskonomy.reports.study import OPTIONAL, read_study
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver

__all__ = ["write_solved_taxonomy", "write_taxonomy_report"]


def write_taxonomy_report(folder: Path) -> Path:
    """Writes ``report/index.html`` with its PNG and CSV files from what a study left in its folder.

    Args:
        folder: The folder of the study; see :mod:`lightning_taskonomy.reports.study` for its files. Optional files
            that are absent leave a sentence in their place.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: It is no study's folder, or a file in it cannot be used; the file is named.
    """
    results = read_study(folder)
    page = Page(
        Path(folder) / "report",
        "Which tasks help which",
        f"A Taskonomy study of {len(results.tasks)} tasks: {len(results.targets)} targets, "
        f"{len(results.table.candidates)} measured ways to solve them.",
    )
    for title, write, needs in (
        ("Answer", decisions.answer, "solutions.json"),
        ("Taxonomies", decisions.taxonomies, "solutions.json"),
        ("Gain and quality", decisions.gain_quality, "solutions.json"),
        ("Labels saved", decisions.labels, "solutions.json"),
        ("Affinity", evidence.affinity, ""),
        ("Similarity of tasks", evidence.similarity, ""),
        ("Sanity", evidence.sanity, "sanity.csv"),
        ("Predictions", evidence.predictions, "examples.npz"),
        ("Positive control over seeds", evidence.control, "control.json"),
        ("Beyond the taxonomy", evidence.beyond, ""),
        ("Costs", evidence.costs, "costs.json"),
        ("Configuration", evidence.configuration, "config.yaml"),
        ("Failures", evidence.failures, "failures.json"),
    ):
        page.section(title)
        if needs in results.absent:
            page.text(f"Not here: the study left no {needs} ({OPTIONAL[needs]}).")
        else:
            write(page, results)
    return page.write()


def write_solved_taxonomy(
    folder: Path, table: TransfersTable, solver: TaxonomySolver, solutions: Sequence[TaxonomySolution]
) -> Path:
    """Writes ``index.html`` with its PNG and CSV files on what ``solve taxonomy`` found.

    Other budgets are solved too, for the curves, and compared with random taxonomies.

    Args:
        folder: Where the page goes.
        table: What was solved.
        solver: The solver.
        solutions: What it returned; the first is the answer.

    Returns:
        The path of ``index.html``.
    """
    results = solved_results(folder, table, solver, solutions)
    page = Page(
        folder,
        "What to train",
        f"A taxonomy of {len(results.tasks)} tasks: {len(results.targets)} targets, "
        f"{sum(row.target in solutions[0].policy for row in table.candidates)} measured ways to solve them.",
    )
    for title, write in (
        ("Answer", decisions.answer),
        ("Other budgets", decisions.taxonomies),
        ("Gain and quality", decisions.gain_quality),
        ("Affinity", evidence.affinity),
        ("Similarity of tasks", evidence.similarity),
    ):
        page.section(title)
        write(page, results)
    return page.write()
