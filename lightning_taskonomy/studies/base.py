"""What every study is: settings that are checked at once, a run that resumes."""

import fcntl
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.results import Results

__all__ = ["Study", "locked"]


class Study(ABC):
    """One paper's measurements, decisions and report, from one recipe."""

    @abstractmethod
    def run(self, out: Path, *, stages: list[str] | None = None, redo: bool = False) -> Results:
        """Does what is not done yet in ``out`` and analyses it.

        Args:
            out: The study's folder.
            stages: Only these stages; None for all.
            redo: Do them again even where they are done.

        Raises:
            InputError: A setting is wrong, or nothing could be measured.
        """

    @abstractmethod
    def dry_run(self, out: Path) -> str:
        """Says what would run, how long and on how much disk, without training."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds a study's folder for one process.

    Raises:
        InputError: Another process is at work in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process runs a study in {out}; wait for it or give another --out") from error
        yield
