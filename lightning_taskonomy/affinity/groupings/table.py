"""The groupings table: which losses a network reaches on the tasks it serves, one row per candidate network.

"Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 3: candidates are
networks of any subset of the tasks, each with an inference cost and one loss per task that it serves.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_text

__all__ = ["PUBLISHED_TASKS", "Footprint", "GroupingsTable", "Network", "NetworkKey"]

PUBLISHED_TASKS = ("SemSeg", "Depth", "Normals", "Keypoints", "Edges")
"""The columns of the published measurements (the paper's task set 1), whose files have no header."""

NetworkKey = tuple[tuple[str, ...], float]
"""What makes a network unique, and what finds it in another file: its tasks and its cost."""

HALF = 0.5
"""The cost of the networks in the first line of a file without a header; all others cost 1."""

_Row = tuple[tuple[str, ...], float, tuple[float, ...]]
"""Tasks, cost and losses, as a file has them."""


@dataclass(frozen=True)
class Footprint:
    """The memory of inference, in bytes.

    Args:
        weights: Of the networks together: all of them stay loaded.
        activations: At their peak, of the network that takes the most: they run one after another.
    """

    weights: int
    activations: int

    @classmethod
    def of(cls, networks: Iterable["Network"]) -> "Footprint | None":
        """That of several networks; None if that of one is unknown."""
        parts = [network.memory for network in networks]
        measured = [part for part in parts if part is not None]
        if not measured or len(measured) < len(parts):
            return None
        return cls(sum(part.weights for part in measured), max(part.activations for part in measured))

    @property
    def total(self) -> int:
        """Weights and activations."""
        return self.weights + self.activations


@dataclass(frozen=True)
class Network:
    """A candidate network.

    Args:
        tasks: The tasks it serves, in the table's order; at least one.
        cost: What one inference costs, above 0; 1 is one full-size network.
        losses: One loss per task of ``tasks``, finite and at least 0, lower is better.
        size: Its encoder's share of the full-size one, where the cost is in another unit; if not given, the cost.
        memory: Its memory, where it was measured.

    Raises:
        InputError: A value is not allowed; the message does not name the row.
    """

    tasks: tuple[str, ...]
    cost: float
    losses: tuple[float, ...]
    size: float = 0.0
    memory: Footprint | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", self.size or self.cost)
        if not self.tasks:
            raise InputError("a network that serves no task: give it a loss, or remove its row")
        if len(set(self.tasks)) != len(self.tasks):
            raise InputError(f"network {self} serves a task twice: name each once")
        if len(self.losses) != len(self.tasks):
            raise InputError(f"network {self} has {len(self.losses)} losses: give one per task")
        if not 0 < self.cost < math.inf:
            raise InputError(f"cost {self.cost:g} is not a finite number above 0; 1 is one full-size network")
        for task, loss in zip(self.tasks, self.losses, strict=True):
            if not 0 <= loss < math.inf:
                raise InputError(
                    f"loss {loss:g} of {task} is not a finite number of at least 0; "
                    "leave it empty if the network does not serve the task"
                )

    @property
    def key(self) -> NetworkKey:
        """Its tasks and its cost."""
        return self.tasks, self.cost

    def loss(self, task: str) -> float:
        """Its loss on a task that it serves."""
        return self.losses[self.tasks.index(task)]

    def __str__(self) -> str:
        return f"{'+'.join(self.tasks)} (cost {self.cost:g})"


@dataclass(frozen=True)
class GroupingsTable:
    """All candidate networks.

    Args:
        tasks: The T tasks; each is served by some network.
        networks: The N candidates, in the file's order, no two with the same tasks and cost.
        unmeasured: Names of networks of the file that have a loss of NaN: left out; name them to the user.

    Raises:
        InputError: There is no task, two networks have the same key, one names an unknown task or its tasks in
            another order, or a task is served by none.
    """

    tasks: tuple[str, ...]
    networks: tuple[Network, ...]
    unmeasured: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError("the table has no task: name one at least")
        _check_names(self.tasks)
        seen: set[NetworkKey] = set()
        for network in self.networks:
            for task in network.tasks:
                if task not in self.tasks:
                    raise InputError(f"network {network} serves the unknown task {task!r}{hint(task, self.tasks)}")
            if network.tasks != tuple(task for task in self.tasks if task in network.tasks):
                raise InputError(f"network {network} names its tasks in another order than {', '.join(self.tasks)}")
            if network.key in seen:
                raise InputError(f"duplicate network {network}: keep one of its rows")
            seen.add(network.key)
        for task in self.tasks:
            if not any(task in network.tasks for network in self.networks):
                left_out = f" (left out, a loss is NaN: {', '.join(self.unmeasured)})" if self.unmeasured else ""
                raise InputError(f"task {task!r} is served by no network{left_out}: measure one or leave the task out")

    def losses(self) -> NDArray[np.float64]:
        """(N, T) losses, NaN where a network does not serve a task."""
        rows = np.full((len(self.networks), len(self.tasks)), np.nan)
        for row, network in zip(rows, self.networks, strict=True):
            row[[task in network.tasks for task in self.tasks]] = network.losses
        return rows

    def costs(self) -> NDArray[np.float64]:
        """(N,) costs."""
        return np.array([network.cost for network in self.networks])

    @cached_property
    def by_key(self) -> dict[NetworkKey, Network]:
        """The networks by their tasks and cost."""
        return {network.key: network for network in self.networks}

    @classmethod
    def common(cls, *tables: "GroupingsTable") -> tuple[list["GroupingsTable"], tuple[str, ...]]:
        """The networks that all tables have, by their tasks and cost.

        Args:
            tables: At least one; all of the same tasks, in any order.

        Returns:
            The tables with the common networks only, in the first one's order of tasks and networks; and the names of
            the networks that one of them lacks.

        Raises:
            InputError: The tasks differ, or the common networks leave a task without any.
        """
        tasks = tables[0].tasks
        for other in tables[1:]:
            if set(other.tasks) != set(tasks):
                raise InputError(
                    f"tables of different tasks: {', '.join(tasks)} against {', '.join(other.tasks)}; "
                    "give tables of the same tasks"
                )
        networks = [
            cls(tasks, tuple(_ordered(network, tasks) for network in table.networks)).by_key for table in tables
        ]
        common = {key: None for key in networks[0] if all(key in by_key for by_key in networks)}
        for task in tasks:
            if not any(task in served for served, _ in common):
                raise InputError(
                    f"the tables have no network of task {task!r} in common; networks match by tasks and cost"
                )
        lone = {key: str(network) for by_key in networks for key, network in by_key.items() if key not in common}
        return [cls(tasks, tuple(by_key[key] for key in common)) for by_key in networks], tuple(lone.values())

    @classmethod
    def read(cls, path: str | os.PathLike[str], tasks: Sequence[str] | None = None) -> "GroupingsTable":
        """Reads and validates a table, separated by tabs or commas.

        A first line with the cell ``cost`` is a header: the other cells are the tasks, then comes one network a line,
        and an empty cell means that it does not serve the task. Without a header the columns are the tasks, the first
        line has one network of cost 0.5 per cell (half-size, one task each), and every other line is one network of
        cost 1. A network with a loss of NaN, such as one whose training failed, is left out.

        Args:
            path: The file.
            tasks: With a header, the tasks it may name; any if not given. Without, the names of the columns; if not
                given and there are five, SemSeg, Depth, Normals, Keypoints, Edges.

        Raises:
            InputError: The file is missing or unreadable, or a line is wrong; the line is named.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(f"groupings table {path} cannot be read ({reason}): give a TSV of losses") from error
        delimiter = "\t" if "\t" in text.lstrip("\r\n").partition("\n")[0] else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
        if not lines:
            raise InputError(f"{path} is empty: give one network a line")
        header = lines.pop(0) if "cost" in lines[0][1] else None
        where = f"{path} line {header[0] if header else lines[0][0]}"
        rows: list[tuple[int, Network]] = []
        unmeasured: list[str] = []
        try:
            columns = _named(header[1], tasks) if header else _unnamed(len(lines[0][1]), tasks)
            names = tuple(name for name in columns if name != "cost")
            for index, (line, cells) in enumerate(lines):
                where = f"{path} line {line}"
                if len(cells) != len(columns):
                    raise InputError(f"{len(cells)} cells, but there are {len(columns)} columns: {', '.join(columns)}")
                parsed = _halves(cells, columns) if header is None and index == 0 else (_parse(cells, columns),)
                for served, cost, losses in parsed:
                    if any(map(math.isnan, losses)):
                        unmeasured.append(f"{'+'.join(served)} (cost {cost:g})")
                    else:
                        rows.append((line, Network(served, cost, losses)))
            first: dict[NetworkKey, int] = {}
            for line, network in rows:
                where = f"{path} line {line}"
                if first.setdefault(network.key, line) != line:
                    raise InputError(f"network {network} is a duplicate of line {first[network.key]}: keep one of them")
            where = f"{path} line {header[0]}" if header else str(path)
            return cls(names, tuple(network for _, network in rows), tuple(unmeasured))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the table with a header, atomically; commas if the name ends in ``.csv``, else tabs.

        Reading it gives an equal table.

        Raises:
            OSError: The disk is full or not writable; an older file under that name stays as it was.
        """
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter="," if Path(path).suffix == ".csv" else "\t", lineterminator="\n")
        writer.writerow(("cost", *self.tasks))
        for network in self.networks:
            losses = dict(zip(network.tasks, network.losses, strict=True))
            cells = (repr(float(losses[task])) if task in losses else "" for task in self.tasks)
            writer.writerow((repr(float(network.cost)), *cells))
        write_text(path, buffer.getvalue())


