"""What every study is: jobs in stages, an analysis that reads files alone, a report."""

import inspect
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import read_csv, write_csv, write_json, write_text
from lightning_taskonomy.manifest import MANIFEST, Manifest
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.adoption import Adoption
from lightning_taskonomy.studies.estimate import Planned, Probe, estimate
from lightning_taskonomy.studies.executors import Executor, LocalExecutor
from lightning_taskonomy.studies.graph import Stage
from lightning_taskonomy.studies.ledger import Ledger
from lightning_taskonomy.studies.lock import driving
from lightning_taskonomy.studies.scheduler import Scheduler

__all__ = ["ANALYSIS", "REPORT", "Study", "Table"]

ANALYSIS, REPORT = "analysis", "report"
"""The stages that every study ends with."""

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Columns and rows of a CSV."""


class Study(ABC):
    """Measurements, what follows from them, and a report, from one recipe.

    A study of your own is a subclass in one file: its constructor takes the settings, ``stages`` plans the jobs and
    ``analyse`` makes the tables. Everything else is here: what is done is never done again, a failure stops only what
    needs it, ``--dry-run``, ``status``, the report and the loggers. See ``docs/extending.md``.
    """

    version: ClassVar[int] = 1
    """Raised when a release changes what the same settings measure."""

    report: ClassVar[str] = "lightning_taskonomy.reports.base.Report"
    """Dotted path of the class that writes the report."""

    tables: ClassVar[Mapping[str, str]] = {}
    """The tables that other commands read, by what they are: ``{"transfers": "affinity.csv"}`` is what
    ``solve taxonomy`` and ``serve`` decide on."""

    arguments: dict[str, Any]
    """The arguments of the constructor, with its defaults."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """Copies are made of the same arguments."""
        return (), self.arguments

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Notes the arguments, which ``study.json`` keeps."""
        study = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(study, *args, **kwargs)
        for name, entry in getattr(cls, "__dataclass_fields__", {}).items():
            if entry.default_factory is not MISSING and name not in bound.arguments:
                bound.arguments[name] = entry.default_factory()
        bound.apply_defaults()
        object.__setattr__(study, "arguments", {name: v for name, v in bound.arguments.items() if v is not study})
        return study

    @abstractmethod
    def stages(self, folder: Path) -> Sequence[Stage]:
        """What is to be done, in order.

        Args:
            folder: The study's folder, where jobs leave their files.
        """

    @abstractmethod
    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Makes the tables from the files that finished jobs left; nothing is trained here.

        Args:
            folder: The study's folder.

        Yields:
            The name of a file and its content: columns and rows for ``.csv``, plain data for ``.json``. What has
            another form it writes itself.

        Raises:
            InputError: What is finished is not enough.
        """

    def results(self, folder: Path) -> Results:
        """What loggers get besides the report: the tables. Extend it to log numbers.

        Args:
            folder: The study's folder.
        """
        files = [folder / name for name in self.tables.values()]
        return Results(tables={file.stem: read_csv(file) for file in files if file.is_file()})

    def probes(self, folder: Path) -> dict[str, Probe]:
        """What one job of some kinds costs, measured on a few of their steps, for ``--dry-run``.

        Kinds that are not in it are timed by a few steps of one of their fits.

        Args:
            folder: The study's folder.
        """
        return {}

    def run(
        self,
        out: str | Path,
        *,
        execution: Executor | None = None,
        stages: Sequence[str] | None = None,
        redo: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> Results:
        """Does what is not done yet, analyses it and writes the report.

        Args:
            out: The study's folder.
            execution: Where the jobs run; two processes of this machine where not given.
            stages: Only these stages; None for all.
            redo: Do them again even where they are done.
            config: The recipe, kept as ``config.yaml``.

        Raises:
            InputError: A setting is wrong, the folder is another study's or another process is at work in it, or
                nothing could be measured.
        """
        folder = Path(out)
        planned = self._planned(folder)
        selected = _selected(stages, [*dict.fromkeys(stage.name for stage in planned), ANALYSIS, REPORT])
        with driving(folder):
            earlier = Manifest.read(folder) if (folder / MANIFEST).is_file() else None
            manifest = self._manifest(folder, earlier)
            same = earlier is not None and _counting(earlier.settings) == _counting(manifest.settings)
            finished = same and earlier is not None and earlier.finished
            replace(manifest, finished=finished).write(folder)
            if config is not None:
                write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            titles = [stage.title or stage.name for stage in planned]
            ledger = Ledger(folder, titles, resumes=same, begins=lambda: manifest.write(folder))
            adoption = Adoption(folder) if not finished and (folder / "runs").is_dir() else None
            try:
                self._jobs(planned, selected, ledger, (execution or LocalExecutor()).at(folder), redo, adoption)
                if ANALYSIS in selected:
                    self._analyse(folder, ledger)
                    replace(manifest, finished=ledger.is_complete).write(folder)
            finally:
                ledger.close()
            page = self._report(folder) if REPORT in selected else None
        results = self.results(folder)
        results.report = page
        if page is not None:
            results.figures = {file.stem: file for file in sorted(page.parent.glob("*.png"))}
        return results

    def dry_run(self, out: str | Path, *, execution: Executor | None = None) -> str:
        """Says what would run, how long and on how much disk, without training.

        Args:
            out: The study's folder; what is done there is not counted, and what it took is known.
            execution: Where the jobs would run.

        Raises:
            InputError: A setting is wrong, or nothing can be timed, such as without the data; the jobs are counted.
        """
        from lightning_taskonomy.studies.probe import threads_of_a_worker

        folder, execution = Path(out), execution or LocalExecutor()
        planned = Planned.of(self._planned(folder))
        with threads_of_a_worker(execution.threads):
            try:
                return str(estimate(planned, self.probes(folder), folder, execution.workers))
            except InputError as error:
                raise InputError(f"{error}; so nothing was timed of what is to run: {planned}") from error

    def _planned(self, folder: Path) -> Sequence[Stage]:
        stages = self.stages(folder)
        if not stages:
            raise InputError(f"{type(self).__name__} plans no jobs; its 'stages' must return at least one Stage")
        titles = Counter(stage.title or stage.name for stage in stages)
        for stage in stages:
            if titles[stage.title or stage.name] > 1 or stage.name in (ANALYSIS, REPORT):
                raise InputError(
                    f"{type(self).__name__} has two stages called {stage.title or stage.name!r}, or one called "
                    f"{ANALYSIS!r} or {REPORT!r}; give each a title of its own"
                )
        return stages

    def _manifest(self, folder: Path, earlier: Manifest | None) -> Manifest:
        """What the folder will say of itself.

        Raises:
            InputError: It is another study's, or one of a newer release.
        """
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        settings = json.loads(json.dumps(self.arguments, default=_plain))
        manifest = Manifest(
            study=name, version=self.version, report=self.report, tables=dict(self.tables), settings=settings
        )
        if earlier is not None and earlier.study != name:
            raise InputError(f"{folder} is the folder of a {earlier.name}, not of {manifest.name}; give another --out")
        if earlier is not None and earlier.version > self.version:
            raise InputError(
                f"{folder} was written by version {earlier.version} of {manifest.name}, this is version "
                f"{self.version}; install the newer release or give another --out"
            )
        return manifest

    def _jobs(
        self,
        planned: Sequence[Stage],
        selected: Sequence[str],
        ledger: Ledger,
        execution: Executor,
        redo: bool,
        adoption: Adoption | None,
    ) -> None:
        if adoption is not None:
            adoption.take_over_all(planned)
        todo = [stage for stage in planned if stage.name in selected]
        if not todo:
            return
        with execution:
            scheduler = Scheduler(execution, ledger, redo)
            counts = [stage.count() for stage in todo]
            for number, stage in enumerate(todo):
                later = sum(counts[number + 1 :], Counter[str]())
                with _naming_failures(ledger):
                    if adoption is not None:
                        adoption.take_over(stage.jobs())
                    scheduler.run(stage, later)
        if not ledger.planned:
            raise InputError(f"{type(self).__name__} plans no jobs in the stages {', '.join(selected)}")

    def _analyse(self, folder: Path, ledger: Ledger) -> None:
        with _naming_failures(ledger):
            for name, content in self.analyse(folder):
                if name.endswith(".csv"):
                    write_csv(folder / name, *content)
                else:
                    write_json(folder / name, content)

    def _report(self, folder: Path) -> Path:
        from lightning_taskonomy.reports import report

        return report(folder)


@contextmanager
def _naming_failures(ledger: Ledger) -> Iterator[None]:
    """What is not enough to go on is often so because a job failed: then the first one is named."""
    try:
        yield
    except InputError as error:
        if ledger.failures:
            first = ledger.failures[0]
            raise InputError(f"{error}; the first failure was {first.name}: {first.error}") from error
        raise


def _counting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what cannot change a number."""
    from lightning_taskonomy.training.identity import identity

    return {name: value for name, value in identity(settings).items() if name != "checkpoint_seconds"}


def _selected(stages: Sequence[str] | None, names: Sequence[str]) -> Sequence[str]:
    """The stages selected for, all where None.

    Raises:
        InputError: There is no such stage.
    """
    for stage in stages or ():
        if stage not in names:
            raise InputError(f"no stage {stage!r}{hint(stage, names)}")
    return names if stages is None else stages


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
