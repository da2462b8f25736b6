"""Gives an executor the jobs whose needs are met, and notes how they ended. A failure stops only what needs it."""

import errno
import os
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import Executor
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.ledger import Ledger
from lightning_taskonomy.studies.lock import drop_claim
from lightning_taskonomy.studies.progress import StageProgress, stage_progress

__all__ = ["Scheduler"]

_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


class Scheduler:
    """Does the jobs of one stage after the other.

    Args:
        executor: Where they run; it has been entered.
        ledger: Notes what becomes of them.
        redo: Forget what is done and do it again.
        console: Where progress is shown; standard error where not given.
    """

    def __init__(self, executor: Executor, ledger: Ledger, redo: bool = False, console: Console | None = None) -> None:
        self.executor, self.ledger, self.redo = executor, ledger, redo
        self.console = console or Console(stderr=True)
        self._redone: set[tuple[Path, ...]] = set()

    def run(self, stage: Stage, later: Mapping[str, int]) -> None:
        """Does what is not done yet of a stage.

        Args:
            stage: The stage.
            later: The known number of jobs per kind of later stages, for the expected end.

        Raises:
            InputError: The disk is full, or a done-file lacks what belongs to it.
            ValueError: Jobs need each other in a circle.
        """
        jobs = list({job.done: job for job in stage.jobs()}.values())
        title = stage.title or stage.name
        self.ledger.plan(title, jobs)
        if self.redo:
            for job in jobs:
                if job.done not in self._redone:
                    job.forget()
                    self._redone.add(job.done)
        todo = []
        for job in jobs:
            if not job.is_done:
                todo.append(job)
                continue
            for file in job.done:
                drop_claim(file)
        self.ledger.start(title, Counter(job.kind for job in todo), later, self.executor.workers)
        with stage_progress(self.console, title, len(jobs), len(jobs) - len(todo)) as progress:
            self._do(_Graph(todo), progress)

    def _do(self, graph: "_Graph", progress: StageProgress) -> None:
        tries: Counter[tuple[Path, ...]] = Counter()
        running = 0
        for job in graph.impossible:
            self._leave_out(job, progress)
        while graph.ready or running:
            while graph.ready and self.executor.free > 0:
                job = graph.ready.popleft()
                self.ledger.submit(job)
                self.executor.submit(job)
                running += 1
            running_now = [job.progress for job, _ in self.ledger.running.values()]
            progress.note(self.ledger.remaining, running_now)
            for outcome in self.executor.wait():
                running -= 1
                job = outcome.job
                if outcome.lost and tries[job.done] < self.executor.retries:
                    tries[job.done] += 1
                    self.ledger.running.pop(job.done, None)
                    self.console.print(f"retrying: {job.title}: {outcome.error}", style="yellow", markup=False)
                    graph.ready.append(job)
                    continue
                self.ledger.end(outcome)
                progress.advance()
                if outcome.error:
                    if any(reason in outcome.error for reason in _FULL):
                        raise InputError(f"the disk is full ({job.done[0].parent}); free some and run the same again")
                    self.console.print(f"failed: {job.title}: {outcome.error}", style="red", markup=False)
                    for other in graph.fail(job):
                        self._leave_out(other, progress)
                else:
                    graph.finish(job)
            self.ledger.write()
        if graph.waiting:
            raise ValueError(f"jobs need each other in a circle: {', '.join(graph.waiting)}")

    def _leave_out(self, job: Job, progress: StageProgress) -> None:
        self.ledger.leave_out(job)
        absent = next((file for file in job.needs if not file.is_file()), None)
        self.console.print(f"left out: {job.title} needs {absent}", style="yellow", markup=False)
        progress.advance(ran=False)


class _Graph:
    """Which of some jobs can run: every need is a file that is there or the done-file of a job that has ended."""

    def __init__(self, jobs: list[Job]) -> None:
        makers = {file: job for job in jobs for file in job.done}
        self.ready: deque[Job] = deque()
        self.impossible: list[Job] = []
        self._unmet: dict[tuple[Path, ...], set[tuple[Path, ...]]] = {}
        self._dependents: dict[tuple[Path, ...], list[Job]] = {}
        exists: dict[Path, bool] = {}
        for job in jobs:
            needed = {makers[file].done for file in job.needs if file in makers}
            absent = [file for file in job.needs if file not in makers]
            for file in absent:
                if file not in exists:
                    exists[file] = file.is_file()
            self._unmet[job.done] = needed
            for maker in needed:
                self._dependents.setdefault(maker, []).append(job)
            if not all(exists[file] for file in absent):
                self.impossible.append(job)
            elif not needed:
                self.ready.append(job)
        for job in self.impossible:
            del self._unmet[job.done]
        self.impossible += [other for job in self.impossible.copy() for other in self.fail(job)]

    @property
    def waiting(self) -> list[str]:
        """Titles of jobs whose needs are never met."""
        return [job.title for jobs in self._dependents.values() for job in jobs if job.done in self._unmet]

    def finish(self, job: Job) -> None:
        """Those that needed it alone are ready."""
        self._unmet.pop(job.done, None)
        for other in self._dependents.pop(job.done, []):
            unmet = self._unmet.get(other.done)
            if unmet is not None:
                unmet.discard(job.done)
                if not unmet:
                    self.ready.append(other)

    def fail(self, job: Job) -> list[Job]:
        """All that need it, directly or not, and can no longer be done."""
        lost: list[Job] = []
        todo = [job]
        while todo:
            failed = todo.pop()
            self._unmet.pop(failed.done, None)
            for other in self._dependents.pop(failed.done, []):
                if other.done in self._unmet:
                    del self._unmet[other.done]
                    lost.append(other)
                    todo.append(other)
        return lost
