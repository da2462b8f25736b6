"""What every report is: a page about a study's folder, from the files in it alone."""

import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import ClassVar

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import MANIFEST, RUNS, Manifest, RunEntry, read_runs
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.reading import read_cells, read_json
from lightning_taskonomy.reports.words import readable

__all__ = ["Report", "Section", "open_report"]

Section = tuple[str, Callable[[Page], None]]
"""A heading, and what writes below it."""

_MANY = 30
"""Longer tables are folded away."""


class Report:
    """The report of a study: its tables, what it cost, its configuration and what failed.

    This class serves any study. One that has more to say names a subclass as its ``report``, which overrides ``title``,
    ``subtitle`` and ``sections``.

    Args:
        folder: The study's folder.

    Raises:
        InputError: It is not a study's folder, or a newer release wrote it.
    """

    title: ClassVar[str] = ""
    """The page's heading; the study's name in words where empty."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)

    @property
    def subtitle(self) -> str:
        """The line below the heading."""
        runs = len(self._runs)
        return f"A study of {runs} runs." if runs else ""

    def sections(self) -> Iterator[Section]:
        """The headings of the page in their order, each with what writes below it."""
        for name, file in self.manifest.tables.items():
            yield readable(name).capitalize(), partial(self.table, file=file)
        yield from self.appendix()

    def beside(self, variant: Path) -> "Report":
        """This report with another study beside it; a subclass that compares studies overrides it.

        Args:
            variant: The folder of the other study.

        Raises:
            InputError: This report compares none, or the other study is not of its kind.
        """
        raise InputError(f"{self.folder} holds {self.manifest.name}, compared with no other; leave out variant")

    def appendix(self) -> Iterator[Section]:
        """The last headings of the page: costs, configuration, failures."""
        yield "Costs", self.costs
        yield "Configuration", self.configuration
        yield "Failures", self.failures

    def write(self, out: Path | None = None) -> Path:
        """Writes ``index.html`` with its PNG and CSV files.

        Args:
            out: Where; ``report`` in the study's folder if not given.

        Returns:
            The path of ``index.html``.

        Raises:
            InputError: A file of the study is missing that the report cannot do without, or cannot be used.
        """
        sections = list(self.sections())
        page = Page(out or self.folder / "report", self.title or self._name, self.subtitle)
        if self.unfinished:
            page.text(self.unfinished)
        for heading, write in sections:
            page.section(heading)
            write(page)
        return page.write()

    @property
    def unfinished(self) -> str:
        """What is missing and how to go on; empty where the study is finished."""
        if self.manifest.finished:
            return ""
        done = sum((self.folder / run.folder / "metrics.json").is_file() for run in self._runs)
        failed = len(read_json(self.folder / "failures.json", list, []))
        state = f"{done} of the {len(self._runs)} runs planned so far are done" if self._runs else "no run is planned"
        state += f", {_jobs(failed)} failed" if failed else ""
        return (
            f"This {self.manifest.name} is not finished: {state}. To go on, run 'lightning-taskonomy study' with its "
            f"recipe again; 'lightning-taskonomy status {self.folder}' says what is left."
        )

    # sections of any study

    def table(self, page: Page, file: str) -> None:
        """A table of the study, folded away if it is long."""
        path = self.folder / file
        if not path.is_file():
            page.text(f"Not here yet: the study has not written {file} yet.")
            return
        header, rows = read_cells(path)
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)
        name = f"{name}-table" if name in ("costs", "failures") else name  # this page's own
        with page.details(f"{file} ({len(rows)} rows)") if len(rows) > _MANY else nullcontext():
            page.table(name, [readable(cell) for cell in header], rows)

    def costs(self, page: Page) -> None:
        """Seconds by kind of job, and GPU-hours where any were used."""
        if not (self.folder / "costs.json").is_file():
            page.text("Not here: the study left no costs.json (seconds by kind of job).")
            return
        costs: Mapping[str, Mapping[str, float]] = {
            kind: cost
            for kind, cost in read_json(self.folder / "costs.json", dict, {}).items()
            if isinstance(cost, Mapping) and "runs" in cost
        }
        if not costs:
            page.text("Not here: costs.json has no job.")
            return
        total = {name: sum(cost.get(name, 0) for cost in costs.values()) for name in ("runs", "seconds", "gpu_seconds")}
        rows: list[list[Cell]] = [
            [readable(kind), int(cost["runs"]), float(cost["seconds"]), float(cost["seconds"]) / max(cost["runs"], 1),
             cost.get("gpu_seconds", 0) / 3600]
            for kind, cost in {**costs, "all": total}.items()
        ]  # fmt: skip
        header = ["what ran", "runs", "seconds", "seconds per run", "GPU-hours"]
        columns = len(header) if total["gpu_seconds"] else len(header) - 1
        caption = "Wall time by kind of job."
        page.table("costs", header[:columns], [row[:columns] for row in rows], caption=caption)

    def configuration(self, page: Page) -> None:
        """The recipe that made the study."""
        file = self.folder / "config.yaml"
        if not file.is_file():
            page.text("Not here: the study left no config.yaml (its recipe).")
            return
        with page.details("The recipe that made this (config.yaml)"):
            page.code(file.read_text(encoding="utf-8"))

    def failures(self, page: Page) -> None:
        """The jobs that failed, with their tracebacks."""
        if not (self.folder / "failures.json").is_file():
            page.text("Not here: the study left no failures.json (the jobs that failed).")
            return
        failures = read_json(self.folder / "failures.json", list, [])
        if not failures:
            page.text("None: all jobs ended well.")
            return
        page.text(f"{_jobs(len(failures))} failed; what needed them is missing above.")
        rows = [(str(failure.get("name", "")), str(failure.get("error", ""))) for failure in failures]
        page.table("failures", ("job", "error"), rows)
        for (name, _), failure in zip(rows, failures, strict=True):
            if failure.get("trace"):
                with page.details(f"Traceback of {name}"):
                    page.code(str(failure["trace"]))

    @property
    def _runs(self) -> list[RunEntry]:
        return read_runs(self.folder) if (self.folder / RUNS).is_file() else []

    @property
    def _name(self) -> str:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", self.manifest.name.removesuffix("Study") or "Study")
        return words.capitalize()


def _jobs(count: int) -> str:
    return f"{count} job" + ("s" if count != 1 else "")


def open_report(folder: str | Path) -> Report:
    """The report of a study's folder, of the class that its ``study.json`` names.

    Raises:
        InputError: It is not a study's folder, or the class cannot be imported or is not a report.
    """
    manifest = Manifest.read(folder)
    named = f"{Path(folder) / MANIFEST} names the report {manifest.report!r}"
    try:
        report_class = pkgutil.resolve_name(manifest.report)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{named}, which cannot be imported ({error}); install it or set PYTHONPATH") from error
    if not (isinstance(report_class, type) and issubclass(report_class, Report)):
        raise InputError(
            f"{named}, which is not a subclass of {Report.__module__}.Report; correct 'report' in its class"
        )
    return report_class(folder)
