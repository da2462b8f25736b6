"""Files that matter appear whole or not at all."""

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "UnwritableError",
    "atomic",
    "check_writable",
    "read_csv",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_text",
]


class UnwritableError(OSError):
    """A file cannot be made where it was asked for; ``filename`` says where."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary name beside ``path``; when the block ends without an error it is synced and renamed to it.

    Args:
        path: The final name; missing parent folders are made.

    Raises:
        UnwritableError: No file can be made there.
        OSError: The disk is full; nothing is left under either name.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_writable(*paths: Path | None) -> None:
    """Refuses early what ``atomic`` would refuse after the work is done; makes missing parent folders.

    Args:
        paths: Files that are to be written; None is passed over.

    Raises:
        UnwritableError: No file can be made at one of them.
    """
    for path in paths:
        if path is not None:
            _beside(path).unlink()


def _beside(path: Path) -> Path:
    """An empty file beside a path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp" + path.suffix)
    except OSError as error:
        raise UnwritableError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    return Path(name)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes bytes atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: str | os.PathLike[str], content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(content, indent=1, default=default) + "\n")


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a header and rows as CSV, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_csv(path: str | os.PathLike[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a CSV, as text."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        header, *rows = [*csv.reader(file)] or [[]]
    return header, rows
