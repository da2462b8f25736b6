"""What a study would cost: its jobs counted, each kind timed by what is recorded or by a few of its steps."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.ledger import read_costs, seconds_each

__all__ = ["Estimate", "Planned", "Probe", "duration", "estimate"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one job costs.

    Args:
        seconds: What it takes on one worker.
        disk: Bytes it leaves.
    """

    seconds: float
    disk: int = 0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is left to do.

    Args:
        jobs: How many of each kind.
        costs: What one of each kind costs; kinds that could not be timed are not in it.
        recorded: The kinds whose seconds are those of jobs that ended.
        done: How many jobs are done already.
        workers: How many run at once.
    """

    jobs: Mapping[str, int]
    costs: Mapping[str, Probe]
    workers: int
    recorded: frozenset[str] = frozenset()
    done: int = 0

    @property
    def seconds(self) -> float:
        """Seconds until the end, of the kinds that could be timed."""
        return sum(n * self.costs[kind].seconds for kind, n in self.jobs.items() if kind in self.costs) / self.workers

    @property
    def disk(self) -> int:
        """Bytes."""
        return sum(n * self.costs[kind].disk for kind, n in self.jobs.items() if kind in self.costs)

    def __str__(self) -> str:
        lines = [f"{'kind':<20} {'jobs':>6} {'seconds each':>14}"]
        for kind, count in self.jobs.items():
            cost = self.costs.get(kind)
            each = "unknown" if cost is None else f"{cost.seconds:.1f}"
            lines.append(f"{kind:<20} {count:>6} {each:>14}{'  as recorded' if kind in self.recorded else ''}")
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        lines.append(f"about {duration(self.seconds)} on {workers}, if the machine stays as idle as it is now")
        lines.append(f"disk: about {self.disk / 1e6:.0f} MB")
        if self.done:
            lines.append(f"{self.done} jobs are done already")
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Hours and minutes, rounded up."""
    hours, rest = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"


@dataclass(frozen=True)
class Planned:
    """The jobs of some stages, counted.

    Args:
        jobs: How many are left of each kind.
        first: The first of each kind.
        done: How many are done.
    """

    jobs: Counter[str]
    first: dict[str, Job]
    done: int

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> "Planned":
        """Counts them.

        Args:
            stages: What would run. Of a stage whose jobs are planned late, the expected number counts.
        """
        jobs: Counter[str] = Counter()
        first: dict[str, Job] = {}
        seen: set[tuple[Path, ...]] = set()
        done = 0
        for stage in stages:
            if stage.expected is not None and jobs:  # it waits for what is not done
                jobs.update(stage.expected)
                continue
            for job in stage.jobs():
                if job.done in seen:
                    continue
                seen.add(job.done)
                if job.is_done:
                    done += 1
                else:
                    jobs[job.kind] += 1
                    first.setdefault(job.kind, job)
        return cls(+jobs, first, done)

    def __str__(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self.jobs.items())


def estimate(planned: Planned, probes: Mapping[str, Probe], folder: Path, workers: int) -> Estimate:
    """Times each kind of what is left to do.

    Args:
        planned: What is left to do.
        probes: What a job of some kinds costs; for others a fit of that kind is timed by a few of its steps.
        folder: The study's folder; what jobs took there is taken from its ``costs.json``.
        workers: How many run at once.
    """
    recorded = seconds_each(read_costs(folder))
    costs = dict(probes)
    for kind, job in planned.first.items():
        if kind not in costs and kind not in recorded and job.runs:
            from lightning_taskonomy.studies.probe import probe_fit

            costs[kind] = probe_fit(job)
    for kind, seconds in recorded.items():
        costs[kind] = Probe(seconds=seconds, disk=costs[kind].disk if kind in costs else 0)
    return Estimate(jobs=planned.jobs, costs=costs, workers=workers, recorded=frozenset(recorded), done=planned.done)
