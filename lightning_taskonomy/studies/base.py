"""What every study is: settings that are checked at once, a run that resumes, results that a logger can take."""

import fcntl
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError

__all__ = ["Results", "Study", "locked"]


@dataclass
class Results:
    """What a study hands to the loggers.

    Args:
        scalars: Numbers by key.
        tables: Columns and rows by key.
        figures: Picture files by key.
        report: The page, if there is one.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)
    report: Path | None = None


class Study(ABC):
    """One paper's measurements, decisions and report, from one recipe."""

    @abstractmethod
    def run(self, out: Path, *, stages: list[str] | None = None) -> Results:
        """Does what is not done yet in ``out`` and analyses it.

        Args:
            out: The study's folder.
            stages: Only these stages; None for all.

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
