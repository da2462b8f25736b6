"""What every executor is: a place where jobs run."""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.lock import claimed

__all__ = ["Executor", "Outcome", "check_least", "perform"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Args:
        job: The job.
        seconds: What it took.
        error: The last line of its traceback, or what became of its process; empty if it is done.
        trace: The whole traceback.
        lost: It did not fail by itself: its process died, its node was lost, or it ran beyond its time limit. It is
            tried again, so many times.
        devices: GPUs that it occupied, or shares of one.
    """

    job: Job
    seconds: float
    error: str = ""
    trace: str = ""
    lost: bool = False
    devices: float = 0.0


class Executor(ABC):
    """Takes jobs whose needs are met, runs them somewhere, and says how they ended.

    An executor knows nothing of stages and needs: the scheduler gives it what can run. Whatever happens to it or to its
    workers, a job is done when its files are there. Use it as a context manager.

    Args:
        retries: How often a job is tried again whose process or node was lost.
        time_limits: Seconds after which a job of a kind is stopped; no limit for kinds that are not named.

    Raises:
        InputError: A setting is out of range, or what it needs is not installed.
    """

    threads: int = 1
    """Torch threads of each worker."""

    def __init__(self, retries: int = 2, time_limits: Mapping[str, float] | None = None) -> None:
        if retries < 0:
            raise InputError(f"execution: retries is {retries}, must be at least 0")
        for kind, seconds in (time_limits or {}).items():
            if not seconds > 0:
                raise InputError(f"execution: the time limit of {kind!r} is {seconds}, must be above 0 seconds")
        self.retries, self.time_limits = retries, dict(time_limits or {})
        self.folder = Path(".")

    def at(self, folder: Path) -> Self:
        """Says in which study's folder it works; logs of jobs and its own records go there."""
        self.folder = folder
        return self

    @abstractmethod
    def __enter__(self) -> Self:
        """Starts it, or connects to it.

        Raises:
            InputError: It cannot be reached.
        """

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what it started; after an error also jobs that are at work."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many jobs run at once, for the expected end."""

    @property
    @abstractmethod
    def free(self) -> int:
        """How many jobs it takes now."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Takes a job."""

    @abstractmethod
    def wait(self) -> Sequence[Outcome]:
        """Waits for jobs to end, half a second at most.

        Returns:
            Those that ended since the last call; none if none did.
        """


def check_least(numbers: Mapping[str, tuple[float, float]]) -> None:
    """Refuses settings below their least value.

    Args:
        numbers: Value and least value by name.

    Raises:
        InputError: One is below.
    """
    for name, (value, least) in numbers.items():
        if value < least:
            raise InputError(f"execution: {name} is {value}, must be at least {least}")


def perform(function: str, arguments: Mapping[str, Any], done: Sequence[Path]) -> None:
    """Does a job in this process, unless it was done meanwhile. What every worker calls.

    A process that still does the same job, as after the death of its driver, is waited for, on another machine too:
    nothing is done twice.

    Args:
        function: Dotted path of what is called.
        arguments: Its keyword arguments.
        done: Its done-files.

    Raises:
        RuntimeError: It returned without leaving its files.
    """
    with ExitStack() as stack:
        for file in sorted(done):
            stack.enter_context(claimed(file))
        if all(file.is_file() for file in done):
            return
        pkgutil.resolve_name(function)(**arguments)
        for file in done:
            if not file.is_file():
                raise RuntimeError(f"{function} returned without leaving {file}")
