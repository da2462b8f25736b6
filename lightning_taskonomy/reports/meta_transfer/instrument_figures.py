"""Curves of what was logged while a projection was learnt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

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

__all__ = ["Curve", "Panel", "instrument_panels"]

_COLUMNS = 2


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A value over the steps of a method's runs.

    Args:
        label: The method, and the task where there are several.
        steps: The steps in order.
        mean: The mean over seeds at each.
        low: The lowest seed at each.
        high: The highest seed at each.
        is_plain: It is of the plain gradient, drawn dotted beside the curve of the same label.
    """

    label: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    is_plain: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An instrument.

    Args:
        title: What it is.
        curves: Its curves.
        log: Whether its axis is logarithmic where all values are positive and span more than a decade.
        line: What the curves are compared with.
    """

    title: str
    curves: tuple[Curve, ...]
    log: bool = False
    line: float | None = None


@styled
def instrument_panels(panels: Sequence[Panel]) -> Figure:
    """A panel per instrument over the network's steps; a method has one colour, marker and style in all of them.

    Args:
        panels: At least one, each with a curve.
    """
    if not panels or not all(panel.curves for panel in panels):
        raise InputError("no instrument to draw; give at least one, with a curve")
    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(8.2, 2.35 * rows + 0.3 + 0.22 * math.ceil((len(labels) + 1) / 3))
    places = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for place, panel in zip(places, panels, strict=False):
        _draw(place, panel, labels)
    for place in places[len(panels) :]:
        place.set_visible(False)
    handles = [
        Line2D([], [], color=SERIES_COLORS[i % len(SERIES_COLORS)], ls=line_style(i), marker=LINE_MARKERS[i % 4], ms=4)
        for i in range(len(labels))
    ]
    names = list(labels)
    if any(curve.is_plain for panel in panels for curve in panel.curves):
        handles.append(Line2D([], [], color=INK, ls=":", lw=1.2))
        names.append("plain gradient, in the method's colour")
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _draw(place: Axes, panel: Panel, labels: Sequence[str]) -> None:
    for curve in panel.curves:
        index = labels.index(curve.label)
        color = SERIES_COLORS[index % len(SERIES_COLORS)]
        gap = max(1, len(curve.steps) // 8)
        if curve.is_plain:
            place.plot(curve.steps, curve.mean, color=color, ls=":", lw=1.4, zorder=2)
        else:
            place.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=0.16, lw=0)
            place.plot(
                curve.steps, curve.mean, color=color, ls=line_style(index), lw=1.5, marker=LINE_MARKERS[index % 4],
                ms=4, markevery=(index % gap, gap), zorder=3,
            )  # fmt: skip
    if panel.line is not None:
        place.axhline(panel.line, color=MUTED, lw=1.2, zorder=1)
    ends = [end for curve in panel.curves for end in (min(curve.low), max(curve.high))]
    ends += [] if panel.line is None else [panel.line]
    if panel.log and 0 < 10 * min(ends) < max(ends):
        place.set_yscale("log")
        place.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
        place.yaxis.set_minor_formatter(NullFormatter())
    place.set_title(panel.title, fontsize=8.5)
    place.set_xlabel("step")
    place.grid(True, axis="y")
