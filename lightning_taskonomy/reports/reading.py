"""Files of a study's folder, read and checked: one that cannot be used is named, with the reason."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import read_csv

__all__ = ["read_cells", "read_json", "read_number", "read_rows", "read_values"]


def read_json(path: Path, kind: type, default: Any) -> Any:
    """The content of a JSON file, or the default where there is none.

    Args:
        path: The file.
        kind: ``list`` or ``dict``.
        default: What to give without a file.

    Raises:
        InputError: It is damaged, or holds something else.
    """
    if not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the study again: nothing is trained twice") from error
    if not isinstance(content, kind):
        raise InputError(f"{path} holds a {type(content).__name__}, not a {kind.__name__}; run that stage again")
    return content


def read_values(path: Path, *names: str) -> list[Any]:
    """What a file of one JSON object has of these names.

    Raises:
        InputError: There is no such file, it is damaged, or it lacks one of them.
    """
    content = read_json(path, dict, {})
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{path} has no {missing[0]!r}; remove its folder and run the study again")
    return [content[name] for name in names]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has these columns and perhaps more; none where there is no file.

    Raises:
        InputError: It is not text, a column is missing, or a row has not as many cells as the header.
    """
    if not path.is_file():
        return []
    header, rows = _cells(path)
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; its first line must name {', '.join(columns)}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_number(row: Mapping[str, str], column: str, path: Path) -> float:
    """A number of a row, NaN where empty.

    Raises:
        InputError: It is not a number; the file is named.
    """
    try:
        return float(row[column]) if row[column].strip() else math.nan
    except ValueError:
        raise InputError(f"{path}: {column} {row[column]!r} is not a number; leave it empty if unmeasured") from None


def read_cells(path: Path) -> tuple[list[str], list[list[str | float]]]:
    """Header and rows of any CSV, numbers as such and NaN where a cell is empty.

    Raises:
        InputError: It is not text, or a row has not as many cells as the header.
    """
    header, rows = _cells(path)
    return header, [[_cell(cell) for cell in row] for row in rows]


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of any CSV, each row as long as the header; without empty lines."""
    try:
        header, rows = read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); run the study again: nothing is trained twice") from error
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(header):
            raise InputError(f"{path}, line {number}: {len(row)} cells under {len(header)} headings; write it anew")
    return header, [row for row in rows if row]


def _cell(text: str) -> str | float:
    try:
        number = float(text) if text.strip() else math.nan
    except ValueError:
        return text
    return int(number) if text.strip().lstrip("-").isdigit() else number
