"""What became of a study's jobs, in files that can be read while it runs."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.manifest import RunEntry, write_runs
from lightning_taskonomy.reports.reading import read_json
from lightning_taskonomy.studies.executors import Outcome
from lightning_taskonomy.studies.graph import Job

__all__ = ["FAILURES", "JOBS", "PROGRESS", "Ledger", "expected_seconds", "read_costs", "seconds_each"]

COSTS, FAILURES, JOBS, PROGRESS = "costs.json", "failures.json", "jobs.json", "progress.json"

_LOG = logging.getLogger(__name__)

_EVERY = 1.0
"""Seconds between two writes of what changes with each job."""

Costs = dict[str, dict[str, float]]
"""Per kind: ``runs`` (jobs done), ``seconds`` and ``gpu_seconds`` of all of them."""


@dataclass(frozen=True)
class Failure:
    """A job that raised, or whose process died as often as it may.

    Args:
        name: Kind and name of the job.
        error: The last line of its traceback.
        trace: The whole traceback.
    """

    name: str
    error: str
    trace: str


def read_costs(folder: Path) -> Costs:
    """What each kind of job took so far; nothing where nothing is recorded.

    Raises:
        InputError: The file is damaged.
    """
    return dict(read_json(folder / COSTS, dict, {}))


def seconds_each(costs: Costs) -> dict[str, float]:
    """Mean seconds of a job, by kind."""
    return {kind: cost["seconds"] / cost["runs"] for kind, cost in costs.items() if cost["runs"]}


def expected_seconds(costs: Costs, jobs: Mapping[str, int], workers: int) -> float | None:
    """Seconds that some jobs will take on so many workers; None where no job has ended yet."""
    runs = sum(cost["runs"] for cost in costs.values())
    if not runs:
        return None
    each, mean = seconds_each(costs), sum(cost["seconds"] for cost in costs.values()) / runs
    return sum(n * each.get(kind, mean) for kind, n in jobs.items()) / max(workers, 1)


class Ledger:
    """Keeps ``jobs.json``, ``runs.csv``, ``costs.json``, ``failures.json`` and ``progress.json`` of a study's folder.

    Args:
        folder: The study's folder.
        stages: Titles of all its stages.
        resumes: Whether what was planned before holds; else the settings are others, and it is forgotten.
        begins: Called before the first job.
    """

    def __init__(
        self,
        folder: Path,
        stages: Iterable[str],
        resumes: bool = True,
        begins: Callable[[], None] | None = None,
    ) -> None:
        self._begins = begins
        self.folder = folder
        self.costs: Costs = _kept(folder / COSTS)
        self.failures: list[Failure] = []
        self.left: Counter[str] = Counter()
        self.later: Counter[str] = Counter()
        self.running: dict[tuple[Path, ...], tuple[Job, float]] = {}
        self.workers, self.stage, self._written = 1, "", 0.0
        file = folder / JOBS
        earlier = _kept(file) if resumes else {}
        self._jobs: dict[str, list[dict[str, Any]] | None] = {title: earlier.get(title) for title in stages}

    def plan(self, title: str, jobs: Sequence[Job]) -> None:
        """Notes the jobs of a stage, and their runs."""
        self._jobs[title] = [
            {
                "kind": job.kind,
                "name": job.name,
                "done": [_relative(file, self.folder) for file in job.done],
                "runs": [asdict(run) for run in job.runs],
            }
            for job in jobs
        ]
        planned = {name: rows for name, rows in self._jobs.items() if rows is not None}
        write_json(self.folder / JOBS, planned)
        runs = {run["folder"]: run for rows in planned.values() for row in rows for run in row["runs"]}
        write_runs(self.folder, [RunEntry(**{**run, "tasks": tuple(run["tasks"])}) for run in runs.values()])

    @property
    def planned(self) -> int:
        """How many jobs are planned so far, in this start or an earlier one."""
        return sum(len(rows) for rows in self._jobs.values() if rows is not None)

    @property
    def is_complete(self) -> bool:
        """Whether all stages are planned and all their jobs are done."""
        return all(
            rows is not None and all((self.folder / file).is_file() for row in rows for file in row["done"])
            for rows in self._jobs.values()
        )

    def start(self, stage: str, left: Mapping[str, int], later: Mapping[str, int], workers: int) -> None:
        """Notes what a stage has to do, and what is known to follow it."""
        self.stage, self.left, self.later = stage, Counter(left), Counter(later)
        self.workers, self.running = max(workers, 1), {}
        self.write(now=True)

    def submit(self, job: Job) -> None:
        """Notes that a job is at work."""
        if self._begins is not None:
            self._begins()
            self._begins = None
        self.running[job.done] = (job, time.time())

    def end(self, outcome: Outcome) -> None:
        """Notes how a job ended."""
        job = outcome.job
        self.running.pop(job.done, None)
        self.left[job.kind] -= 1
        if outcome.error:
            self.failures.append(Failure(job.title, outcome.error, outcome.trace))
        else:
            cost = self.costs.setdefault(job.kind, {"runs": 0, "seconds": 0.0})
            cost["runs"] += 1
            cost["seconds"] = round(cost["seconds"] + outcome.seconds, 3)
            if outcome.devices:
                spent = cost.get("gpu_seconds", 0.0) + outcome.seconds * outcome.devices
                cost["gpu_seconds"] = round(spent, 3)

    def leave_out(self, job: Job) -> None:
        """Notes that a job cannot be done, since what it needs failed."""
        self.left[job.kind] -= 1

    @property
    def remaining(self) -> float | None:
        """Expected seconds until all that is known is done; None before the first job has ended."""
        return expected_seconds(self.costs, self.left + self.later, self.workers)

    def write(self, *, now: bool = False) -> None:
        """Writes what changes with each job: at once, or unless that was done a moment ago."""
        if not now and time.monotonic() - self._written < _EVERY:
            return
        progress = {
            "stage": self.stage,
            "running": [{"job": job.title, "since": since} for job, since in self.running.values()],
            "later": {kind: n for kind, n in self.later.items() if n > 0},
            "workers": self.workers,
        }
        write_json(self.folder / PROGRESS, progress)
        if self.costs:
            write_json(self.folder / COSTS, self.costs)
        write_json(self.folder / FAILURES, [asdict(failure) for failure in self.failures])
        self._written = time.monotonic()

    def close(self) -> None:
        """Writes the last state; nothing is at work any more."""
        self.running = {}
        self.write(now=True)


def _kept(file: Path) -> dict[str, Any]:
    """What an earlier start left in a file; a damaged one is written anew."""
    try:
        return dict(read_json(file, dict, {}))
    except InputError as error:
        _LOG.warning("%s; it is written anew", error)
        return {}


def _relative(file: Path, folder: Path) -> str:
    """A file of the study as seen from its folder, so that the folder may be moved; as it is elsewhere."""
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
