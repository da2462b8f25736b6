"""What a grouping study left in its folder, read and checked: a file that cannot be used is named, with the reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings import Affinities, GroupingsTable, Network, Unit, priced
from lightning_taskonomy.affinity.groupings.costs import Batch
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import INFERENCE, MACHINE, InferenceCosts
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.examples import Examples, read_examples
from lightning_taskonomy.reports.grouping.selection import Selection
from lightning_taskonomy.reports.reading import read_number, read_rows
from lightning_taskonomy.reports.words import join
from lightning_taskonomy.solvers.grouping import served

__all__ = ["FILES", "BudgetUnit", "Choice", "GroupingResults", "MeasuredNetwork", "as_written", "read_grouping_study"]

FILES = {
    "network_losses.csv": "the losses of each network and seed",
    "validation.csv": "the validation losses of the candidates",
    "test.csv": "their test losses",
    "early.csv": "their losses after a part of the data",
    "choices.csv": "what each method chooses or trains at each budget",
    "inference.csv": "what encoders and decoders cost",
    "machine.json": "the machine that this was measured on",
    "affinities.csv": "how tasks affect each other, by several measures",
    "approximations.csv": "the cost and the regret of the approximations",
    "trainings.csv": "how long each network trained",
    "examples": "predictions on a few test images",
}
"""What a study may leave, and what each file holds."""

_LOSSES = ("network", "kind", "tasks", "size", "cost", "seed", "split", "task", "loss")
_CHOICES = ("method", "budget", "seed", "cost", "networks", "validation_loss", "test_loss")
_APPROXIMATIONS = ("approximation", "trainings", "kendall_tau", "budget", "test_loss", "optimal_loss", "regret")
_TRAININGS = ("network", "size", "seed", "epochs", "seconds", "best_epoch", "status", "reason")
_TEXT = {"network", "kind", "tasks", "seed", "split", "task", "method", "networks", "approximation",
         "status", "reason", "folder"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """A network of one seed.

    Args:
        kind: ``candidate``, ``single``, ``mtl`` or another baseline.
        tasks: The tasks it serves, in the study's order.
        size: The size of its encoder; 1 is the full-size one.
        seed: Its seed.
        losses: Losses by split and task.
    """

    kind: str
    tasks: tuple[str, ...]
    size: float
    seed: str
    losses: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a method chose, or trained, at a budget: a row of ``choices.csv``.

    Args:
        method: Its key.
        budget: The inference budget.
        seed: The seed of the networks.
        cost: What the networks cost together.
        networks: Tasks and size of each; none for random groupings.
        validation: The total validation loss, weighted where the study weighs tasks; NaN where unknown.
        test: The total test loss, weighted too.
        tasks: Test losses by task.
    """

    method: str
    budget: float
    seed: str
    cost: float
    networks: tuple[tuple[tuple[str, ...], float], ...]
    validation: float
    test: float
    tasks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BudgetUnit:
    """What budgets of the study count.

    Args:
        unit: ``snt``, ``multiply_adds`` or ``milliseconds``.
        count_decoders: Whether decoders count.
        batch: The batch whose milliseconds count.
    """

    unit: Unit = "snt"
    count_decoders: bool = False
    batch: Batch = 1

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "BudgetUnit":
        """That of a study's settings."""
        return cls(
            unit=settings.get("budget_unit", "snt"),
            count_decoders=bool(settings.get("count_decoders", False)),
            batch=settings.get("latency_batch", 1),
        )

    @property
    def words(self) -> str:
        """In words."""
        units = {
            "snt": "1: one full-size network",
            "multiply_adds": "10⁹ multiply-adds",
            "milliseconds": f"ms of {self.batch} image" + "s" * (self.batch > 1),
        }
        return units[self.unit] + (", with decoders" if self.count_decoders else "")


Row = Mapping[str, Any]
"""Text and numbers by column; a number is NaN where its cell is empty."""


