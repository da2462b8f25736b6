"""Directed affinities of tasks as one joint training measures them, and the groups that they speak for.

"Efficiently Identifying Task Groupings for Multi-Task Learning" (Fifty et al., NeurIPS 2021).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings.table import GroupingsTable, Network, NetworkKey
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import read_csv, write_csv

__all__ = ["Affinities", "by_affinity"]


@dataclass(frozen=True)
class Affinities:
    """What every task does to every other while they are trained together.

    Args:
        tasks: The T tasks.
        values: (T, T) by measure: what the row's task, the partner, does for the column's task; more is better. What
            was not measured is NaN. The diagonal is what a task does for itself.

    Raises:
        InputError: A task comes twice, or a matrix is not (T, T).
    """

    tasks: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        if len(set(self.tasks)) != len(self.tasks):
            raise InputError(f"affinities name a task twice: {', '.join(self.tasks)}")
        for measure, matrix in self.values.items():
            if matrix.shape != (len(self.tasks), len(self.tasks)):
                raise InputError(f"{measure} of {len(self.tasks)} tasks is {matrix.shape}; give a square matrix")

    def of(self, measure: str, tasks: Sequence[str] | None = None) -> NDArray[np.float64]:
        """The matrix of one measure.

        Args:
            measure: Its name.
            tasks: The tasks of rows and columns, in this order; all in their own order unless given.

        Raises:
            InputError: Measure or task is unknown.
        """
        if measure not in self.values:
            raise InputError(f"there is no affinity {measure!r}{hint(measure, self.values)}")
        names = self.tasks if tasks is None else tasks
        for task in names:
            if task not in self.tasks:
                raise InputError(f"there is no affinity of task {task!r}{hint(task, self.tasks)}")
        places = [self.tasks.index(task) for task in names]
        return self.values[measure][np.ix_(places, places)]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes ``task, partner`` and one column per measure: what the partner does for the task; atomically.

        Args:
            path: The CSV. A cell is empty where nothing was measured.
        """
        rows = [
            [task, partner, *(_text(matrix[p, t]) for matrix in self.values.values())]
            for t, task in enumerate(self.tasks)
            for p, partner in enumerate(self.tasks)
        ]
        write_csv(path, ["task", "partner", *self.values], rows)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Affinities":
        """Reads what :meth:`write` wrote; a pair that has no line was not measured.

        Args:
            path: The CSV; its other columns are measures.

        Raises:
            InputError: The file cannot be read, or a line is wrong; the line is named.
        """
        try:
            header, rows = read_csv(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(
                f"affinities {path} cannot be read ({reason}): give the CSV of a joint training"
            ) from error
        if header[:2] != ["task", "partner"] or len(set(header)) != len(header):
            raise InputError(f"{path} line 1: columns {', '.join(header)}; give task, partner and measures, each once")
        tasks = tuple(dict.fromkeys(row[0] for row in rows if row))
        values = {measure: np.full((len(tasks), len(tasks)), np.nan) for measure in header[2:]}
        pairs: set[tuple[str, str]] = set()
        for line, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise InputError(f"{path} line {line}: {len(row)} cells, but there are {len(header)} columns")
            task, partner = row[:2]
            if partner not in tasks:
                raise InputError(f"{path} line {line}: {partner!r} is no task of the file{hint(partner, tasks)}")
            if (task, partner) in pairs:
                raise InputError(f"{path} line {line}: {task} with {partner} comes twice; keep one of the lines")
            pairs.add((task, partner))
            for measure, cell in zip(header[2:], row[2:], strict=True):
                values[measure][tasks.index(partner), tasks.index(task)] = _number(cell, f"{path} line {line}")
        return cls(tasks, values)


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell or "nan")
    except ValueError:
        raise InputError(f"{where}: {cell!r} is no number; leave the cell empty if nothing was measured") from None
    if abs(number) == inf:
        raise InputError(f"{where}: {cell!r} is infinite; leave the cell empty if nothing was measured")
    return number


def by_affinity(
    affinity: NDArray[np.float64],
    tasks: Sequence[str],
    networks: Iterable[NetworkKey],
    *,
    scale: Mapping[str, float] | None = None,
    alone: float | Literal["self"] = 0.0,
) -> GroupingsTable:
    """What directed affinities say of networks, as a table to select by.

    The score of a task in a group is the mean affinity from its partners onto it (Fifty et al., section 3.4), and what
    stands for its loss is ``scale * (top - score)``, with ``top`` the highest score of the table, 1 at the least. The
    constant is the same for all networks of a task, so that the lowest total is the highest sum of scores, and nothing
    is below 0. The numbers are no predictions of losses: only their order and their differences mean something. Sizes
    play no part either, as one joint training knows of one size only.

    Args:
        affinity: (T, T), from the row's task onto the column's, as :meth:`Affinities.of` gives it.
        tasks: The T tasks, in its order.
        networks: The candidates, by their tasks and cost; those with a pair that was not measured are left out.
        scale: How much a score of 1 counts for each task; 1 unless given, so that scores, shares of each task's own
            loss, are summed as in that paper. The validation losses of the joint training make shares of losses into
            differences of losses, which a total of losses adds up.
        alone: The score of a network of one task. 0: no step of another task helps or harms it, so that it is better
            than partners that harm on average, and worse than partners that help. ``self``: the diagonal, what its own
            step does for it. The code of Fifty et al. has -1e6, which never chooses such a network.

    Raises:
        InputError: The matrix does not fit the tasks, a scale is not above 0, or the networks left over do not serve
            each task.
    """
    names, scales = tuple(tasks), dict(scale or {})
    if affinity.shape != (len(names), len(names)):
        raise InputError(f"an affinity of {len(names)} tasks is {affinity.shape}; give a square matrix")
    for task, factor in scales.items():
        if task not in names:
            raise InputError(f"scale: {task!r} is not a task of the affinity{hint(task, names)}")
        if not 0 < factor < inf:
            raise InputError(f"scale: {task!r} has {factor}; give a finite number above 0, such as its loss")
    scores = {}
    for served, cost in networks:
        places = [names.index(task) for task in served]
        square = affinity[np.ix_(places, places)]
        diagonal = np.diagonal(square)
        if len(served) == 1:
            onto = diagonal if alone == "self" else np.full(1, float(alone))
        else:
            onto = np.where(np.eye(len(served), dtype=bool), 0, square).sum(axis=0) / (len(served) - 1)
        if not np.isnan(onto).any():
            scores[tuple(served), cost] = onto
    top = max((1.0, *(float(onto.max()) for onto in scores.values())))
    return GroupingsTable(
        names,
        tuple(
            Network(
                served, cost, tuple(scales.get(t, 1.0) * (top - float(s)) for t, s in zip(served, onto, strict=True))
            )
            for (served, cost), onto in scores.items()
        ),
    )
