"""Jobs on warm worker processes: each job is done once, leaves its result in files, and a failure stops only itself."""

import ctypes
import errno
import gc
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_taskonomy.arguments import show_log
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json

__all__ = ["Engine", "Failure", "Job"]

_TIDY = 10
"""Jobs after which a worker gives freed memory back."""


@dataclass(frozen=True)
class Job:
    """A call whose result is a file.

    Args:
        kind: What kind of job; costs are counted per kind.
        name: What a person calls it.
        function: Dotted path of what is called.
        kwargs: Its keyword arguments; plain data.
        done: The file that exists once it is done.
    """

    kind: str
    name: str
    function: str
    kwargs: dict[str, Any]
    done: Path

    @property
    def is_done(self) -> bool:
        """Whether its result is there."""
        return self.done.is_file()


@dataclass(frozen=True)
class Failure:
    """A job that raised, or whose process died.

    Args:
        name: Kind and name of the job.
        error: The last line of its traceback.
        trace: The whole traceback.
    """

    name: str
    error: str
    trace: str


def _call(function: str, kwargs: dict[str, Any]) -> None:
    module, _, name = function.rpartition(".")
    getattr(importlib.import_module(module), name)(**kwargs)


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
            function, kwargs = connection.recv()
        except EOFError:
            return
        try:
            _call(function, kwargs)
            connection.send(None)
        except Exception as error:  # the driver records it and goes on with what does not need it
            connection.send((f"{type(error).__name__}: {error}", traceback.format_exc()))
        finished += 1
        if finished % _TIDY == 0:
            _tidy()


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


