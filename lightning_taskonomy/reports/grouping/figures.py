"""Which tasks to learn together (Standley et al., ICML 2020): losses by budget, the kept networks, relations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    GREY,
    INK,
    LINE_MARKERS,
    MUTED,
    SERIES_COLORS,
    line_style,
    new_figure,
    readable,
    styled,
    text_on,
)
from lightning_taskonomy.solvers.taxonomy import Band

__all__ = ["KeptNetworks", "approximation_scatter", "grouping_curves", "kept_networks", "relationship_matrices"]

_WIDTH, _GAP = 8.6, 0.12
"""Inches that the boxes of a line may take, and those between them."""
_LETTER = 0.095
"""Inches that a letter of a title takes, about."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, kw_only=True)
class KeptNetworks:
    """The networks that a budget keeps.

    Args:
        budget: The inference budget.
        networks: The networks.
        serves: Per network, the tasks that are read from it.
        loss: The total loss they reach.
        note: What else to say of them, in a few words.
    """

    budget: float
    networks: tuple[Network, ...]
    serves: tuple[tuple[str, ...], ...]
    loss: float
    note: str = ""


@styled
def grouping_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    random: Sequence[tuple[float, Band]] = (),
    points: Mapping[str, tuple[float, float]] | None = None,
    spreads: Mapping[str, Mapping[float, float]] | None = None,
    measure: str = "total loss",
    unit: str = "1: one full-size network",
) -> Figure:
    """Total loss against the inference budget, one curve per way to choose networks (Figs. 4 and 5 of the paper).

    Args:
        curves: (budget, loss) of every way to choose; an empty one is not drawn, and keeps its look for other figures.
        random: Per budget, the 5th percentile, mean and 95th percentile of random groupings that spend it.
        points: (cost, loss) of choices without a search, such as all tasks in one network; a line carries each on.
        spreads: Half of the interval of a loss, by curve and budget, where it is known; a whisker.
        measure: Which losses they are.
        unit: What budgets count.
    """
    if not any(curves.values()):
        raise InputError("no grouping to draw; give at least one")
    figure = new_figure(8.6, 4.6)
    axis = figure.subplots()
    budgets = [budget for line in curves.values() for budget, _ in line]
    if random:
        places = [budget for budget, _ in random]
        low, high = [band.low for _, band in random], [band.high for _, band in random]
        axis.fill_between(places, low, high, color=MUTED, alpha=0.3, lw=0, label="random groupings (5–95 %)")
        axis.plot(places, [b.middle for _, b in random], color=MUTED, lw=1.4, marker="|", label="their mean")
    for index, (name, line) in enumerate(curves.items()):
        if not line:
            continue
        color = SERIES_COLORS[index % len(SERIES_COLORS)]
        axis.plot(
            *zip(*sorted(line), strict=True),
            color=color,
            marker=LINE_MARKERS[index % len(LINE_MARKERS)],
            ls=line_style(index),
            ms=5.5,
            lw=1.9,
            label=name,
        )
        for budget, loss in line:
            half = (spreads or {}).get(name, {}).get(budget)
            if half is not None:
                axis.errorbar(budget, loss, yerr=half, color=color, lw=0.9, capsize=2.5, alpha=0.6)
    for index, (name, (cost, loss)) in enumerate((points or {}).items()):
        axis.plot([cost, max(*budgets, cost)], [loss, loss], color=INK, lw=0.8, ls=":", alpha=0.7)
        axis.plot(
            cost, loss, ls="", color=INK, marker="*PXd"[index % 4], ms=10, mec="white", mew=0.6, zorder=4, label=name
        )
    axis.set_xlabel(f"inference budget ({unit})")
    axis.set_ylabel(measure)
    axis.grid(True, axis="y")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def kept_networks(solutions: Sequence[KeptNetworks], tasks: Sequence[str]) -> Figure:
    """The networks of every budget as boxes, a row per budget; tasks read from a network filled, its others hollow.

    Args:
        solutions: What is kept, one per budget.
        tasks: All tasks, which gives each its colour and marker.
    """
    if not solutions:
        raise InputError("no grouping to draw; give at least one")
    looks = {task: (SERIES_COLORS[i % 7], LINE_MARKERS[i % 4]) for i, task in enumerate(tasks)}
    wide = 0.5 + 0.085 * max(len(readable(task)) for task in tasks)
    most = max(int(_WIDTH / (wide + _GAP)), 1)
    columns = min(max(len(solution.networks) for solution in solutions), most)
    lines = [
        (solution, range(first, min(first + columns, len(solution.networks))))
        for solution in solutions
        for first in range(0, len(solution.networks), columns)
    ]
    heights = [0.42 + 0.2 * max(len(solution.networks[n].tasks) for n in line) for solution, line in lines]
    width, height = 1.35 + (wide + _GAP) * columns, sum(heights) + _GAP * len(heights)
    figure = new_figure(width, height + 0.55)
    axis = figure.subplots()
    axis.set_xlim(0, width)
    axis.set_ylim(height, -0.1)
    axis.axis("off")
    top = 0.0
    for (solution, line), tall in zip(lines, heights, strict=True):
        if line[0] == 0:
            axis.text(0.05, top + 0.2, f"budget {solution.budget:g}", va="center", weight="bold")
            axis.text(0.05, top + 0.42, f"loss {solution.loss:.4g}", va="center", fontsize=8)
            axis.text(0.05, top + 0.58, solution.note, va="center", fontsize=7, alpha=0.75)
        for place, n in enumerate(line):
            _box(axis, (1.3 + place * (wide + _GAP), top), wide, solution, n, looks)
        top += tall + _GAP
    filled = axis.plot([], [], "o", ls="", color=GREY, ms=7, label="read from this network")
    hollow = axis.plot([], [], "o", ls="", color=MUTED, mfc="none", mew=1.2, ms=7, label="trained along, not used")
    figure.legend(handles=[*filled, *hollow], loc="outside lower center", ncols=2)
    return figure


