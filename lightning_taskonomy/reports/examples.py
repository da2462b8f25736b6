"""Example pictures of a study: predictions beside truth, read from ``.npz`` files and coloured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.pictures import colorize, value_range
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["Columns", "Examples", "example_pictures", "read_examples"]

Columns = Mapping[str, NDArray[Any]]
"""Arrays (N, ...) of N images by column: ``input``, ``target``, and one per network."""

Examples = Mapping[str, Columns]
"""Columns by task."""


def read_examples(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); run the study again: nothing is trained twice") from error


def example_pictures(task: Task, columns: Columns) -> dict[str, NDArray[np.uint8]]:
    """The colours of a task's examples, shape (N, H, W, 3) by column; predictions on the scale of their truth."""
    truth = columns.get("target")
    single = task.kind is TaskKind.DENSE and task.channels == 1
    pictures = {}
    for column, values in columns.items():
        if column == "input":
            views = values if values.ndim == 4 else values[:, 0]
            colours = [np.round(np.clip(np.moveaxis(v, 0, -1), 0, 1) * 255).astype(np.uint8) for v in views]
        else:
            colours = []
            for index, value in enumerate(values):
                limits = value_range(task, truth[index]) if single and truth is not None else None
                colours.append(colorize(task, value, limits))
        pictures[column] = np.stack(colours)
    return pictures
