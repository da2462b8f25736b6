"""How far a study is, from the files in its folder alone."""

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.reading import read_json
from lightning_taskonomy.studies.estimate import duration
from lightning_taskonomy.studies.ledger import FAILURES, JOBS, PROGRESS, expected_seconds, read_costs, seconds_each
from lightning_taskonomy.studies.lock import driver_at_work

__all__ = ["Status", "status"]


@dataclass(frozen=True, kw_only=True)
class KindStatus:
    """The jobs of one kind.

    Args:
        planned: How many are planned so far.
        done: How many of them are done.
        later: How many will be planned, as far as that is known.
        seconds_each: What one took on average; None where nothing is recorded.
    """

    planned: int = 0
    done: int = 0
    later: int = 0
    seconds_each: float | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a study is.

    Args:
        study: The name of its class.
        folder: Its folder.
        finished: Whether everything is done and analysed.
        driver: Which process runs it (``host:pid``); None if none does.
        stage: The stage it is at, or ended at.
        kinds: Its jobs by kind.
        running: What is at work, with the seconds since it began.
        failed: Jobs that failed in the last start, with the last line of their traceback.
        seconds: What all jobs took together, as if one after the other.
        gpu_hours: GPU-hours among them.
        left: Expected seconds until the end; None where nothing is recorded yet.
    """

    study: str
    folder: str
    finished: bool
    driver: str | None
    stage: str
    kinds: dict[str, KindStatus]
    running: list[tuple[str, float]]
    failed: list[tuple[str, str]]
    seconds: float
    gpu_hours: float
    left: float | None

    @property
    def planned(self) -> int:
        """Jobs that are planned so far."""
        return sum(kind.planned for kind in self.kinds.values())

    @property
    def done(self) -> int:
        """Jobs that are done."""
        return sum(kind.done for kind in self.kinds.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the sums."""
        return {**asdict(self), "planned": self.planned, "done": self.done}

    def __str__(self) -> str:
        state = "finished" if self.finished else "not finished" if self.planned else "not started"
        state += f", at {self.stage!r}" if self.driver else ""
        driver = f"run by {self.driver}" if self.driver else "no process runs it"
        lines = [f"{self.study} in {self.folder}: {state}, {driver}"]
        lines.append(f"{'kind':<20} {'done':>7} {'of':>7} {'to come':>8} {'seconds each':>13}")
        for name, kind in self.kinds.items():
            each = "" if kind.seconds_each is None else f"{kind.seconds_each:.1f}"
            lines.append(f"{name:<20} {kind.done:>7} {kind.planned:>7} {kind.later or '':>8} {each:>13}")
        lines += [f"running: {name} ({duration(seconds)})" for name, seconds in self.running]
        lines += [f"failed: {name}: {error}" for name, error in self.failed]
        spent = f"spent: {duration(self.seconds)} of work"
        lines.append(spent + (f", {self.gpu_hours:.2f} GPU-hours" if self.gpu_hours else ""))
        if not self.finished:
            lines.append("left: unknown" if self.left is None else f"left: about {duration(self.left)}")
        return "\n".join(lines)


def status(folder: str | Path) -> Status:
    """How far a study is.

    Args:
        folder: Its folder.

    Raises:
        InputError: It is not a study's folder, or a file of it is damaged.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    jobs = {tuple(job["done"]): job for rows in read_json(folder / JOBS, dict, {}).values() for job in rows}
    planned, done = Counter[str](), Counter[str]()
    for files, job in jobs.items():
        planned[job["kind"]] += 1
        done[job["kind"]] += all((folder / file).is_file() for file in files)
    costs, progress = read_costs(folder), read_json(folder / PROGRESS, dict, {})
    driver = driver_at_work(folder)
    later = Counter(progress.get("later", {})) if not manifest.finished else Counter[str]()
    each = seconds_each(costs)
    kinds = {
        kind: KindStatus(planned=planned[kind], done=done[kind], later=later[kind], seconds_each=each.get(kind))
        for kind in dict.fromkeys((*planned, *later))
    }
    left = {name: kind.planned - kind.done + kind.later for name, kind in kinds.items()}
    failures = read_json(folder / FAILURES, list, [])
    now = time.time()
    return Status(
        study=manifest.name,
        folder=str(folder),
        finished=manifest.finished,
        driver=None if driver is None else f"{driver.host}:{driver.pid}",
        stage=progress.get("stage", ""),
        kinds=kinds,
        running=[(entry["job"], now - entry["since"]) for entry in progress.get("running", []) if driver is not None],
        failed=[(entry["name"], entry["error"]) for entry in failures],
        seconds=sum(cost["seconds"] for cost in costs.values()),
        gpu_hours=sum(cost.get("gpu_seconds", 0.0) for cost in costs.values()) / 3600,
        left=expected_seconds(costs, left, progress.get("workers", 1)),
    )