def _box(
    axis: Axes,
    corner: tuple[float, float],
    wide: float,
    solution: KeptNetworks,
    n: int,
    looks: Mapping[str, tuple[str, str]],
) -> None:
    """A network and its outputs."""
    network, serves, (left, top) = solution.networks[n], solution.serves[n], corner
    name = f"network:{solution.budget:g}:{'+'.join(network.tasks)}"
    tall = 0.36 + 0.2 * len(network.tasks)
    shape = "round,pad=0,rounding_size=0.06"
    axis.add_patch(FancyBboxPatch(corner, wide, tall, boxstyle=shape, fill=False, ec=INK, lw=1.1, gid=name))
    axis.text(left + 0.1, top + 0.14, f"cost {network.cost:g}", va="center", fontsize=7.5, alpha=0.75)
    for row, task in enumerate(network.tasks):
        color, marker = looks[task]
        y, reads = top + 0.34 + 0.2 * row, task in serves
        inside = color if reads else "none"
        name = f"output:{solution.budget:g}:{n}:{task}"
        axis.plot(left + 0.16, y, marker, ms=7, color=color, mfc=inside, mew=1.2, gid=name)
        axis.text(left + 0.3, y, readable(task), va="center", fontsize=8.5, alpha=1.0 if reads else 0.6)


