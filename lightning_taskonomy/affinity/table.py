"""The transfers table: which sources help which target how much, one row per transfer.

The columns are those of the published measurements of "Taskonomy: Disentangling Task Transfer Learning"
(Zamir et al., CVPR 2018, section 3.3), so that published and own measurements go through the same code.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_text

__all__ = ["COLUMNS", "Transfer", "TransferKey", "TransferKind", "TransfersTable", "incidence"]

TransferKind = Literal["task_specific", "transfer", "scratch"]
"""``task_specific``: the target trained itself, fully supervised; ``transfer``: a readout on its frozen sources;
``scratch``: a network trained from scratch on the transfer data, a reference only."""

TransferKey = tuple[str, TransferKind, tuple[str, ...]]
"""What makes a transfer unique: target, kind, sorted sources."""

COLUMNS = ("target", "order", "sources", "kind", "affinity", "win_rate_vs_task_specific", "win_rate_vs_scratch")
"""The columns of the CSV, in order; ``sources`` are separated by ``;``, an empty number means unmeasured."""


@dataclass(frozen=True)
class Transfer:
    """One way to solve a target.

    Args:
        target: The task that is solved.
        order: How many sources it reads.
        sources: Their names; the target alone for ``task_specific``, none for ``scratch``.
        kind: How the target is solved.
        affinity: The normalised performance p, at least 0; None if unmeasured.
        win_rate_vs_task_specific: Share in [0, 1] of images on which it beats the fully supervised network (quality).
        win_rate_vs_scratch: Share in [0, 1] of images on which it beats a network trained from scratch (gain).

    Raises:
        InputError: A value is not allowed; the message does not name the row.
    """

    target: str
    order: int
    sources: tuple[str, ...]
    kind: TransferKind
    affinity: float | None = None
    win_rate_vs_task_specific: float | None = None
    win_rate_vs_scratch: float | None = None

    def __post_init__(self) -> None:
        kinds = get_args(TransferKind)
        if self.kind not in kinds:
            raise InputError(f"kind {self.kind!r} is unknown{hint(self.kind, kinds)}")
        for name in (self.target, *self.sources):
            if not name or name != name.strip() or ";" in name:
                raise InputError(f"task name {name!r} is empty, or has a ';' or blanks around it: rename it")
        if len(set(self.sources)) != len(self.sources):
            raise InputError(f"sources {';'.join(self.sources)} name a task twice: name each once")
        if self.order != len(self.sources):
            raise InputError(f"order {self.order} does not match its {len(self.sources)} sources: make them agree")
        if self.kind == "task_specific" and self.sources != (self.target,):
            raise InputError(f"a task_specific row has its target {self.target!r} as its only source")
        if self.kind == "transfer" and not self.sources:
            raise InputError("a transfer without sources: name them, or say kind scratch")
        if self.affinity is not None and not 0 <= self.affinity < math.inf:
            raise InputError(
                f"affinity {self.affinity} is not a finite number of at least 0; leave it empty if unmeasured"
            )
        for name in COLUMNS[5:]:
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate <= 1:
                raise InputError(f"{name} {rate} is not within 0 and 1; leave it empty if unmeasured")

    @property
    def key(self) -> TransferKey:
        """What makes it unique, whatever the order in which its sources are written."""
        return self.target, self.kind, tuple(sorted(self.sources))

    def __str__(self) -> str:
        return f"{'+'.join(self.sources) or self.kind} -> {self.target}" + (
            " (task_specific)" if self.kind == "task_specific" else ""
        )


@dataclass(frozen=True)
class TransfersTable:
    """All measured transfers.

    Args:
        transfers: The rows with an affinity, and the ``scratch`` rows, in the file's order.
        unmeasured: Rows without an affinity, left out of every decision; name them to the user.

    Raises:
        InputError: Two rows describe the same transfer, or a target has no measured transfer.
    """

    transfers: tuple[Transfer, ...]
    unmeasured: tuple[Transfer, ...] = ()

    def __post_init__(self) -> None:
        seen: set[TransferKey] = set()
        for row in (*self.transfers, *self.unmeasured):
            if row.key in seen:
                raise InputError(f"duplicate transfer {row}: keep one of its rows")
            seen.add(row.key)
        for row in self.transfers:
            if row.affinity is None and row.kind != "scratch":
                raise InputError(f"transfer {row} has no affinity: it belongs to the unmeasured")
        for row in _without_transfer((*self.transfers, *self.unmeasured)):
            raise InputError(f"target {row.target!r} has no measured transfer: measure one or leave the target out")
        if not self.transfers:
            raise InputError("the table has no transfer: measure at least one")

    @classmethod
    def of(cls, rows: Iterable[Transfer]) -> "TransfersTable":
        """A table of any rows; those without an affinity become the unmeasured ones (``scratch`` rows never do)."""
        rows = tuple(rows)
        missing = [row.affinity is None and row.kind != "scratch" for row in rows]
        return cls(
            tuple(row for row, out in zip(rows, missing, strict=True) if not out),
            tuple(row for row, out in zip(rows, missing, strict=True) if out),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """The tasks to solve, in the order of their first rows."""
        return tuple(dict.fromkeys(row.target for row in self.transfers))

    @property
    def sources(self) -> tuple[str, ...]:
        """The tasks that measured transfers read, in the order of their first rows."""
        return tuple(dict.fromkeys(name for row in self.transfers for name in row.sources))

    @property
    def candidates(self) -> tuple[Transfer, ...]:
        """The rows that a taxonomy may choose: all but ``scratch``; each has an affinity."""
        return tuple(row for row in self.transfers if row.kind != "scratch")

    def restricted(self, tasks: Iterable[str]) -> "TransfersTable":
        """The transfers among some of the tasks alone: a smaller dictionary.

        Affinities stay as they are; to have them sum to 1 again, measure the smaller tournament.

        Raises:
            InputError: A task is not in the table, or a target keeps no measured transfer.
        """
        kept, names = set(tasks), {*self.targets, *self.sources}
        for name in sorted(kept - names):
            raise InputError(f"task {name!r} is not in the table{hint(name, names)}")
        inside = (row for row in (*self.transfers, *self.unmeasured) if kept.issuperset({row.target, *row.sources}))
        return TransfersTable.of(inside)

    @classmethod
    def read(cls, path: str | os.PathLike[str], tasks: Iterable[str] | None = None) -> "TransfersTable":
        """Reads and validates a CSV of transfers.

        Args:
            path: The file, or the folder of a study that has its ``affinity.csv``.
            tasks: The tasks that rows may name; any if not given.

        Raises:
            InputError: The file is missing or unreadable, lacks a column, or a row is wrong; the line is named.
        """
        path = Path(path)
        if path.is_dir():
            path /= "affinity.csv"
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise InputError(f"transfers table {path} cannot be read ({reason}): give a CSV of transfers") from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = [name.strip() for name in reader.fieldnames or ()]
        for name in COLUMNS:
            if name not in columns:
                raise InputError(f"{path}: column {name!r} is missing; its first line must name {', '.join(COLUMNS)}")
        reader.fieldnames = columns
        allowed = None if tasks is None else set(tasks)
        rows: list[Transfer] = []
        lines: dict[TransferKey, int] = {}
        for cells in reader:
            where = f"{path} line {reader.line_num}"
            if None in cells or None in cells.values():
                raise InputError(f"{where}: the number of cells is not that of the {len(columns)} columns")
            named = f"{where} (target {cells['target']}, sources {cells['sources']}, {cells['kind']})"
            try:
                row = _parse(cells)
            except InputError as error:
                raise InputError(f"{named}: {error}") from error
            for name in (row.target, *row.sources):
                if allowed is not None and name not in allowed:
                    raise InputError(f"{named}: task {name!r} is unknown{hint(name, allowed)}")
            if row.key in lines:
                raise InputError(f"{named}: duplicate of line {lines[row.key]}: keep one of them")
            lines[row.key] = reader.line_num
            rows.append(row)
        for row in _without_transfer(rows):
            raise InputError(
                f"{path} line {lines[row.key]} ({row}): target {row.target!r} has no measured transfer: "
                "measure one or leave the target out"
            )
        try:
            return cls.of(rows)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the CSV atomically, unmeasured rows last; reading it gives an equal table.

        Raises:
            OSError: The disk is full or not writable; an older file under that name stays as it was.
        """
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in (*self.transfers, *self.unmeasured):
            numbers = (row.affinity, row.win_rate_vs_task_specific, row.win_rate_vs_scratch)
            cells = ("" if number is None else repr(float(number)) for number in numbers)
            writer.writerow((row.target, row.order, ";".join(row.sources), row.kind, *cells))
        write_text(path, buffer.getvalue())


