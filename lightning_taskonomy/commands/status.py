"""``status``: how far a study is."""

from __future__ import annotations

from pathlib import Path

__all__ = ["status"]


def status(folder: Path, json: bool = False) -> None:
    """Say what a study has done, runs, failed and has left, and the time and GPU-hours spent and expected.

    Args:
        folder: The study's folder.
        json: Print one JSON object.
    """
    from json import dumps

    from lightning_taskonomy.studies.status import status as read

    progress = read(folder)
    print(dumps(progress.as_dict(), allow_nan=False) if json else progress)
