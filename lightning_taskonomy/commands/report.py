"""``report``: tables, figures and one page."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_taskonomy.manifest import Manifest

__all__ = ["report"]


def report(
    measurements: Path, out: Path | None = None, tasks: list[str] | None = None, variant: Path | None = None
) -> None:
    """Write tables, figures and one page about a study's folder or a table.

    Args:
        measurements: A study's folder, a table of transfers, or a table of groupings.
        out: Where the page goes; by default 'report' in the folder, or beside the table.
        tasks: The names of the columns, for a table of groupings without a header.
        variant: For a study of transfer chains: the folder of another one, with the same chains at another resolution
            or with another backbone or first link, to compare gains with.
    """
    from lightning_taskonomy.reports import report as write

    print(f"report: {write(measurements, out, tasks, variant)}")
    if measurements.is_dir() and not Manifest.read(measurements).finished:
        print(f"{measurements} is not finished; 'lightning-taskonomy status' says what is left", file=sys.stderr)
