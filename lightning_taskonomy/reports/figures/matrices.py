"""Heat maps (Taskonomy, CVPR 2018): affinities (Fig. 7), gain and quality (Fig. 9), novel tasks (Fig. 10)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.affinity import affinity_to_distance
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    FAMILY_COLORS,
    FAMILY_MARKERS,
    INK,
    new_figure,
    readable,
    styled,
    text_on,
)

__all__ = ["affinity_matrix", "gain_quality", "heat", "novel_tasks", "numbers"]

_RIVALS = {
    "scratch": "scratch", "imagenet": "ImageNet", "egomotion": "egomotion (Agrawal)",
    "pose_fixated": "pose, fixated (Zamir)", "pose_nonfixated": "pose, nonfixated (Zamir)",
    "point_matching": "matching (Zamir)", "colorization": "colorization (Zhang)", "jigsaw": "jigsaw (Noroozi)",
    "inpainting": "in-painting (Pathak)", "task_specific": "full supervision",
}  # fmt: skip
"""What novel tasks are compared with, in the words of Fig. 10; in brackets who first learnt features by it."""


@styled
def affinity_matrix(
    before: ArrayLike | None,
    after: ArrayLike,
    *,
    targets: Sequence[str],
    sources: Sequence[str],
    families: Mapping[str, str] | None = None,
    beta: float = 20.0,
) -> Figure:
    """The first-order affinity matrix before and after the Analytic Hierarchy Process, side by side.

    Left the mean losses, each row stretched to its own range, which stands beside it; right ``exp(-beta P)``, the
    paper's distance of affinities P that sum to 1 per row. Dark is a good transfer in both.

    Args:
        before: Mean loss of every transfer, shape (targets, sources), NaN where there is none; None leaves it out.
        after: Affinities P, shape (targets, sources), NaN where there is none.
        targets: Names of the rows.
        sources: Names of the columns, ``task-specific`` among them.
        families: Family of every task; colours a mark beside its name.
        beta: The paper's 20.
    """
    affinities = np.asarray(after, float)
    if affinities.shape != (len(targets), len(sources)):
        raise InputError(f"affinities of shape {affinities.shape} for {len(targets)} targets, {len(sources)} sources")
    panels: list[tuple[str, NDArray[np.float64]]] = []
    ranges: list[str] = []
    if before is not None:
        losses = np.asarray(before, float)
        low, high = _extreme(losses, np.fmin), _extreme(losses, np.fmax)
        spread = np.where(high > low, high - low, 1.0)
        panels.append(("Before: mean loss, each row on its own scale", (losses - low) / spread))
        ranges = [f"{a:.3g}–{b:.3g}" if np.isfinite(a) else "" for a, b in zip(low[:, 0], high[:, 0], strict=True)]
    panels.append((f"After AHP: distance exp(−{beta:g}·P)", affinity_to_distance(affinities, beta)))
    cell = 0.3 if len(sources) > 12 else 0.42
    stacked = len(sources) > 14
    width, height = cell * len(sources) + 0.9, cell * len(targets) + 2.1
    if stacked:
        figure = new_figure(width + 1.9, len(panels) * height + 0.2)
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    else:
        figure = new_figure(max(len(panels) * width + 1.9, 5.0), height + 0.2)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for index, (axis, (title, shown)) in enumerate(zip(axes, panels, strict=True)):
        image = heat(axis, shown, "viridis", 0.0, 1.0)
        axis.set_title(title)
        axis.set_xticks(range(len(sources)), [readable(s) for s in sources], rotation=90)
        axis.set_yticks(range(len(targets)), [readable(t) for t in targets])
        axis.set_xlabel("source")
        if len(sources) <= 12:
            numbers(axis, image, shown)
        _family_marks(axis, targets, sources, families or {}, rows=index == 0 or stacked)
        if index == 0 or stacked:
            axis.set_ylabel("target")
        if index == 0 and ranges:
            for row, text in enumerate(ranges):
                axis.text(len(sources) - 0.4, row, text, fontsize=6.5, va="center", ha="left", color=INK)
    bar = figure.colorbar(
        image, ax=list(axes), shrink=0.6 if len(panels) * stacked < 2 else 0.3, pad=0.01, aspect=30, ticks=[0, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0 (best)", "0.5", "1 (worst)"])
    bar.outline.set_visible(False)
    return figure


@styled
def gain_quality(
    gain: Mapping[int, ArrayLike],
    quality: Mapping[int, ArrayLike],
    *,
    tasks: Sequence[str],
    budgets: Sequence[float],
    families: Mapping[str, str] | None = None,
) -> Figure:
    """Gain and quality of every task under every budget, a pair of panels per transfer order (Fig. 9).

    Red (0) loses on every test image, white (0.5) is on a par, blue (1) wins on every one.

    Args:
        gain: Per order, win rates against a network from scratch, shape (tasks, budgets), NaN where unknown.
        quality: Per order, win rates against the fully supervised network, shape (tasks, budgets).
        tasks: Names of the rows.
        budgets: Names of the columns.
        families: Family of every task.
    """
    panels = [("Gain", order, np.asarray(values, float)) for order, values in sorted(gain.items())]
    panels += [("Quality", order, np.asarray(values, float)) for order, values in sorted(quality.items())]
    if not panels:
        raise InputError("no gain and no quality to draw; give at least one order")
    cell = 0.36 if len(budgets) <= 9 else 0.28
    figure = new_figure(len(panels) * (cell * len(budgets) + 0.35) + 2.9, 0.27 * len(tasks) + 1.5)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for index, (axis, (name, order, values)) in enumerate(zip(axes, panels, strict=True)):
        image = heat(axis, values, "RdBu", 0.0, 1.0)
        axis.set_title(f"{name}, order ≤ {order}" if order else name, fontsize=9)
        axis.set_xticks(range(len(budgets)), [f"{b:g}" for b in budgets])
        axis.set_yticks(range(len(tasks)), [readable(t) for t in tasks])
        axis.set_xlabel("budget")
        if len(budgets) <= 9:
            numbers(axis, image, values, size=6.5)
        _family_marks(axis, tasks, (), families or {}, rows=index == 0)
    _win_rate_bar(figure, image, axes)
    return figure


@styled
def novel_tasks(
    gain: ArrayLike,
    quality: ArrayLike,
    win_rates: ArrayLike,
    losses: ArrayLike,
    *,
    targets: Sequence[str],
    orders: Sequence[int],
    rivals: Sequence[str],
    families: Mapping[str, str] | None = None,
) -> Figure:
    """All-for-one policies of novel tasks (Fig. 10): gain and quality by order, win rates and losses against rivals.

    Red (0) loses on every test image, white (0.5) is on a par, blue (1) wins on every one.

    Args:
        gain: Win rates against a network from scratch, shape (targets, orders), NaN where unknown.
        quality: Win rates against the fully supervised network, shape (targets, orders).
        win_rates: Of the policy over each rival, shape (targets, rivals).
        losses: Of the policy and of each rival, shape (targets, 1 + rivals).
        targets: Names of the rows.
        orders: The highest orders of the policies.
        rivals: Names of the other networks and features.
        families: Family of every task.
    """
    rates, lost = np.asarray(win_rates, float), np.asarray(losses, float)
    if not targets or rates.shape != (len(targets), len(rivals)) or lost.shape != (len(targets), len(rivals) + 1):
        raise InputError(
            f"win rates of shape {rates.shape} and losses of shape {lost.shape} for {len(targets)} targets and "
            f"{len(rivals)} rivals"
        )
    left, right = 0.4 * len(orders), 0.62 * (len(rivals) + 1)
    figure = new_figure(2 * left + right + 3.4, 0.46 * len(targets) + 2.3)
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[left, left, right])
    for index, (axis, name, values) in enumerate(zip(axes, ("Gain", "Quality"), (gain, quality), strict=False)):
        image = heat(axis, np.asarray(values, float), "RdBu", 0.0, 1.0)
        axis.set_title(name)
        axis.set_xticks(range(len(orders)), [f"{order}" for order in orders])
        axis.set_yticks(range(len(targets)), [readable(target) for target in targets])
        axis.set_xlabel("order ≤")
        numbers(axis, image, np.asarray(values, float))
        _family_marks(axis, targets, (), families or {}, rows=index == 0)
    _win_rates(axes[2], rates, lost)
    names = ["this policy", *(_RIVALS.get(rival, readable(rival)) for rival in rivals)]
    axes[2].set_xticks(range(len(names)), names, rotation=40, ha="left", rotation_mode="anchor")
    axes[2].set_title("Win rate against each in per cent (coloured); loss of each (below)")
    _win_rate_bar(figure, image, axes)
    return figure


def _win_rate_bar(figure: Figure, image: AxesImage, axes: Iterable[Axes]) -> None:
    bar = figure.colorbar(image, ax=list(axes), shrink=0.7, pad=0.01, aspect=30, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0 loses", "0.5 par", "1 wins"])
    bar.outline.set_visible(False)


def _win_rates(axis: Axes, rates: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
    """A coloured cell with the win rate in per cent, and the loss in plain below it; the first column has losses only.

    Args:
        axis: Rows are at 0, 1, ...
        rates: (rows, columns - 1) win rates.
        losses: (rows, columns) losses.
    """
    rows, columns = losses.shape
    colors = colormaps["RdBu"]
    for row in range(rows):
        for column in range(columns):
            rate = rates[row, column - 1] if column else np.nan
            corner, height = (column - 0.47, row - 0.46), 0.52
            if np.isfinite(rate):
                color = colors(rate)
                axis.add_patch(Rectangle(corner, 0.94, height, color=color, linewidth=0))
                text = f"{100 * rate:.0f}"
                axis.text(column, row - 0.2, text, ha="center", va="center", fontsize=8, color=text_on(*color[:3]))
            elif column:
                axis.add_patch(Rectangle(corner, 0.94, height, hatch="////", fill=False, linewidth=0))
            if np.isfinite(losses[row, column]):
                axis.text(column, row + 0.26, f"{losses[row, column]:.3g}", ha="center", va="center", fontsize=7)
    axis.set_xlim(-0.5, columns - 0.5)
    axis.xaxis.tick_top()
    axis.tick_params(which="both", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _extreme(values: NDArray[np.float64], ufunc: np.ufunc) -> NDArray[np.float64]:
    """Row-wise extreme that passes over NaN without a warning, shape (rows, 1)."""
    result: NDArray[np.float64] = ufunc.reduce(values, axis=1, keepdims=True, initial=np.nan)
    return result


def heat(
    axis: Axes,
    values: NDArray[np.float64],
    name: str,
    low: float,
    high: float,
    blank: Collection[tuple[int, int]] = (),
) -> AxesImage:
    """A heat map with thin gaps; what is missing stays hatched.

    Args:
        axis: Rows and columns are at 0, 1, ...
        values: (rows, columns), NaN where there is none.
        name: The colour map.
        low: The value of its first colour.
        high: That of its last.
        blank: Cells (row, column) without a value that are empty, not hatched.
    """
    axis.set_facecolor("none")
    rows, columns = values.shape
    boxes = [((-0.5, -0.5), columns, rows)]
    if blank:
        boxes = [((c - 0.5, r - 0.5), 1, 1) for r, c in np.argwhere(~np.isfinite(values)) if (r, c) not in blank]
    for corner, width, height in boxes:
        axis.add_patch(Rectangle(corner, width, height, hatch="////", fill=False, linewidth=0, zorder=-1))
    image = axis.imshow(
        np.ma.masked_invalid(values), cmap=name, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    axis.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axis.grid(False)
    axis.tick_params(which="both", length=0, pad=9)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return image


def _hundredths(value: float) -> str:
    """``.25``, ``1.00``."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text