@dataclass(frozen=True, kw_only=True)
class GroupingResults:
    """Everything a study left; what is not there is empty here and named in ``absent``.

    Args:
        tasks: The tasks in the study's order.
        networks: All networks of all seeds.
        validation: Validation losses of the candidates, means over seeds.
        test: Their test losses.
        early: Their losses after a part of the data.
        choices: What each method chose.
        inference: What encoders and decoders cost, and on which machine.
        affinities: (T, T) matrices by measure; rows are partners, columns the task that is measured.
        approximations: Rows of ``approximations.csv``.
        trainings: Rows of ``trainings.csv``.
        examples: Per budget, the arrays by task and column.
        absent: Names of :data:`FILES` that are not there.
        unit: What budgets count.
        selection: What the study chooses by.
    """

    tasks: tuple[str, ...]
    networks: tuple[MeasuredNetwork, ...] = ()
    validation: GroupingsTable | None = None
    test: GroupingsTable | None = None
    early: GroupingsTable | None = None
    choices: tuple[Choice, ...] = ()
    inference: InferenceCosts | None = None
    affinities: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    approximations: tuple[Row, ...] = ()
    trainings: tuple[Row, ...] = ()
    examples: Mapping[str, Examples] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    unit: BudgetUnit = field(default_factory=BudgetUnit)
    selection: Selection = field(default_factory=Selection)

    @property
    def priced_test(self) -> GroupingsTable:
        """The test losses of the candidates, with costs in the unit of budgets.

        Raises:
            InputError: They are not there, or what candidates cost in that unit is not.
        """
        if self.test is None:
            raise InputError("there is no test.csv")
        if self.unit.unit == "snt" and not self.unit.count_decoders:
            return self.test
        if self.inference is None:
            raise InputError("there is no inference.csv with its machine.json")
        unit = self.unit
        return priced(
            self.test,
            self.inference,
            unit.unit,
            count_decoders=unit.count_decoders,
            batch=unit.batch,
            other_machine=True,
        )

    @cached_property
    def seeds(self) -> tuple[str, ...]:
        """All seeds, in the order of the files."""
        return tuple(dict.fromkeys([n.seed for n in self.networks] + [c.seed for c in self.choices]))

    def by_size(self, seed: str, split: str, kinds: Sequence[str] = ("candidate", "single")) -> GroupingsTable:
        """The losses of one seed, a table of networks by their size in place of their cost.

        Args:
            seed: The seed.
            split: ``validation``, ``test`` or ``early``.
            kinds: Which networks.

        Raises:
            InputError: There are none, or some task is served by none of them.
        """
        networks: dict[tuple[tuple[str, ...], float], Network] = {}
        for one in self.networks:
            losses = one.losses.get(split, {})
            if one.seed == seed and one.kind in kinds and all(task in losses for task in one.tasks):
                network = Network(one.tasks, one.size, tuple(losses[task] for task in one.tasks))
                networks.setdefault(network.key, network)
        if not networks:
            raise InputError(f"network_losses.csv has no {split} losses of {' and '.join(kinds)} networks, seed {seed}")
        return GroupingsTable(self.tasks, tuple(networks.values()))

    def serving(self, choice: Choice) -> tuple[tuple[Network, ...], tuple[tuple[str, ...], ...]]:
        """The networks of a choice, and the tasks that each serves by the validation losses of its seed.

        Args:
            choice: One of candidates.

        Raises:
            InputError: Validation losses are missing.
        """
        table = self.by_size(choice.seed, "validation", ("candidate",))
        order = {task: place for place, task in enumerate(self.tasks)}
        keys = [
            (tuple(sorted(tasks, key=lambda task: order.get(task, len(order)))), size)
            for tasks, size in choice.networks
        ]
        missing = [f"{'+'.join(tasks)}@{size:g}" for tasks, size in keys if (tasks, size) not in table.by_key]
        if missing:
            raise InputError(f"network_losses.csv has no validation losses of {join(missing)}, seed {choice.seed}")
        networks = tuple(table.by_key[key] for key in keys)
        return networks, served(networks, table)


def read_grouping_study(folder: Path, manifest: Manifest) -> GroupingResults:
    """Reads a study's folder.

    Args:
        folder: Where ``lightning-taskonomy study`` wrote.
        manifest: Its manifest.

    Raises:
        InputError: A file cannot be used; it is named.
    """
    tables = {
        name: GroupingsTable.read(folder / f"{name}.csv") if (folder / f"{name}.csv").is_file() else None
        for name in ("validation", "test", "early")
    }
    choices = _read(folder / "choices.csv", _CHOICES)
    losses = _read(folder / "network_losses.csv", _LOSSES)
    tasks = _tasks(tables.values(), choices, losses, manifest)
    networks, selection = _networks(losses), Selection.of(manifest.settings)
    kept = tuple(_choice(row, tasks, folder / "choices.csv") for row in choices)
    if selection.importance:
        kept = tuple(_weighted(one, selection, networks, tasks) for one in kept)
    return GroupingResults(
        tasks=tasks,
        networks=networks,
        choices=kept,
        inference=InferenceCosts.read(folder / INFERENCE) if _both(folder, INFERENCE, MACHINE) else None,
        affinities=_affinities(folder / "affinities.csv", tasks),
        approximations=_read(folder / "approximations.csv", _APPROXIMATIONS),
        trainings=_read(folder / "trainings.csv", _TRAININGS),
        examples=_examples(folder / "examples"),
        unit=BudgetUnit.of(manifest.settings),
        selection=selection,
        absent=tuple(name for name in FILES if not (folder / name).exists()),
        **tables,
    )


