"""What a Taskonomy study left in its folder, read and checked: a file that cannot be used is named, with the reason."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import TransferKey, TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import families
from lightning_taskonomy.solvers.taxonomy import Chance, TaxonomySolution, read_solutions
from lightning_taskonomy.tasks import Family, Task, TaskKind, catalog

__all__ = ["OPTIONAL", "REQUIRED", "STAGES", "Ranking", "StudyResults", "TaskInfo", "read_study"]

REQUIRED = ("affinity.csv",)
"""Without these a folder is no study."""

OPTIONAL = {
    "solutions.json": "the taxonomies",
    "losses.csv": "the losses before normalisation",
    "sanity.csv": "the win rates against the average guess and a random encoder",
    "control.json": "the positive control over seeds",
    "examples.npz": "the predictions on examples",
    "costs.json": "the costs",
    "config.yaml": "the configuration",
    "failures.json": "the list of failed runs",
    "tasks.json": "families and kinds of the tasks",
}
"""What else a study leaves, and what each file holds."""

STAGES = {
    "novel": (
        "Novel tasks",
        "Each task as the only target, with no network of its own, against other features; losses are mean scores.",
    ),
    "transitive": ("Transitive transfers", "Source to first to second task, against the direct transfer."),
    "fine_tune": (
        "Fine-tuning on other data sets",
        "What each network reaches there, beside its affinity here.",
    ),
    "stability": ("Stability", "The taxonomy again after one choice of the study is changed."),
    "spread": ("Spread over seeds", "Mean and standard deviation of each affinity over the seeds."),
}
"""Tables of stages that may be switched on (``NAME.csv``): title and what it holds."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How the sources of a target rank here, by affinity, and fine-tuned on another data set (section 5.1).

    ``sources`` maps each to its affinity and its metric there; ``spearman`` is None where it is undefined.
    """

    name: str
    target: str
    metric: str
    sources: Mapping[str, tuple[float, float]]
    higher_is_better: bool = True
    spearman: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task as the study used it."""

    name: str
    family: str = ""
    kind: str = ""
    channels: int = 1
    source_only: bool = False
    units: str = ""
    class_names: tuple[str, ...] = ()

    def as_task(self) -> Task:
        """What its labels are coloured by: the dictionary's own task where it is the same, else one of that kind."""
        known = catalog().get(self.name)
        if known is not None and (known.kind.value, known.channels) == (self.kind, self.channels):
            return known
        names = self.class_names if len(self.class_names) == self.channels else None
        return Task(self.name, TaskKind(self.kind), self.name, self.channels, units=self.units, class_names=names)


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """Everything a study left; an optional file that is not there is empty here and named in ``absent``.

    ``chance`` is what random taxonomies reach, by maximum order and budget. ``requested`` is the taxonomy that was
    asked for; a study asks for none, and its report recommends one.
    """

    folder: Path
    table: TransfersTable
    tasks: Mapping[str, TaskInfo]
    taxonomies: tuple[TaxonomySolution, ...] = ()
    chance: Mapping[tuple[int, float], Chance] = field(default_factory=dict)
    losses: Mapping[TransferKey, float] = field(default_factory=dict)
    sanity: tuple[tuple[str, float, float], ...] = ()
    control: tuple[Mapping[str, Any], ...] = ()
    examples: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    failures: tuple[Mapping[str, Any], ...] = ()
    absent: tuple[str, ...] = ()
    stages: Mapping[str, tuple[list[str], list[list[str | float]]]] = field(default_factory=dict)
    rankings: tuple[Ranking, ...] = ()
    requested: TaxonomySolution | None = None

    @property
    def families(self) -> dict[str, str]:
        """Family of every task."""
        return {name: task.family for name, task in self.tasks.items()}

    @property
    def targets(self) -> list[str]:
        """Tasks that were targets, family by family."""
        others = set(self.source_only)
        return [name for name in self.tasks if name not in others]

    @property
    def source_only(self) -> list[str]:
        """Tasks that are never targets."""
        named = set(self.table.targets)
        return [name for name, task in self.tasks.items() if task.source_only or name not in named]