@dataclass
class Engine:
    """Runs jobs stage by stage on worker processes that stay warm between them.

    Args:
        workers: Processes; 0 runs every job in this one. With CUDA, worker i sees device i modulo their number.
        threads: Torch threads of each worker.
        redo: Forget what is done and run it again.
        costs_file: Where seconds and runs per kind are kept.
        console: Where progress is shown.
    """

    workers: int = 2
    threads: int = 1
    redo: bool = False
    costs_file: Path | None = None
    console: Console = field(default_factory=lambda: Console(stderr=True))
    failures: list[Failure] = field(default_factory=list)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    _slots: list[_Slot] = field(default_factory=list)
    _redone: set[Path] = field(default_factory=set)

    def __enter__(self) -> "Engine":
        """Prepares the slots; a process starts with its first job."""
        devices = _cuda_devices()
        threads = {f"{library}_NUM_THREADS": str(self.threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
        self._slots = [
            _Slot({**threads, **({"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {})})
            for i in range(self.workers)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the workers; on an error even those that are busy."""
        for slot in self._slots:
            if slot.process is not None:
                if slot.connection is not None:
                    slot.connection.close()
                slot.process.join(0.1 if slot.job is not None else 5)
                if slot.process.is_alive():
                    slot.process.kill()
        self._slots = []

    def run(self, stage: str, jobs: Sequence[Job], left: Callable[[], dict[str, int]] = dict) -> list[Job]:
        """Runs what is not done yet.

        Args:
            stage: The stage's name.
            jobs: Independent jobs; those with one result are run once.
            left: Gives the known number of jobs per kind of later stages, for the expected end.

        Returns:
            The jobs that are done.
        """
        unique = list({job.done: job for job in jobs}.values())
        if self.redo:
            for job in unique:
                if job.done not in self._redone:
                    job.done.unlink(missing_ok=True)
                    self._redone.add(job.done)
        todo = [job for job in unique if not job.is_done]
        counts = Counter(job.kind for job in todo)
        with self._progress(stage, len(unique), len(unique) - len(todo)) as advance:
            for job, seconds, failed in self._serial(todo) if self.workers == 0 else self._parallel(todo, advance):
                if failed is not None:
                    self.failures.append(Failure(f"{job.kind} {job.name}", *failed))
                    if os.strerror(errno.ENOSPC) in failed[0]:
                        raise InputError(f"the disk is full ({job.done.parent}); free some and run the same again")
                    self.console.print(f"failed: {job.kind} {job.name}: {failed[0]}", style="red", markup=False)
                else:
                    self._count(job.kind, seconds)
                counts[job.kind] -= 1
                advance(job, self._remaining(counts + Counter(left())))
        return [job for job in unique if job.is_done]

    def _serial(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, float, tuple[str, str] | None]]:
        for job in jobs:
            start = time.monotonic()
            try:
                _call(job.function, job.kwargs)
                failed = None
            except Exception as error:  # recorded by the caller
                failed = (f"{type(error).__name__}: {error}", traceback.format_exc())
            yield job, time.monotonic() - start, failed

    def _parallel(
        self, jobs: Iterable[Job], advance: Callable[..., None]
    ) -> Iterator[tuple[Job, float, tuple[str, str] | None]]:
        waiting = iter(jobs)
        upcoming = next(waiting, None)
        while True:
            for slot in self._slots:
                if upcoming is not None and slot.job is None:
                    self._give(slot, upcoming)
                    upcoming = next(waiting, None)
            busy = [slot for slot in self._slots if slot.job is not None]
            if not busy:
                return
            advance(None, running=[f"{slot.job.kind} {slot.job.name}" for slot in busy if slot.job])
            handles = {slot.connection: slot for slot in busy} | {slot.process.sentinel: slot for slot in busy}
            ready = multiprocessing.connection.wait(list(handles))
            for slot in {id(handles[handle]): handles[handle] for handle in ready}.values():
                assert slot.job is not None
                job, slot_start = slot.job, slot.started
                failed = self._take(slot)
                yield job, time.monotonic() - slot_start, failed

    def _give(self, slot: _Slot, job: Job) -> None:
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
        slot.connection.send((job.function, job.kwargs))

    def _take(self, slot: _Slot) -> tuple[str, str] | None:
        """What a slot reports: nothing, or the error; a dead process is an error too."""
        assert slot.connection is not None
        slot.job = None
        try:
            if slot.connection.poll():
                result: tuple[str, str] | None = slot.connection.recv()
                return result
        except (EOFError, OSError):
            pass  # the process died: said below
        slot.process.join(1)
        slot.connection.close()
        died = f"its process died (exit code {slot.process.exitcode}); out of memory?"
        slot.process = slot.connection = None
        return died, died

    def _count(self, kind: str, seconds: float) -> None:
        cost = self.costs.setdefault(kind, {"runs": 0, "seconds": 0.0})
        cost["runs"] += 1
        cost["seconds"] = round(cost["seconds"] + seconds, 3)
        if self.costs_file is not None:
            write_json(self.costs_file, self.costs)

    def _remaining(self, counts: Mapping[str, int]) -> float | None:
        """Expected seconds until everything known is done, from what each kind took so far."""
        if not self.costs:
            return None
        mean = sum(c["seconds"] for c in self.costs.values()) / sum(c["runs"] for c in self.costs.values())
        each = {kind: c["seconds"] / c["runs"] for kind, c in self.costs.items()}
        return sum(n * each.get(kind, mean) for kind, n in counts.items()) / max(self.workers, 1)

    @contextmanager
    def _progress(self, stage: str, total: int, done: int) -> Iterator[Callable[..., None]]:
        """A live bar on a terminal; elsewhere one line when a stage starts and ends."""
        start = time.monotonic()
        live = self.console.is_terminal
        self.console.print(f"{stage}: {total - done} to run, {done} done before", highlight=False)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console, disable=not live, transient=True) as bar:
            row = bar.add_task(stage, total=total, completed=done, note="")
            state = {"end": "", "running": ""}

            def advance(job: Job | None, remaining: float | None = None, running: Sequence[str] = ()) -> None:
                if job is not None:
                    bar.advance(row)
                if remaining is not None:
                    state["end"] = time.strftime("end about %H:%M:%S", time.localtime(time.time() + remaining))
                if running:
                    state["running"] = ", ".join(running)
                bar.update(row, note=f"{state['end']}  {state['running']}"[:100])

            yield advance
        if not live and total > done:
            self.console.print(f"{stage}: {total - done} ran in {time.monotonic() - start:.0f} s", highlight=False)


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