def as_written(size: float) -> float:
    """A size in the digits that names of networks have."""
    return float(f"{size:g}")


def _both(folder: Path, *names: str) -> bool:
    return all((folder / name).is_file() for name in names)


def _read(path: Path, columns: Sequence[str]) -> tuple[Row, ...]:
    """The rows of a CSV; what is no text is a number."""
    return tuple(
        {name: cell if name in _TEXT else read_number(row, name, path) for name, cell in row.items()}
        for row in read_rows(path, columns)
    )


def _tasks(
    tables: Iterable[GroupingsTable | None], choices: Sequence[Row], losses: Sequence[Row], manifest: Manifest
) -> tuple[str, ...]:
    """The tasks in the study's order, by the first file that has them."""
    for table in tables:
        if table is not None:
            return table.tasks
    if choices:
        return tuple(name for name in choices[0] if name not in _CHOICES)
    if losses:
        return max((tuple(str(row["tasks"]).split(";")) for row in losses), key=len)
    return tuple(str(name).rpartition(".")[2] for name in manifest.settings.get("tasks") or ())


def _networks(rows: Sequence[Row]) -> tuple[MeasuredNetwork, ...]:
    losses: dict[tuple[str, str, float, str], dict[str, dict[str, float]]] = {}
    for row in rows:
        by_split = losses.setdefault((row["kind"], row["tasks"], as_written(row["size"]), row["seed"]), {})
        if np.isfinite(row["loss"]):
            by_split.setdefault(row["split"], {})[row["task"]] = row["loss"]
    return tuple(
        MeasuredNetwork(kind=kind, tasks=tuple(tasks.split(";")), size=size, seed=seed, losses=by_split)
        for (kind, tasks, size, seed), by_split in losses.items()
    )


def _choice(row: Row, tasks: Sequence[str], path: Path) -> Choice:
    try:
        names = [one.strip().rpartition("@") for one in row["networks"].split(";") if one.strip()]
        networks = tuple((tuple(group.split("+")), float(size)) for group, _, size in names)
    except ValueError:
        raise InputError(
            f"{path}: networks {row['networks']!r} are not such as 'a+b@1; c@0.5'; write it anew"
        ) from None
    return Choice(
        method=row["method"],
        budget=round(row["budget"], 6),
        seed=row["seed"],
        cost=row["cost"],
        networks=networks,
        validation=row["validation_loss"],
        test=row["test_loss"],
        tasks={task: row[task] for task in tasks if task in row},
    )


def _weighted(
    choice: Choice, selection: Selection, networks: Sequence[MeasuredNetwork], tasks: Sequence[str]
) -> Choice:
    """The choice with weighted totals, from the losses of its tasks and of its networks."""
    kinds = [choice.method, "candidate", "single"]
    by_key = {
        (one.tasks, one.size): one.losses.get("validation", {})
        for kind in reversed(kinds)
        for one in networks
        if one.seed == choice.seed and one.kind == kind
    }
    lowest: dict[str, float] = {}
    for group, size in choice.networks:
        for task, loss in by_key.get((group, as_written(size)), {}).items():
            lowest[task] = min(loss, lowest.get(task, loss))
    return replace(choice, validation=selection.sum(lowest, tasks), test=selection.sum(choice.tasks, tasks))


def _affinities(path: Path, tasks: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The matrices that have a value between two tasks; what a task does for itself is left out."""
    if not path.is_file():
        return {}
    table = Affinities.read(path)
    apart = ~np.eye(len(tasks), dtype=bool)
    matrices = {measure: np.where(apart, table.of(measure, tasks), np.nan) for measure in table.values}
    return {measure: matrix for measure, matrix in matrices.items() if np.isfinite(matrix).any()}


def _examples(folder: Path) -> dict[str, Examples]:
    """Examples by budget, the least first; folders without a picture are left out."""
    budgets = [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []
    read = {place.name: {file.stem: read_examples(file) for file in sorted(place.glob("*.npz"))} for place in budgets}
    return {budget: by_task for budget, by_task in sorted(read.items(), key=_by_number) if by_task}


def _by_number(entry: tuple[str, Any]) -> tuple[float, str]:
    try:
        return float(entry[0]), entry[0]
    except ValueError:
        return float("inf"), entry[0]
