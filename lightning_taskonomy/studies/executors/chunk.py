"""What an array task does: one job after the other, by a worker that stays warm, leaving a file for each."""

import importlib
import os
import signal
from collections.abc import Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from lightning_taskonomy.files import write_json
from lightning_taskonomy.studies.executors.local import LocalExecutor
from lightning_taskonomy.studies.graph import Job

__all__ = ["Chunk"]

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""What SLURM sends to each process of a chunk before it takes the node away; the chunk's own process alone answers."""


class Chunk:
    """Does jobs in an array task and leaves a file for each: ``N.begun`` at its start, ``N.json`` once it has ended.

    submitit pickles it and calls it. A chunk that is pre-empted or runs out of time is requeued, and skips what ended.

    Args:
        folder: Where these files go; a chunk whose folder is gone does nothing.
        jobs: The jobs, by whose places the files are named.
        workers: Jobs side by side; with CUDA each sees one device.
        threads: Torch threads of each.
        time_limits: Seconds after which a job of a kind is stopped.
    """

    def __init__(
        self, folder: Path, jobs: Sequence[Job], workers: int, threads: int, time_limits: dict[str, float]
    ) -> None:
        self.folder, self.jobs, self.workers, self.threads = folder, list(jobs), workers, threads
        self.time_limits = time_limits

    def __call__(self) -> None:
        """Does what has not ended yet."""
        if not self.folder.is_dir():
            return  # the driver no longer waits for it
        os.environ.pop("SLURM_NTASKS", None)  # else Lightning takes this job's children for tasks of srun
        resource_tracker.ensure_running()  # it would unblock SIGTERM when it starts with the first worker
        todo = [number for number in range(len(self.jobs)) if not self._outcome(number).exists()]
        numbers = {id(job): number for number, job in enumerate(self.jobs)}
        executor = LocalExecutor(workers=self.workers, threads=self.threads, time_limits=self.time_limits)
        with executor:
            busy = 0
            while todo or busy:
                while todo and executor.free:
                    number = todo.pop(0)
                    (self.folder / f"{number}.begun").touch()
                    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the worker's process inherits it
                    try:
                        executor.submit(self.jobs[number])
                    finally:
                        signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    busy += 1
                for outcome in executor.wait():
                    busy -= 1
                    content = {"seconds": outcome.seconds, "error": outcome.error, "trace": outcome.trace}
                    content |= {"lost": outcome.lost, "devices": outcome.devices}
                    write_json(self._outcome(numbers[id(outcome.job)]), content)

    def checkpoint(self) -> Any:
        """What runs when the task is requeued: itself. Fits go on from their ``resume.ckpt``."""
        return importlib.import_module("submitit.helpers").DelayedSubmission(self)

    def _outcome(self, number: int) -> Path:
        return self.folder / f"{number}.json"
