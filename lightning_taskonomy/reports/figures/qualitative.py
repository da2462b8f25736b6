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
    figure = new_figure(1.6 * len(present) + 1.5, 1.6 * len(rows) + 0.35)
    axis = figure.subplots()
    axis.axis("off")
    for row, (task, index) in enumerate(rows):
        for column, name in enumerate(present):
            if name in pictures[task]:
                axis.imshow(
                    pictures[task][name][index],
                    interpolation="nearest",
                    extent=(column, column + 0.97, row + 0.97, row),
                )
        if index == 0:
            note = (notes or {}).get(task, "")
            axis.text(
                -0.06, row + 0.1, "\n".join(readable(task).split()), ha="right", va="top", weight="bold", fontsize=8
            )
            axis.text(-0.06, row + 0.9, note, ha="right", va="bottom", fontsize=6.5)
    for column, name in enumerate(present):
        axis.text(column + 0.485, -0.04, columns[name], ha="center", va="bottom")
    axis.set_xlim(-0.85, len(present))
    axis.set_ylim(len(rows), -0.2)
    axis.set_aspect("equal")
    return figure