def _check_names(names: Sequence[str]) -> None:
    """Refuses names that a file could not carry, or that come twice."""
    for name in names:
        if not name or name != name.strip() or name == "cost" or not name.isprintable():
            raise InputError(f"task name {name!r} is empty or 'cost', has blanks around it or a tab in it: rename it")
        if names.count(name) > 1:
            raise InputError(f"task {name!r} is named twice: name each once")


def _named(cells: list[str], allowed: Sequence[str] | None) -> tuple[str, ...]:
    """The columns by a header."""
    if cells.count("cost") > 1:
        raise InputError("two columns are named 'cost': keep one")
    names = [name for name in cells if name != "cost"]
    _check_names(names)
    for name in names:
        if allowed is not None and name not in allowed:
            raise InputError(f"task {name!r} is unknown{hint(name, allowed)}")
    return tuple(cells)


def _unnamed(width: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """The columns of a file without a header."""
    if names is None and width != len(PUBLISHED_TASKS):
        raise InputError(
            f"no header, and {width} columns: start with a line that names 'cost' and the tasks, or give the tasks"
        )
    names = PUBLISHED_TASKS if names is None else tuple(names)
    if len(names) != width:
        raise InputError(f"{width} columns, but {len(names)} tasks are given: {', '.join(names)}")
    _check_names(names)
    return tuple(names)


def _halves(cells: list[str], tasks: Sequence[str]) -> tuple[_Row, ...]:
    """The first line of a file without a header: one half-size network per task."""
    row = zip(tasks, cells, strict=True)
    networks = tuple(((task,), HALF, (_number(task, cell),)) for task, cell in row if cell)
    if not networks:
        raise InputError("no half-size network has a loss: give one, or a header")
    return networks


def _parse(cells: list[str], columns: Sequence[str]) -> _Row:
    """One row; without a column ``cost`` it costs 1."""
    row = dict(zip(columns, cells, strict=True))
    cost = _number("cost", row.pop("cost", "1"))
    losses = {task: _number(task, cell) for task, cell in row.items() if cell}
    return tuple(losses), cost, tuple(losses.values())


def _number(name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{cell!r} of {name} is not a number (a header has the column 'cost')") from None


def _ordered(network: Network, tasks: Sequence[str]) -> Network:
    """The same network with its tasks in the order of ``tasks``."""
    order = tuple(task for task in tasks if task in network.tasks)
    return replace(network, tasks=order, losses=tuple(network.loss(task) for task in order))
