"""``study``: measure, decide, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_taskonomy.reports.reading import read_json

if TYPE_CHECKING:
    from lightning_taskonomy.results import Results
    from lightning_taskonomy.studies.discovery import Study
    from lightning_taskonomy.studies.executors import Executor

__all__ = ["study"]


def study(
    study: Study,
    out: Path = Path("runs/study"),
    execution: Executor | None = None,
    dry_run: bool = False,
    stages: list[str] | None = None,
    redo: bool = False,
    settings: dict[str, Any] | None = None,
) -> Results | None:
    """Run a study from end to end: measure, decide, write a report; it resumes where it was stopped.

    Args:
        study: Which study, with its settings.
        out: The study's folder.
        execution: Where its jobs run: LocalExecutor, RayExecutor or SlurmExecutor. Two processes of this machine where
            not given.
        dry_run: Say what would run, how long and on how much disk, without training.
        stages: Only these stages. A study names its own, such as networks and transfers; all have analysis and report.
        redo: Do them again even where they are done.
        settings: The whole configuration, kept beside the results.
    """
    if dry_run:
        print(study.dry_run(out, execution=execution))
        return None
    results = study.run(out, execution=execution, stages=stages, redo=redo, config=settings)
    failures = read_json(out / "failures.json", list, [])
    if results.report is not None:
        print(f"report: {results.report}")
    if failures:
        file = out / "failures.json"
        results.failure = f"failed jobs: {len(failures)}; see {file}; the same command tries them again"
    return results
