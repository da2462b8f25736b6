"""Jobs on this machine: worker processes that stay warm between jobs and die with the study."""

import ctypes
import itertools
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning_taskonomy.arguments import show_log
from lightning_taskonomy.studies.executors.base import Executor, Outcome, check_least
from lightning_taskonomy.studies.executors.worker import (
    TIDY,
    Failed,
    attempt,
    environment,
    thread_variables,
    tidy,
)
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.lock import drop_claim

__all__ = ["LocalExecutor"]

_LOG = logging.getLogger(__name__)


def _worker(connection: Connection, parent: int, threads: int) -> None:
    """Takes jobs until the pipe closes. Dies with its parent, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    show_log()
    for count in itertools.count(1):
        try:
            function, arguments, done = connection.recv()
        except EOFError:
            return
        ended = attempt(function, arguments, done, threads)
        if count % TIDY == 0:
            tidy()
        connection.send((ended, _private()))


def _private() -> int:
    """Bytes of memory that this process holds for itself; 0 where the system does not say.

    Pages of files, such as those of a cache that is mapped, are not counted: the system takes them back when it must.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def _kill(process: Any) -> None:
    """Kills a worker, and what its job has started: data loaders, a program."""
    family = [process.pid]
    for pid in family:  # grows meanwhile
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):  # a thread that has ended
                family += map(int, file.read_text().split())
    process.kill()
    for pid in family[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@dataclass
class _Slot:
    environment: dict[str, str]
    devices: float = 0.0
    process: Any = None
    connection: Connection | None = None
    job: Job | None = None
    started: float = 0.0


class LocalExecutor(Executor):
    """Worker processes on this machine; the default.

    Args:
        workers: Processes; 0 runs every job in this one. With CUDA, see ``slots_per_device``.
        threads: Torch threads of each.
        slots_per_device: Workers that share a CUDA device: worker i sees device i // slots_per_device modulo their
            number.
        memory_gb: Gigabytes (10^9 bytes) that a worker may hold for itself between jobs; one that holds more is
            replaced, since memory that libraries keep only grows. Files that are mapped do not count. No limit for 0.
        retries: How often a job is tried again whose process died or hung.
        time_limits: Seconds after which a job of a kind is stopped; no limit for kinds that are not named.

    Raises:
        InputError: A setting is out of range.
    """

    def __init__(
        self,
        workers: int = 2,
        threads: int = 1,
        slots_per_device: int = 1,
        memory_gb: float = 4.0,
        retries: int = 2,
        time_limits: dict[str, float] | None = None,
    ) -> None:
        super().__init__(retries, time_limits)
        numbers = {
            "workers": (workers, 0), "threads": (threads, 1), "slots_per_device": (slots_per_device, 1),
            "memory_gb": (memory_gb, 0),
        }  # fmt: skip
        check_least(numbers)
        self._workers, self.threads, self.slots_per_device = workers, threads, slots_per_device
        self.memory_gb = memory_gb
        self._slots: list[_Slot] = []
        self._ended: list[Outcome] = []

    def __enter__(self) -> Self:
        """Prepares the slots; a process starts with its first job."""
        devices = _cuda_devices()
        variables = thread_variables(self.threads)
        self._slots = []
        for number in range(self._workers):
            device = devices[number // self.slots_per_device % len(devices)] if devices else None
            environment = variables if device is None else {**variables, "CUDA_VISIBLE_DEVICES": device}
            self._slots.append(_Slot(environment, 0.0 if device is None else 1 / self.slots_per_device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the workers; after an error even those that are busy."""
        for slot in self._slots:
            if slot.process is not None:
                if slot.job is not None:
                    _kill(slot.process)
                self._end(slot)
                for file in slot.job.done if slot.job is not None else ():
                    drop_claim(file)
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
            failed = attempt(job.function, job.arguments, job.done)
            self._ended.append(_outcome(job, time.monotonic() - start, failed))
            return
        slot = next(slot for slot in self._slots if slot.job is None)
        if slot.process is None or not slot.process.is_alive():
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            slot.process = context.Process(target=_worker, args=(theirs, os.getpid(), self.threads), daemon=False)
            with environment(slot.environment):  # read when libraries load, before the worker's first line
                slot.process.start()
            theirs.close()
            slot.connection = ours
        assert slot.connection is not None
        slot.job, slot.started = job, time.monotonic()
        try:
            slot.connection.send((job.function, job.arguments, job.done))
        except OSError as error:  # the worker died while it was idle; `wait` sees that, and the job is tried again
            _LOG.info("%s: its worker was gone (%s)", job.title, error)

    def wait(self) -> Sequence[Outcome]:
        """Waits for a worker's answer or death, or a time limit."""
        if not self._slots:
            ended, self._ended = self._ended, []
            return ended
        busy = [slot for slot in self._slots if slot.job is not None]
        handles = {slot.connection: slot for slot in busy} | {slot.process.sentinel: slot for slot in busy}
        ready = multiprocessing.connection.wait(list(handles), timeout=0.5)
        outcomes = [self._take(slot) for slot in {id(handles[handle]): handles[handle] for handle in ready}.values()]
        return outcomes + [self._stop(slot, limit) for slot in busy if (limit := self._overdue(slot)) is not None]

    def _overdue(self, slot: _Slot) -> float | None:
        """The limit that a slot's job has passed; None if it has not."""
        limit = None if slot.job is None else self.time_limits.get(slot.job.kind)
        return limit if limit is not None and time.monotonic() - slot.started > limit else None

    def _take(self, slot: _Slot) -> Outcome:
        """How the job of a slot ended; a dead process is a lost job."""
        assert slot.connection is not None
        try:
            if slot.connection.poll():
                failed, private = slot.connection.recv()
                outcome = self._free(slot, failed)
                if self.memory_gb and private > self.memory_gb * 1e9:
                    self._end(slot)
                return outcome
        except (EOFError, OSError) as error:  # the process died within its answer
            _LOG.info("%s: no answer (%s)", slot.job.title if slot.job else "a worker", error)
        slot.process.join(1)
        died = f"its process died (exit code {slot.process.exitcode}); out of memory?"
        self._end(slot)
        return self._free(slot, (died, died), lost=True)

    def _stop(self, slot: _Slot, limit: float) -> Outcome:
        """Kills the process of a job that ran too long."""
        _kill(slot.process)
        self._end(slot)
        stopped = f"it was stopped at its time limit of {limit:g} s"
        return self._free(slot, (stopped, stopped), lost=True)

    def _free(self, slot: _Slot, failed: Failed | None, lost: bool = False) -> Outcome:
        """The outcome of a slot's job; the slot is free again."""
        assert slot.job is not None
        job, slot.job = slot.job, None
        return _outcome(job, time.monotonic() - slot.started, failed, lost, slot.devices)

    def _end(self, slot: _Slot) -> None:
        """Ends a slot's process, which does no job; the next job starts another."""
        if slot.connection is not None:
            slot.connection.close()
        slot.process.join(5)
        if slot.process.is_alive():
            _kill(slot.process)
            slot.process.join()
        slot.process = slot.connection = None


def _outcome(job: Job, seconds: float, failed: Failed | None, lost: bool = False, devices: float = 0.0) -> Outcome:
    error, trace = failed or ("", "")
    return Outcome(job=job, seconds=seconds, error=error, trace=trace, lost=lost, devices=devices)


def _cuda_devices() -> list[str]:
    """The CUDA devices this process may use, without waking them up."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device.strip()]
    return [name.removeprefix("nvidia") for name in sorted(os.listdir("/dev")) if name.removeprefix("nvidia").isdigit()]
