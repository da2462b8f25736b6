"""A taxonomy as a graph (Fig. 8 of Taskonomy, CVPR 2018)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Curve

from lightning_taskonomy.reports.families import family_rank
from lightning_taskonomy.reports.figures.marks import draw_node, family_legend, keep_out_of_layout
from lightning_taskonomy.reports.figures.style import (
    FAMILY_COLORS,
    MUTED,
    new_figure,
    order_width,
    readable,
    styled,
    text_on,
)
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["taxonomy_graph", "untangled"]

_UNIT = 9.4 / 13.6
"""Inches of a unit across a taxonomy's graph."""


def untangled(left: Sequence[str], reads: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Two columns in an order with few crossings: each name near the mean place of those it is joined to.

    Args:
        left: Names on the left, in the order in which equal ones stand; those that nobody reads come last.
        reads: Per name on the right those on the left that it is joined to; in the order in which equal ones stand.
    """
    left, right = list(left), list(reads)
    joined = {name: [other for other in right if name in reads[other]] for name in left}
    for _ in range(6):
        where = {name: row / max(len(left) - 1, 1) for row, name in enumerate(left)}
        right.sort(key=lambda name: np.mean([where[other] for other in reads[name] if other in where] or [0.5]))
        where = {name: row / max(len(right) - 1, 1) for row, name in enumerate(right)}
        left.sort(key=lambda name: np.mean([where[other] for other in joined[name]] or [2.0]))
    return left, right


@styled
def taxonomy_graph(
    taxonomy: TaxonomySolution,
    *,
    families: Mapping[str, str] | None = None,
    source_only: Sequence[str] = (),
    tasks: Sequence[str] | None = None,
) -> Figure:
    """One taxonomy: the tasks to train fully on the left, ringed; the tasks solved by transfer on the right.

    A curve runs from each source to the target that reads it, in the colour of the source's family; the higher the
    order of the transfer, the thinner. Beside every target stand its order, gain and quality. Tasks that are neither
    trained nor targets are dimmed below the sources; so is every source-only task.

    Args:
        taxonomy: What the solver returned.
        families: Family of every task.
        source_only: Tasks that are never targets.
        tasks: All tasks of the dictionary; those of the taxonomy if not given.
    """
    families = families or {}
    left, right = untangled(
        sorted(taxonomy.sources, key=lambda t: (family_rank(families.get(t, "")), t)),
        {row.target: row.sources for row in sorted(taxonomy.transfers, key=lambda row: row.target)},
    )
    transfers = [taxonomy.policy[target] for target in right]
    dictionary = list(tasks) if tasks is not None else []
    unused = [task for task in dictionary if task not in taxonomy.sources and task not in taxonomy.policy]

    listed = unused if len(unused) <= 2 * max(len(left), len(transfers)) else []  # the graph is not about them
    below = len(listed) + 1.2 if unused else 0
    rows = max(len(left) + below, len(transfers), 3)
    start = min(-4.4, -1.4 - _width([*left, *listed]))
    order_at = max(6.95, 4.8 + _width(right))
    end = order_at + 2.25
    figure = new_figure(_UNIT * (end - start), 0.31 * rows + 1.7)
    axis = figure.subplots()
    axis.set_xlim(start, end)
    axis.set_ylim(rows - 0.2, -1.5)
    axis.axis("off")
    left_rows = rows - below
    y_left = dict(zip(left, _spread(len(left), left_rows), strict=True))
    y_right = dict(zip(right, _spread(len(right), rows), strict=True))
    axis.text(0, -1.0, f"trained with all labels ({len(left)})", ha="right", weight="bold")
    if transfers:
        axis.text(4, -1.0, f"solved by transfer ({len(transfers)})", ha="left", weight="bold")
    for x, title in ((order_at, "order"), (order_at + 0.8, "gain"), (order_at + 1.67, "quality")):
        axis.text(x, -1.0, title, ha="center", fontsize=8)
    for row in transfers:
        for source in row.sources:
            if source in y_left:
                ends = (0.3, y_left[source]), (3.75, y_right[row.target])
                curve = Curve([ends[0], (2.0, ends[0][1]), (2.0, ends[1][1]), ends[1]], [1, 4, 4, 4])
                axis.add_patch(
                    PathPatch(
                        curve,
                        fill=False,
                        lw=order_width(row.order),
                        alpha=0.85,
                        zorder=1,
                        capstyle="butt",
                        edgecolor=FAMILY_COLORS.get(families.get(source, ""), MUTED),
                        gid=f"edge:{source}:{row.target}",
                    )
                )
    for task, y in y_left.items():
        dim = task in source_only
        draw_node(axis, 0, y, families.get(task, ""), ring=True, dim=dim)
        axis.text(-0.4, y, readable(task), ha="right", va="center", alpha=0.65 if dim else 1.0)
        alone = taxonomy.policy.get(task)
        if alone is not None and alone.kind == "task_specific" and alone.win_rate_vs_scratch is not None:
            gain = f"gain {alone.win_rate_vs_scratch:.2f}"
            axis.text(start + 0.05, y, gain, ha="left", va="center", fontsize=7.5, alpha=0.75)
    for row in transfers:
        y = y_right[row.target]
        draw_node(axis, 4, y, families.get(row.target, ""), ring=False)
        axis.text(4.3, y, readable(row.target), ha="left", va="center")
        axis.text(order_at, y, str(row.order), ha="center", va="center", fontsize=8)
        _cell(axis, order_at + 0.8, y, row.win_rate_vs_scratch)
        _cell(axis, order_at + 1.67, y, row.win_rate_vs_task_specific)
    if unused:
        top = left_rows + 0.4
        axis.text(0, top, f"not used ({len(unused)})", ha="right", va="center", color=MUTED, fontsize=8)
        for index, task in enumerate(listed):
            draw_node(axis, 0, top + 0.9 + index, families.get(task, ""), ring=False, dim=True)
            axis.text(-0.4, top + 0.9 + index, readable(task), ha="right", va="center", alpha=0.55)
    keep_out_of_layout(axis)
    orders = sorted({row.order for row in transfers})
    figure.legend(
        handles=family_legend(families, dictionary or [*left, *right], orders), loc="outside lower center", ncols=4
    )
    return figure


def _width(tasks: Sequence[str]) -> float:
    """Of the longest name, in units across a taxonomy's graph."""
    style = FontProperties(family=matplotlib.rcParams["font.family"], size=matplotlib.rcParams["font.size"])
    ruler: Any = RendererAgg(1, 1, 72)  # type: ignore[no-untyped-call]  # matplotlib's is not annotated
    points = [ruler.get_text_width_height_descent(readable(task), style, ismath=False)[0] for task in tasks]
    return max(points, default=0.0) / 72 / _UNIT


def _spread(count: int, rows: float) -> list[float]:
    """Rows for so many nodes, centred, at least one apart and at most two."""
    if count < 2:
        return [(rows - 1) / 2] * count
    step = min(max((rows - 1) / (count - 1), 1.0), 2.2)
    start = (rows - 1 - step * (count - 1)) / 2
    return [start + step * index for index in range(count)]


def _cell(axis: Axes, x: float, y: float, value: float | None) -> None:
    """A win rate in its colour: red loses, blue wins."""
    if value is None:
        axis.text(x, y, "–", ha="center", va="center", fontsize=8, color=MUTED)
        return
    color = matplotlib.colormaps["RdBu"](value)
    axis.text(
        x,
        y,
        f"{value:.2f}",
        ha="center",
        va="center",
        fontsize=8,
        color=text_on(*color[:3]),
        bbox={"boxstyle": "square,pad=0.22", "facecolor": color, "edgecolor": "none"},
    )
