"""What a Taskonomy study left in its folder, read and checked: a file that cannot be used is named, with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import TransferKey, TransfersTable
from lightning_taskonomy.reports.examples import read_examples
from lightning_taskonomy.reports.families import families, family_rank
from lightning_taskonomy.reports.figures.curves import Ranking
from lightning_taskonomy.reports.reading import read_cells, read_json, read_number, read_rows
from lightning_taskonomy.solvers.taxonomy import Chance, TaxonomySolution, read_solutions
from lightning_taskonomy.tasks import Task, TaskKind, catalog

__all__ = ["EXTENSIONS", "OPTIONAL", "TaskInfo", "TaxonomyResults", "read_study"]

OPTIONAL = {
    "solutions.json": "the taxonomies",
    "losses.csv": "the losses before normalisation",
    "sanity.csv": "the win rates against the average guess and a random encoder",
    "control.json": "the positive control over seeds",
    "examples.npz": "the predictions on examples",
    "labels.json": "how many images a source and a transfer train on",
    "tasks.json": "families and kinds of the tasks",
}
"""What else a study leaves, and what each file holds."""

EXTENSIONS = {
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
"""Tables of measurements that a setting adds (``NAME.csv``): title and what it holds."""


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
        listed = catalog().get(self.name)
        if listed is not None and (listed.kind.value, listed.channels) == (self.kind, self.channels):
            return listed
        names = self.class_names if len(self.class_names) == self.channels else None
        return Task(self.name, TaskKind(self.kind), self.name, self.channels, units=self.units, class_names=names)


@dataclass(frozen=True, kw_only=True)
class TaxonomyResults:
    """Everything a study left; an optional file that is not there is empty here and named in ``absent``.

    Args:
        table: The transfers.
        tasks: All tasks by name, family by family.
        taxonomies: The solutions.
        chance: What random taxonomies reach, by maximum order and budget.
        losses: Mean scores before normalisation.
        sanity: Per task its win rates against the average guess and against a random encoder.
        control: Entries of the positive control.
        examples: Arrays (N, ...) by task and column.
        labels: ``labels_per_source`` and ``labels_per_transfer``.
        absent: Names of the optional files that are not there.
        extensions: Header and rows of what settings added.
        rankings: Of sources on other data sets.
        requested: The taxonomy that was asked for; a study asks for none, and its report recommends one.
    """

    table: TransfersTable
    tasks: Mapping[str, TaskInfo]
    taxonomies: tuple[TaxonomySolution, ...] = ()
    chance: Mapping[tuple[int, float], Chance] = field(default_factory=dict)
    losses: Mapping[TransferKey, float] = field(default_factory=dict)
    sanity: tuple[tuple[str, float, float], ...] = ()
    control: tuple[Mapping[str, Any], ...] = ()
    examples: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    labels: Mapping[str, float] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    extensions: Mapping[str, tuple[list[str], list[list[str | float]]]] = field(default_factory=dict)
    rankings: tuple[Ranking, ...] = ()
    requested: TaxonomySolution | None = None

    @property
    def families(self) -> dict[str, str]:
        """The family of each task."""
        return {name: task.family for name, task in self.tasks.items()}

    @property
    def targets(self) -> list[str]:
        """Tasks that were targets, family by family."""
        source_only = set(self.source_only)
        return [name for name in self.tasks if name not in source_only]

    @property
    def source_only(self) -> list[str]:
        """Tasks that are never targets."""
        targets = set(self.table.targets)
        return [name for name, task in self.tasks.items() if task.source_only or name not in targets]


def read_study(folder: Path, transfers: Path) -> TaxonomyResults:
    """Reads a study's folder.

    Args:
        folder: Where ``lightning-taskonomy study`` wrote.
        transfers: Its table of transfers.

    Raises:
        InputError: One of its files cannot be used; the file is named.
    """
    table = TransfersTable.read(transfers)
    absent = tuple(name for name in OPTIONAL if not (folder / name).is_file())
    solved = read_solutions(folder / "solutions.json") if "solutions.json" not in absent else []
    return TaxonomyResults(
        table=table,
        tasks=_tasks(folder / "tasks.json", table),
        taxonomies=tuple(taxonomy for taxonomy, _ in solved),
        chance={(t.max_order, t.budget): chance for t, chance in solved if chance is not None},
        losses=_losses(folder / "losses.csv"),
        sanity=_sanity(folder / "sanity.csv"),
        control=tuple(read_json(folder / "control.json", list, [])),
        examples=_examples(folder / "examples.npz"),
        labels=read_json(folder / "labels.json", dict, {}),
        absent=absent,
        extensions={
            name: read_cells(folder / f"{name}.csv") for name in EXTENSIONS if (folder / f"{name}.csv").is_file()
        },
        rankings=_rankings(folder),
    )


def _sanity(path: Path) -> tuple[tuple[str, float, float], ...]:
    """Task and its two win rates."""
    columns = ("win_rate_vs_average", "win_rate_vs_random_encoder")
    return tuple(
        (row["task"], read_number(row, columns[0], path), read_number(row, columns[1], path))
        for row in read_rows(path, ("task", *columns))
    )


def _rankings(folder: Path) -> tuple[Ranking, ...]:
    """One ranking per entry of ``fine_tune.json``, of the rows of ``fine_tune.csv`` that have its name."""
    path = folder / "fine_tune.csv"
    rows = read_rows(path, ("name", "source", "affinity", "value"))
    return tuple(
        Ranking(
            name=entry["name"],
            target=entry["target"],
            metric=entry["metric"],
            sources={
                row["source"]: (read_number(row, "affinity", path), read_number(row, "value", path))
                for row in rows
                if row["name"] == entry["name"]
            },
            higher_is_better=bool(entry.get("higher_is_better", True)),
            spearman=entry.get("spearman"),
        )
        for entry in read_json(folder / "fine_tune.json", list, [])
    )


def _losses(path: Path) -> dict[TransferKey, float]:
    """Mean scores by transfer."""
    losses: dict[TransferKey, float] = {}
    for row in read_rows(path, ("target", "order", "sources", "kind", "mean_score")):
        sources = tuple(sorted(name for name in row["sources"].split(";") if name))
        losses[row["target"], row["kind"], sources] = read_number(row, "mean_score", path)  # type: ignore[index]  # kinds of the study
    return losses


def _tasks(path: Path, table: TransfersTable) -> dict[str, TaskInfo]:
    """Tasks of the study by family; where ``tasks.json`` is absent, by the names in the table alone."""
    described = {
        name: TaskInfo(
            name=name,
            family=str(entry.get("family", "")),
            kind=str(entry.get("kind", "")),
            channels=int(entry.get("channels") or 1),
            source_only=bool(entry.get("source_only", False)),
            units=str(entry.get("units") or ""),
            class_names=tuple(entry.get("class_names") or ()),
        )
        for name, entry in read_json(path, dict, {}).items()
    }
    names = dict.fromkeys((*described, *table.targets, *table.sources))
    family = families(names)
    tasks = [described.get(name, TaskInfo(name=name, family=family.get(name, ""))) for name in names]
    return {task.name: task for task in sorted(tasks, key=lambda task: family_rank(task.family))}


def _examples(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Arrays of ``examples.npz`` by task and column."""
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in (read_examples(path) if path.is_file() else {}).items():
        task, _, column = name.rpartition("/")
        arrays.setdefault(task, {})[column] = array
    return arrays
