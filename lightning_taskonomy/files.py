"""Files that matter appear whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary name beside ``path``; when the block ends without an error it is synced and renamed to it.

    Args:
        path: The final name; missing parent folders are made.

    Raises:
        OSError: The disk is full or not writable; nothing is left under either name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp" + path.suffix)
    os.close(handle)
    temporary = Path(name)
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
