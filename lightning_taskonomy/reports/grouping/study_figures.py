"""Figures of a grouping study: equal cost, affinities against each other, approximations, costs, learning curves."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    INK,
    LINE_MARKERS,
    MUTED,
    SERIES_COLORS,
    line_style,
    new_figure,
    styled,
)

__all__ = ["affinity_scatter", "equal_cost_bars", "inference_panels", "learning_curves", "regret_scatter"]

Points = Sequence[tuple[float, float]]

_COLUMNS = 3
"""So many panels stand side by side."""


@styled
def equal_cost_bars(bars: Mapping[str, tuple[float, float | None]]) -> Figure:
    """Relative performance by the number of tasks of a network, at equal cost (Fig. 2 of the paper).

    Args:
        bars: Mean percent by which losses are lower, and half of its interval if known, by title.
    """
    if not bars:
        raise InputError("no comparison at equal cost to draw; give at least one")
    figure = new_figure(1.5 * len(bars) + 1.6, 3.4)
    axis = figure.subplots()
    for place, (mean, half) in enumerate(bars.values()):
        axis.bar(place, mean, 0.6, color=SERIES_COLORS[0] if mean >= 0 else SERIES_COLORS[1])
        axis.errorbar(place, mean, yerr=half, color=INK, lw=1.2, capsize=4)
        far = mean + np.copysign(half or 0.0, mean)
        axis.annotate(
            f"{mean:+.2f} %".replace("-", "−"), (place, far), (0, 4 if mean >= 0 else -4), textcoords="offset points",
            ha="center", va="bottom" if mean >= 0 else "top", fontsize=8.5,
        )  # fmt: skip
    axis.axhline(0, color=INK, lw=0.8)
    axis.margins(y=0.16)
    axis.set_xticks(range(len(bars)), list(bars))
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel("loss lower by, %")
    axis.grid(True, axis="y")
    axis.set_axisbelow(True)
    return figure


@styled
def affinity_scatter(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike, Sequence[str], str, int | None]], measured: str
) -> Figure:
    """Another affinity of pairs against the one by training together, a panel each (Fig. 3 of the paper).

    Args:
        panels: By title: N values, the N of training together, N short names of the pairs, a line on how well they
            agree, and the place of the pair that is left out in it (None for none), which is drawn hollow.
        measured: What the second is.
    """
    if not panels:
        raise InputError("no affinities to compare; give at least one panel")
    figure, axes = _grid(len(panels), 3.6, 3.4)
    for index, (axis, (title, (x, y, names, note, hollow))) in enumerate(zip(axes, panels.items(), strict=False)):
        color = SERIES_COLORS[index % len(SERIES_COLORS)]
        others, measurements = np.asarray(x, float), np.asarray(y, float)
        for place, (one, other, name) in enumerate(zip(others, measurements, names, strict=True)):
            mark = LINE_MARKERS[index % len(LINE_MARKERS)]
            axis.plot(one, other, mark, color=color, mfc="none" if place == hollow else color, ms=5.5)
            axis.annotate(name, (one, other), (4, 3), textcoords="offset points", fontsize=7.5)
        axis.axhline(0, color=INK, lw=0.8, ls=":", alpha=0.7)
        axis.margins(0.12)
        axis.set_title(title)
        axis.set_xlabel(note)
        axis.grid(True)
    for axis in axes[::_COLUMNS]:
        axis.set_ylabel(measured)
    return figure


@styled
def regret_scatter(points: Mapping[str, tuple[float, Sequence[float]]], measure: str = "test loss") -> Figure:
    """What an approximation saves in training against what its choices lose.

    Args:
        points: By approximation: its cost in trainings, and the regret at each budget.
        measure: Which loss the regret is of.
    """
    if not points:
        raise InputError("no approximation to draw; give at least one")
    figure = new_figure(6.8, 3.9)
    axis = figure.subplots()
    for index, (name, (trainings, regrets)) in enumerate(points.items()):
        color, mean = SERIES_COLORS[index % len(SERIES_COLORS)], float(np.mean(regrets))
        axis.plot([trainings] * 2, [min(regrets), max(regrets)], color=color, lw=1.2)
        axis.plot(trainings, mean, LINE_MARKERS[index % len(LINE_MARKERS)], color=color, ms=8, label=name)
    axis.axhline(0, color=INK, lw=0.8, ls=":", alpha=0.7)
    most = max(trainings for trainings, _ in points.values())
    _labels(axis, {name: (trainings, float(np.mean(regrets))) for name, (trainings, regrets) in points.items()}, most)
    axis.set_xlim(0, 1.3 * most)
    axis.set_xlabel("cost in trainings of a full-size network")
    axis.set_ylabel(f"regret: {measure} above that of the optimal choice")
    axis.grid(True)
    return figure


@styled
def inference_panels(
    panels: Mapping[str, tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]]],
) -> Figure:
    """What encoders cost by their size, a panel per measure, with one decoder of the same network below.

    Args:
        panels: By title: (size, cost) of the encoders and of a mean decoder; NaN is left out.
    """
    if not panels:
        raise InputError("no cost to draw; give at least one measure")
    figure, axes = _grid(len(panels), 3.1, 2.7)
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for index, (name, line) in enumerate(zip(("encoder", "one decoder"), lines, strict=True)):
            points = sorted(point for point in line if np.isfinite(point[1]))
            axis.plot(
                *zip(*points, strict=True) if points else ([], []), color=SERIES_COLORS[index], ls=line_style(index),
                marker=LINE_MARKERS[index], ms=5, lw=1.7, label=name,
            )  # fmt: skip
        full = dict(lines[0]).get(1.0, np.nan)
        axis.plot([0, 1], [0, full], color=MUTED, lw=1, ls=":", label="in proportion to the size")
        axis.set_title(title)
        axis.set_xlabel("size of the encoder")
        axis.set_xlim(0, None)
        axis.set_ylim(0, None)
        axis.grid(True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def learning_curves(panels: Mapping[str, Mapping[str, Points]], measure: str) -> Figure:
    """How networks learnt, a panel per group of them, a ring where a network was best.

    Args:
        panels: By title, (validation, loss) of each network by name.
        measure: Which loss it is.
    """
    if not any(panels.values()):
        raise InputError("no learning curve to draw; give at least one")
    figure, axes = _grid(len(panels), 3.3, 2.7, sharey=True)
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for index, curve in enumerate(curves.values()):
            color = SERIES_COLORS[index % len(SERIES_COLORS)]
            axis.plot(*zip(*curve, strict=True), color=color, ls=line_style(index), lw=1, alpha=0.8)
            axis.plot(*min(curve, key=lambda point: point[1]), "o", mfc="none", color=color, ms=5)
        axis.set_title(title)
        axis.set_xlabel("validation")
        axis.grid(True, axis="y")
    for axis in axes[::_COLUMNS]:
        axis.set_ylabel(measure)
    return figure


def _labels(axis: Axes, points: Mapping[str, tuple[float, float]], wide: float) -> None:
    """Names beside points, moved up where they would lie on each other."""
    low, high = axis.get_ylim()
    written: list[tuple[float, float]] = []
    for name, (x, y) in sorted(points.items(), key=lambda entry: entry[1][1]):
        near = [above for other, above in written if abs(other - x) < 0.4 * wide]
        spot = max([y, *(above + 0.055 * (high - low) for above in near)])
        written.append((x, spot))
        axis.annotate(
            name, (x, y), (x + 0.035 * wide, spot), textcoords="data", va="center", fontsize=8,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": MUTED},
        )  # fmt: skip


def _grid(count: int, wide: float, tall: float, *, sharey: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """A figure of so many panels, of that size each; places without a panel are blank."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = new_figure(wide * columns + 0.3, tall * rows + 0.3)
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)  # that of new_figure
    layout.set(hspace=0.06)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, list(axes)
