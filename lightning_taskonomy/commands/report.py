"""``report``: tables, figures and one page."""

from __future__ import annotations

from pathlib import Path

__all__ = ["report"]


def report(folder: Path) -> None:
    """Write tables, figures and one page from a finished study's folder.

    Args:
        folder: The study's folder.
    """
    from lightning_taskonomy.reports import report as write

    print(f"report: {write(folder)}")
