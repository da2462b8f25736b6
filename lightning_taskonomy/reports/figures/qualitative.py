"""Predictions side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import new_figure, readable, styled

__all__ = ["COLUMNS", "qualitative"]

COLUMNS = {
    "input": "input",
    "target": "truth",
    "task_specific": "fully supervised",
    "scratch": "from scratch",
    "transfer": "best transfer",
}
"""Columns of the grid, in order, by the names that a study saves them under."""


@styled
def qualitative(
    pictures: Mapping[str, Mapping[str, NDArray[np.uint8]]],
    *,
    examples: int = 1,
    notes: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Figure:
    """A grid: a row per task and example; columns input, truth, fully supervised, from scratch, best transfer.

    Args:
        pictures: Per task and column, colours of shape (n, H, W, 3); a missing column stays empty.
        examples: Rows per task, at most n.
        notes: A word per task below its name, such as the sources of the transfer.
        columns: Titles by column name, :data:`COLUMNS` if not given.
    """
    columns = columns or COLUMNS
    rows: list[tuple[str, int]] = []
    for task, shown in pictures.items():
        count = min((len(values) for values in shown.values()), default=0)
        rows += [(task, index) for index in range(min(examples, count))]
    if not rows:
        raise InputError("no example to draw; give at least one task with its pictures")
    present: Sequence[str] = [name for name in columns if any(name in shown for shown in pictures.values())]
    figure = new_figure(1.75 * len(present) + 1.2, 1.75 * len(rows) + 0.3)
    axes = figure.subplots(len(rows), len(present), squeeze=False)
    for line, (task, index) in zip(axes, rows, strict=True):
        for axis, name in zip(line, present, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if name in pictures[task]:
                axis.imshow(pictures[task][name][index], interpolation="nearest")
        if index == 0:
            note = (notes or {}).get(task, "")
            line[0].set_ylabel(readable(task) + (f"\n{note}" if note else ""), fontsize=8)
    for axis, name in zip(axes[0], present, strict=True):
        axis.set_title(columns[name], loc="center", fontsize=9)
    return figure
