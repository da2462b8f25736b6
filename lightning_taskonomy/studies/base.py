"""What every study is: settings that are checked at once, a run that resumes."""

import fcntl
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import write_json
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.engine import Engine

__all__ = ["Study", "at_work", "locked", "wanted"]


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


def wanted(stages: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """The stages asked for, all where None.

    Raises:
        InputError: There is no such stage.
    """
    for stage in stages or ():
        if stage not in known:
            raise InputError(f"no stage {stage!r}{hint(stage, known)}")
    return known if stages is None else stages


@contextmanager
def at_work(out: Path, workers: int, threads: int, redo: bool) -> Iterator[Engine]:
    """Holds a study's folder and gives its engine; ``failures.json`` is written in the end, whatever happens."""
    with locked(out), Engine(workers, threads, redo, out / "costs.json") as engine:
        if (out / "costs.json").is_file():
            engine.costs = json.loads((out / "costs.json").read_text())
        try:
            yield engine
        finally:
            write_json(out / "failures.json", [asdict(failure) for failure in engine.failures])