def numbers(
    axis: Axes,
    image: AxesImage,
    values: NDArray[np.float64],
    size: float = 7.0,
    form: Callable[[float], str] = _hundredths,
) -> None:
    """Writes each value into its cell, legibly.

    Args:
        axis: Where the heat map is.
        image: The heat map.
        values: (rows, columns), NaN where there is none.
        size: Of the letters, in points.
        form: A value in writing.
    """
    colors = image.to_rgba(values)
    for row, column in np.argwhere(np.isfinite(values)):
        color, text = text_on(*colors[row, column, :3]), form(values[row, column])
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=color, in_layout=False)


def _family_marks(
    axis: Axes, rows_of: Sequence[str], columns_of: Sequence[str], families: Mapping[str, str], *, rows: bool
) -> None:
    """The mark of its family between a task's name and its row or column."""
    places = [(task, -0.01, float(row), axis.get_yaxis_transform()) for row, task in enumerate(rows_of) if rows]
    places += [(task, float(row), -0.01, axis.get_xaxis_transform()) for row, task in enumerate(columns_of)]
    for task, x, y, transform in places:
        family = families.get(task, "")
        if family in FAMILY_COLORS:
            mark = Line2D([x], [y], marker=FAMILY_MARKERS[family], ms=4.5, color=FAMILY_COLORS[family], mec="none")
            mark.set_transform(transform)
            mark.set_clip_on(False)
            axis.add_artist(mark)