@styled
def relationship_matrices(
    panels: Mapping[str, ArrayLike], tasks: Sequence[str], *, rows: str = "trained with", columns: str = "change of"
) -> Figure:
    """How tasks change each other (Tables 1 and 2 of the paper: in per cent): blue helps, red hurts.

    Args:
        panels: Matrices by title, shape (tasks, tasks), positive where it helps, each on its own scale; small numbers
            in a power of ten, which then stands in the title; NaN is left hatched. The first is directed; others, such
            as the symmetric affinity, stand beside it.
        tasks: Names of rows and columns.
        rows: What a row of the first is.
        columns: What a column of the first is.
    """
    tables = {title: np.asarray(values, float) for title, values in panels.items()}
    for title, values in tables.items():
        if values.shape != (len(tasks), len(tasks)):
            raise InputError(f"{title}: a matrix of shape {values.shape} for {len(tasks)} tasks")
    if not tables:
        raise InputError("no matrix to draw; give at least one")
    side = max(0.34 if len(tasks) > 10 else 0.58, 0.34) * len(tasks)
    abreast = 1 if len(tasks) > 12 else min(len(tables), 3)
    lines = -(-len(tables) // abreast)
    wide = (side + 0.4) * abreast + 2.4
    letters = int((wide - 1.2) / abreast / _LETTER)
    figure = new_figure(wide, (side + 1.7) * lines)
    axes = figure.subplots(lines, abreast, sharey=True, squeeze=False).ravel()
    for axis in axes[len(tables) :]:
        axis.set_visible(False)
    for index, (axis, (title, values)) in enumerate(zip(axes, tables.items(), strict=False)):
        power = _power(values)
        _relations(axis, values / 10.0**power, tasks)
        scaled = f"{title} (×\N{NO-BREAK SPACE}10{str(power).translate(_SUPERSCRIPTS)})" if power else title
        axis.set_title(fill(scaled, letters, break_long_words=False, break_on_hyphens=False))
        if index % abreast == 0:
            axis.set_ylabel(rows)
        if index == abreast * (lines - 1):
            axis.set_xlabel(columns)
    return figure


@styled
def approximation_scatter(panels: Mapping[str, tuple[ArrayLike, ArrayLike, str]]) -> Figure:
    """What an approximation predicts against what training gives, a panel per approximation.

    Args:
        panels: By title: N predicted losses, the N measured ones, and a line on how well they agree.
    """
    if not panels:
        raise InputError("no approximation to draw; give at least one")
    figure = new_figure(3.9 * len(panels), 3.7)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for index, (axis, (title, (predicted, measured, note))) in enumerate(zip(axes, panels.items(), strict=True)):
        x, y = np.asarray(predicted, float), np.asarray(measured, float)
        axis.plot(x, y, LINE_MARKERS[index % 4], color=SERIES_COLORS[index % 7], ms=5, alpha=0.75, mec="white", mew=0.4)
        axis.set_title(title)
        axis.set_xlabel("predicted loss")
        axis.annotate(note, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=8.5)
        axis.grid(True)
        low, high = max(x.min(), y.min()), min(x.max(), y.max())
        if high - low > np.ptp([*x, *y]) / 2:  # on the same scale
            axis.plot([low, high], [low, high], color=INK, lw=0.8, ls=":", alpha=0.7)
    axes[0].set_ylabel("measured loss")
    return figure


def _reach(values: np.ndarray) -> float:
    """What the darkest colour stands for, the 90th percentile: an outlier does not bleach the others."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, 90)) if finite.any() else 1.0


def _power(values: np.ndarray) -> int:
    """The power of ten that small numbers are written in, so that two of their digits show; 0 for others."""
    reach = _reach(values)
    return int(np.floor(np.log10(reach))) if 0 < reach < 0.1 else 0


def _relations(axis: Axes, values: np.ndarray, tasks: Sequence[str]) -> None:
    """One matrix in red and blue about 0, with its numbers."""
    reach = _reach(values)
    count = len(tasks)
    axis.add_patch(Rectangle((-0.5, -0.5), count, count, hatch="////", fill=False, linewidth=0, zorder=-1))
    image = axis.imshow(np.ma.masked_invalid(values), cmap="RdBu", vmin=-reach, vmax=reach, interpolation="nearest")
    colors = image.to_rgba(values)
    size = 8.5 if count <= 10 else 6.2
    digits = 1 if reach >= 1 else 2
    for row, column in np.argwhere(np.isfinite(values)):
        color = text_on(*colors[row, column, :3])
        text = f"{values[row, column]:+.{digits}f}".replace("-", "−")
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=color, in_layout=False)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(count), [readable(task) for task in tasks], **({"rotation": 90} if count > 5 else slanted))
    axis.set_yticks(range(count), [readable(task) for task in tasks])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