def read_study(folder: Path) -> StudyResults:
    """Reads a study's folder.

    Args:
        folder: Where ``lightning-taskonomy study`` wrote.

    Raises:
        InputError: It is no such folder, or one of its files cannot be used; the file is named.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of a study")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is no finished study: {', '.join(missing)} is missing; run 'lightning-taskonomy study' first"
        )
    absent = tuple(name for name in OPTIONAL if not (folder / name).is_file())
    table = TransfersTable.read(folder / "affinity.csv")
    solved = read_solutions(folder / "solutions.json") if "solutions.json" not in absent else []
    return StudyResults(
        folder=folder,
        table=table,
        tasks=_tasks(folder / "tasks.json", table),
        taxonomies=tuple(taxonomy for taxonomy, _ in solved),
        chance={(t.max_order, t.budget): chance for t, chance in solved if chance is not None},
        losses=_losses(folder / "losses.csv"),
        sanity=_sanity(folder / "sanity.csv"),
        control=tuple(_json(folder / "control.json", [], list)),
        examples=_examples(folder / "examples.npz"),
        costs=_json(folder / "costs.json", {}, dict) | _labels(folder / "labels.json"),
        config=(folder / "config.yaml").read_text(encoding="utf-8") if "config.yaml" not in absent else "",
        failures=tuple(_json(folder / "failures.json", [], list)),
        absent=absent,
        stages={name: _table(folder / f"{name}.csv") for name in STAGES if (folder / f"{name}.csv").is_file()},
        rankings=_rankings(folder),
    )


def _json(path: Path, default: Any, kind: type) -> Any:
    """The content of a JSON file, or the default where there is none."""
    if not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run that stage of the study again") from error
    if not isinstance(content, kind):
        raise InputError(f"{path} holds a {type(content).__name__}, not a {kind.__name__}; run that stage again")
    return content


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV that has these columns; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        lost = [name for name in columns if name not in (reader.fieldnames or ())]
        if lost:
            raise InputError(f"{path}: column {lost[0]!r} is missing; its first line must name {', '.join(columns)}")
        return list(reader)


def _labels(path: Path) -> dict[str, Any]:
    """Labels per source and transfer, as an entry of the costs."""
    labels = _json(path, {}, dict)
    return {"labels": labels} if labels else {}


def _table(path: Path) -> tuple[list[str], list[list[str | float]]]:
    """Header and rows of any CSV, numbers as such."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    return header, [[_cell(cell) for cell in row] for row in rows]


def _cell(text: str) -> str | float:
    """A cell as a number where it is one; NaN where empty."""
    try:
        number = float(text) if text.strip() else math.nan
    except ValueError:
        return text
    return int(number) if text.strip().lstrip("-").isdigit() else number


def _number(cells: Mapping[str, str], column: str, path: Path) -> float:
    """A number of a row, NaN where empty."""
    try:
        return float(cells[column]) if cells[column].strip() else math.nan
    except ValueError:
        raise InputError(f"{path}: {column} {cells[column]!r} is not a number; leave it empty if unmeasured") from None


def _known(value: float | None) -> float | None:
    """A number, None where it is NaN."""
    return None if value is None or math.isnan(value) else value


def _sanity(path: Path) -> tuple[tuple[str, float, float], ...]:
    """Task and its two win rates."""
    columns = ("win_rate_vs_average", "win_rate_vs_random_encoder")
    return tuple(
        (cells["task"], _number(cells, columns[0], path), _number(cells, columns[1], path))
        for cells in _rows(path, ("task", *columns))
    )


def _rankings(folder: Path) -> tuple[Ranking, ...]:
    """One ranking per entry of ``fine_tune.json``, of the rows of ``fine_tune.csv`` that have its name."""
    path = folder / "fine_tune.csv"
    rows = _rows(path, ("name", "source", "affinity", "value"))
    found = []
    for entry in _json(folder / "fine_tune.json", [], list):
        sources = {
            cells["source"]: (_number(cells, "affinity", path), _number(cells, "value", path))
            for cells in rows
            if cells["name"] == entry["name"]
        }
        found.append(
            Ranking(
                name=entry["name"],
                target=entry["target"],
                metric=entry["metric"],
                sources=sources,
                higher_is_better=bool(entry.get("higher_is_better", True)),
                spearman=_known(entry.get("spearman")),
            )
        )
    return tuple(found)


def _losses(path: Path) -> dict[TransferKey, float]:
    """Mean scores by transfer."""
    found: dict[TransferKey, float] = {}
    for cells in _rows(path, ("target", "order", "sources", "kind", "mean_score")):
        sources = tuple(sorted(name for name in cells["sources"].split(";") if name))
        found[cells["target"], cells["kind"], sources] = _number(cells, "mean_score", path)  # type: ignore[index]
    return found


def _tasks(path: Path, table: TransfersTable) -> dict[str, TaskInfo]:
    """Tasks of the study by family; where ``tasks.json`` is absent, by the names in the table alone."""
    told = {
        name: TaskInfo(
            name=name,
            family=str(entry.get("family", "")),
            kind=str(entry.get("kind", "")),
            channels=int(entry.get("channels") or 1),
            source_only=bool(entry.get("source_only", False)),
            units=str(entry.get("units") or ""),
            class_names=tuple(entry.get("class_names") or ()),
        )
        for name, entry in _json(path, {}, dict).items()
    }
    names = dict.fromkeys((*told, *table.targets, *table.sources))
    order = {family.value: rank for rank, family in enumerate(Family)}
    known = families(names)
    found = [told.get(name, TaskInfo(name=name, family=known.get(name, ""))) for name in names]
    return {task.name: task for task in sorted(found, key=lambda t: order.get(t.family, len(order)))}


def _examples(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Arrays of ``examples.npz`` by task and column."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    if path.is_file():
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                for name in archive.files:
                    task, _, column = name.rpartition("/")
                    found.setdefault(task, {})[column] = archive[name]
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); run that stage of the study again") from error
    return found
