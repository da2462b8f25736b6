"""The measurements in the Taskonomy repository's own files.

github.com/StanfordVL/taskonomy, ``results/``: ``affinities/all_affinities_16k.pkl`` has AHP's affinities and
``winrates/wins_vs_task_16k.pkl`` and ``wins_vs_pixels_16k.pkl`` the win rates against the task-specific network and the
one from scratch (also ``_1k``, and without a suffix). Each is a dictionary from ``source__source__target`` to a NumPy
scalar; the source ``self`` stands for the task-specific network and ``pixels`` for the one from scratch.
"""

import math
import os
from collections.abc import Iterable, Iterator

from lightning_taskonomy.affinity.table import Transfer, TransferKey, TransferKind, TransfersTable
from lightning_taskonomy.affinity.unpickling import load_plain
from lightning_taskonomy.errors import InputError, hint

__all__ = ["read_pickles"]


def read_pickles(
    affinities: str | os.PathLike[str],
    vs_task_specific: str | os.PathLike[str] | None = None,
    vs_scratch: str | os.PathLike[str] | None = None,
    tasks: Iterable[str] | None = None,
) -> TransfersTable:
    """The repository's measurements as a table of transfers.

    Args:
        affinities: ``all_affinities*.pkl``.
        vs_task_specific: ``wins_vs_task*.pkl``, for quality.
        vs_scratch: ``wins_vs_pixels*.pkl``, for gain.
        tasks: The tasks that transfers may name; any if not given.

    Returns:
        Every transfer that one of the files names; those without an affinity, or with NaN, are unmeasured.

    Raises:
        InputError: A file cannot be read or asks for more than numbers; or an entry is wrong and is named.
    """
    allowed = None if tasks is None else set(tasks)
    rows: dict[TransferKey, Transfer] = {}
    for column, path in enumerate((affinities, vs_task_specific, vs_scratch)):
        seen: set[TransferKey] = set()
        for entry, value in () if path is None else _entries(path):
            named = f"{path}: entry {entry!r}"
            try:
                row = Transfer(*_transfer(entry))
                row = rows.get(row.key, row)
                numbers = [row.affinity, row.win_rate_vs_task_specific, row.win_rate_vs_scratch]
                numbers[column] = value
                rows[row.key] = Transfer(row.target, row.order, row.sources, row.kind, *numbers)
            except InputError as error:
                raise InputError(f"{named}: {error}") from error
            for name in (row.target, *row.sources):
                if allowed is not None and name not in allowed:
                    raise InputError(f"{named}: task {name!r} is unknown{hint(name, allowed)}")
            if row.key in seen:
                raise InputError(f"{named}: duplicate of the same sources in another order: keep one of them")
            seen.add(row.key)
    try:
        return TransfersTable.of(rows.values())
    except InputError as error:
        raise InputError(f"{affinities}: {error}") from error


def _entries(path: str | os.PathLike[str]) -> Iterator[tuple[str, float | None]]:
    """Names and numbers of a dictionary; NaN is None."""
    numbers = load_plain(path)
    if not isinstance(numbers, dict):
        raise InputError(f"{path} holds no dictionary of numbers: give one of the repository's files of measurements")
    for entry, value in numbers.items():
        is_number = isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53)
        if not isinstance(entry, str) or not is_number:
            raise InputError(f"{path}: entry {str(entry)[:80]!r} is not a transfer with a number")
        yield entry, None if math.isnan(value) else float(value)


def _transfer(entry: str) -> tuple[str, int, tuple[str, ...], TransferKind]:
    """Target, order, sources and kind of ``source__source__target``."""
    *sources, target = entry.split("__")
    if sources == ["self"]:
        return target, 1, (target,), "task_specific"
    if sources == ["pixels"]:
        return target, 0, (), "scratch"
    return target, len(sources), tuple(sources), "transfer"
