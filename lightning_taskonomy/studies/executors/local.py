"""Jobs on this machine: worker processes that stay warm between jobs and die with the study."""

import ctypes
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from lightning_taskonomy.arguments import show_log
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors.base import Executor, Outcome, perform
from lightning_taskonomy.studies.graph import Job

__all__ = ["LocalExecutor"]

_TIDY = 10
"""Jobs after which a worker gives freed memory back."""


def _worker(connection: Connection, parent: int, threads: int) -> None:
    """Takes jobs until the pipe closes. Dies with its parent, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    show_log()
    import torch

    torch.set_num_threads(threads)
    finished = 0
    while True:
        try:
            call = connection.recv()
        except EOFError:
            return
        connection.send(_performed(*call))
        finished += 1
        if finished % _TIDY == 0:
            _tidy()


def _performed(function: str, arguments: Mapping[str, Any], done: Sequence[Any]) -> tuple[str, str] | None:
    """Does a job; the last line of the traceback and the whole of it if it fails."""
    try:
        perform(function, arguments, done)
    except Exception as error:  # the scheduler records it and goes on with what does not need it
        return f"{type(error).__name__}: {error}", traceback.format_exc()
    return None


def _tidy() -> None:
    """Gives freed memory back: hundreds of small fits in one process leave holes behind."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@dataclass
class _Slot:
    environment: dict[str, str]
    process: Any = None
    connection: Connection | None = None
    job: Job | None = None
    started: float = 0.0


class LocalExecutor(Executor):
    """Worker processes on this machine; the default.

    Args:
        workers: Processes; 0 runs every job in this one. With CUDA, worker i sees device i modulo their number.
        threads: Torch threads of each.
        retries: How often a job is tried again whose process died.
        time_limits: Seconds after which a job of a kind is stopped; no limit for kinds that are not named.
    """

    def __init__(
        self,
        workers: int = 2,
        threads: int = 1,
        retries: int = 2,
        time_limits: dict[str, float] | None = None,
    ) -> None:
        super().__init__(retries, time_limits)
        for name, value, least in (("workers", workers, 0), ("threads", threads, 1)):
            if value < least:
                raise InputError(f"execution: {name} is {value}, must be at least {least}")
        self._workers, self.threads = workers, threads
        self._slots: list[_Slot] = []
        self._ended: list[Outcome] = []

    def __enter__(self) -> Self:
        """Prepares the slots; a process starts with its first job."""
        devices = _cuda_devices()
        threads = {f"{library}_NUM_THREADS": str(self.threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
        self._slots = [
            _Slot({**threads, **({"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {})})
            for i in range(self._workers)
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the workers; after an error even those that are busy."""
        for slot in self._slots:
            if slot.process is not None:
                if slot.connection is not None:
                    slot.connection.close()
                slot.process.join(0.1 if slot.job is not None else 5)
                if slot.process.is_alive():
                    slot.process.kill()
                    slot.process.join()
        self._slots = []

    @property
    def workers(self) -> int:
        """Processes, at least one."""
        return max(self._workers, 1)

    @property
    def free(self) -> int:
        """Slots without a job; without workers one job at a time."""
        return sum(slot.job is None for slot in self._slots) if self._slots else 1 - len(self._ended)

    def submit(self, job: Job) -> None:
        """Gives a job to a slot, or does it here where there are no workers."""
        if not self._slots:
            start = time.monotonic()
            failed = _performed(job.function, job.arguments, job.done)
            self._ended.append(_outcome(job, start, failed))
            return
        slot = next(slot for slot in self._slots if slot.job is None)
        if slot.process is None or not slot.process.is_alive():
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            slot.process = context.Process(target=_worker, args=(theirs, os.getpid(), self.threads), daemon=False)
            with _environment(slot.environment):  # read when libraries load, before the worker's first line
                slot.process.start()
            theirs.close()
            slot.connection = ours
        assert slot.connection is not None
        slot.job, slot.started = job, time.monotonic()
        slot.connection.send((job.function, job.arguments, job.done))

    def wait(self) -> Sequence[Outcome]:
        """Waits for a worker's answer or death."""
        if not self._slots:
            ended, self._ended = self._ended, []
            return ended
        busy = [slot for slot in self._slots if slot.job is not None]
        handles = {slot.connection: slot for slot in busy} | {slot.process.sentinel: slot for slot in busy}
        ready = multiprocessing.connection.wait(list(handles), timeout=0.5)
        return [self._take(slot) for slot in {id(handles[handle]): handles[handle] for handle in ready}.values()]

    def _take(self, slot: _Slot) -> Outcome:
        """How the job of a slot ended; a dead process is a lost job."""
        assert slot.connection is not None
        assert slot.job is not None
        job, slot.job = slot.job, None
        try:
            if slot.connection.poll():
                return _outcome(job, slot.started, slot.connection.recv())
        except (EOFError, OSError):
            pass  # the process died: said below
        slot.process.join(1)
        slot.connection.close()
        died = f"its process died (exit code {slot.process.exitcode}); out of memory?"
        slot.process = slot.connection = None
        return _outcome(job, slot.started, (died, died), lost=True)


def _outcome(job: Job, started: float, failed: tuple[str, str] | None, lost: bool = False) -> Outcome:
    error, trace = failed or ("", "")
    return Outcome(job=job, seconds=time.monotonic() - started, error=error, trace=trace, lost=lost)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
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


def _cuda_devices() -> list[str]:
    """The CUDA devices this process may use, without waking them up."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device.strip()]
    return [name.removeprefix("nvidia") for name in sorted(os.listdir("/dev")) if name.removeprefix("nvidia").isdigit()]