def incidence(transfers: Sequence[Transfer], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which sources each transfer needs.

    Args:
        transfers: E of them.
        names: S tasks, among them every source of the transfers.

    Returns:
        (E, S).
    """
    position = {name: index for index, name in enumerate(names)}
    needs = np.zeros((len(transfers), len(names)), dtype=bool)
    for index, row in enumerate(transfers):
        needs[index, [position[name] for name in row.sources]] = True
    return needs


def _without_transfer(rows: Iterable[Transfer]) -> list[Transfer]:
    """The rows of targets that no measured transfer solves."""
    rows = tuple(rows)
    solved = {row.target for row in rows if row.kind == "transfer" and row.affinity is not None}
    return [row for row in rows if row.target not in solved]


def _parse(cells: dict[str, str]) -> Transfer:
    """One row from its cells."""
    kind = cells["kind"].strip()
    try:
        order = int(cells["order"])
    except ValueError:
        raise InputError(f"order {cells['order']!r} is not a whole number") from None
    return Transfer(
        cells["target"].strip(),
        order,
        tuple(name.strip() for name in cells["sources"].split(";")) if cells["sources"].strip() else (),
        kind,  # type: ignore[arg-type]  # checked by Transfer itself
        *(_number(name, cells[name]) for name in COLUMNS[4:]),
    )


def _number(name: str, cell: str) -> float | None:
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{name} {cell!r} is not a number; leave it empty if unmeasured") from None
