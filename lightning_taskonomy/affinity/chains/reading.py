"""CSV files of this package: the same columns in any order, no others, errors with the line."""

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lightning_taskonomy.errors import InputError, hint

__all__ = ["finite", "read_rows"]

Row = TypeVar("Row")


def read_rows(
    path: str | os.PathLike[str], name: str, columns: Sequence[str], parse: Callable[[dict[str, str]], Row]
) -> list[tuple[int, Row]]:
    """The rows of a CSV, each with its line.

    Args:
        path: The file.
        name: The file's name within its study: a folder that has it may be given instead.
        columns: What the first line names, in any order.
        parse: Makes a row of its cells by column, without blanks around them; an `InputError` gets the line.

    Raises:
        InputError: The file cannot be read, a column is missing, unknown or named twice, or a row is wrong.
    """
    path = Path(path)
    path = path / name if path.is_dir() else path
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
        lines = [(cells, reader.line_num) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = (
            "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        )
        raise InputError(f"{path} cannot be read ({reason}): give a CSV with {', '.join(columns)}") from error
    header = [cell.strip() for cell in lines[0][0]] if lines else []
    for column in header:
        if column not in columns:
            raise InputError(f"{path} line 1: column {column!r} is unknown{hint(column, columns)}")
    for column in columns:
        if header.count(column) != 1:
            raise InputError(
                f"{path} line 1: column {column!r} is there {header.count(column)} times; name each of "
                f"{', '.join(columns)} once"
            )
    rows = []
    for cells, number in lines[1:]:
        where = f"{path} line {number}"
        if not cells:
            continue
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} cells, but there are {len(header)} columns")
        try:
            rows.append((number, parse(dict(zip(header, map(str.strip, cells), strict=True)))))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return rows


def finite(cell: str, column: str) -> float:
    """A finite number.

    Raises:
        InputError: It is none.
    """
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{column} {cell!r} is not a finite number")
    return number
