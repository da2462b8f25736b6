"""What a study's folder says of itself: ``study.json`` (which study, which settings) and ``runs.csv`` (its runs).

Reports, solvers, the page and ``status`` go by these two files; none of them knows a study by name.
"""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_csv, write_json

__all__ = ["MANIFEST", "RUNS", "SCHEMA", "Manifest", "RunEntry", "read_runs", "table_file", "write_runs"]

MANIFEST, RUNS = "study.json", "runs.csv"

SCHEMA = 1
"""The version of both files; raised when what they hold changes its meaning."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What ``study.json`` holds.

    Args:
        study: Dotted path of the study's class.
        version: The version of what the study measures; raised when its results change.
        report: Dotted path of the class that writes its report, a ``lightning_taskonomy.reports.base.Report``.
        tables: The tables it writes by what they are: ``{"transfers": "affinity.csv"}``.
        settings: The arguments of the class, plain data.
        finished: Whether everything that was planned is done, and the tables are those of all runs.
        schema: The version of this file.
    """

    study: str
    version: int
    report: str
    tables: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    schema: int = SCHEMA

    @property
    def name(self) -> str:
        """The class without its module."""
        return self.study.rpartition(".")[2]

    @classmethod
    def read(cls, folder: str | Path) -> "Manifest":
        """The manifest of a study's folder.

        Raises:
            InputError: There is none, it is damaged, or a newer release wrote it.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise InputError(
                f"{folder} holds no {MANIFEST}: it is not a study's folder, or an earlier release wrote it; then "
                "run 'lightning-taskonomy study' with its recipe again: what is done is taken over"
            )
        try:
            content = dict(json.loads(path.read_text(encoding="utf-8")))
            schema = int(content.get("schema", 0))
            if not isinstance(content.get("settings", {}), dict):
                raise TypeError("its settings are no mapping")
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path} is damaged ({error}); remove it and run the study again: nothing is trained twice"
            ) from error
        if schema > SCHEMA:
            raise InputError(f"{path} has schema {schema}, this release reads up to {SCHEMA}; install a newer release")
        names = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in names})
        except TypeError as error:
            raise InputError(
                f"{path} is damaged ({error}); remove it and run the study again: nothing is trained twice"
            ) from error

    def write(self, folder: Path) -> None:
        """Writes ``study.json``."""
        write_json(folder / MANIFEST, asdict(self))

    def table(self, kind: str, folder: Path) -> Path:
        """The file of one of the study's tables.

        Args:
            kind: What the table is: ``transfers``, ``groupings``, ``results``, ...
            folder: The study's folder.

        Raises:
            InputError: The study has no such table, or has not come so far.
        """
        if kind not in self.tables:
            has = f"it has {', '.join(self.tables)}" if self.tables else "it has no table"
            raise InputError(f"{folder} holds {self.name} without a table of {kind}; {has}")
        file = folder / self.tables[kind]
        if not file.is_file():
            raise InputError(
                f"{folder} holds {self.name}, which has not written {self.tables[kind]} yet; run its study "
                f"again ('lightning-taskonomy status {folder}' says what is left)"
            )
        return file


def table_file(path: str | Path, kind: str) -> Path:
    """A table: the file itself, or that of a study's folder.

    Args:
        path: A file, or the folder of a study.
        kind: What the table is, for a folder.

    Raises:
        InputError: The folder is not a study's, or its study has no such table or has not come so far.
    """
    path = Path(path)
    return Manifest.read(path).table(kind, path) if path.is_dir() else path


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """A row of ``runs.csv``.

    Args:
        run: What a person calls it.
        folder: Its folder, relative to the study's.
        kind: ``task_specific``, ``transfer``, ...
        tasks: The tasks that it trains.
        seed: Its seed.
    """

    run: str
    folder: str
    kind: str
    tasks: tuple[str, ...]
    seed: int


_COLUMNS = ("run", "folder", "kind", "tasks", "seed")


def write_runs(folder: Path, runs: Iterable[RunEntry]) -> None:
    """Writes ``runs.csv``: every run that was planned so far."""
    write_csv(folder / RUNS, _COLUMNS, [[r.run, r.folder, r.kind, ";".join(r.tasks), r.seed] for r in runs])


def read_runs(folder: str | Path) -> list[RunEntry]:
    """The rows of ``runs.csv``.

    Raises:
        InputError: There is no such file, or it has other columns.
    """
    path = Path(folder) / RUNS
    if not path.is_file():
        raise InputError(f"{folder} holds no {RUNS}; run 'lightning-taskonomy study' first")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise InputError(
                f"{path} must have the columns {', '.join(_COLUMNS)}; run the study again to write it anew"
            )
        return [
            RunEntry(
                run=row["run"],
                folder=row["folder"],
                kind=row["kind"],
                tasks=tuple(name for name in row["tasks"].split(";") if name),
                seed=int(row["seed"]),
            )
            for row in reader
        ]
