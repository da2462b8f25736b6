"""``study``: measure, solve, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_taskonomy.files import write_text

if TYPE_CHECKING:
    from lightning_taskonomy.results import Results
    from lightning_taskonomy.studies import Study

__all__ = ["study"]


def study(
    study: Study,
    out: Path = Path("runs/study"),
    dry_run: bool = False,
    stages: list[str] | None = None,
    redo: bool = False,
    settings: dict[str, Any] | None = None,
) -> Results | None:
    """Run a study end to end: measure which tasks help which, decide, write a report; resumes.

    Args:
        study: Which study, with its settings.
        out: The study's folder.
        dry_run: Say what would run, how long and on how much disk, without training.
        stages: Only these stages: networks, transfers, affinity, taxonomy, report; of a meta-transfer study data, fits,
            variations, test, report.
        redo: Do them again even where they are done.
        settings: The whole configuration, kept beside the results.
    """
    import yaml

    if dry_run:
        print(study.dry_run(out))
        return None
    write_text(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    results = study.run(out, stages=stages, redo=redo)
    if results.report is not None:
        print(f"report: {results.report}")
    return results
