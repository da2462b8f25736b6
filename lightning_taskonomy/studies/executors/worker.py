"""What workers of every executor do: jobs, one after the other, in a process that stays."""

import ctypes
import gc
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_taskonomy.studies.executors.base import perform

__all__ = ["TIDY", "Failed", "attempt", "environment", "thread_variables", "tidy"]

Failed = tuple[str, str]
"""The last line of a traceback, and the whole of it."""

TIDY = 10
"""Jobs after which a worker gives freed memory back."""


def attempt(
    function: str, arguments: Mapping[str, Any], done: Sequence[Path], threads: int | None = None
) -> Failed | None:
    """Does a job in a worker's process.

    Args:
        function: Dotted path of what is called.
        arguments: Its keyword arguments.
        done: Its done-files.
        threads: Torch threads of jobs that use torch; as they are where not given.

    Returns:
        None, or the last line of the traceback and the whole of it.
    """
    try:
        pkgutil.resolve_name(function)  # by now a job that uses torch has imported it
        if threads is not None and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        perform(function, arguments, done)
    except Exception as error:  # the scheduler records it and goes on with what does not need it
        return f"{type(error).__name__}: {error}", traceback.format_exc()
    return None


def tidy() -> None:
    """Gives freed memory back: hundreds of small fits in one process leave holes behind."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that set the threads of numerical libraries."""
    return {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Environment variables for a child that starts meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
