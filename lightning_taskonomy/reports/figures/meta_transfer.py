"""Figures of a Task Meta-Transfer study (Figures 3 to 5 of the paper, and its tables as a picture)."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    INK,
    LINE_MARKERS,
    SERIES_COLORS,
    line_style,
    new_figure,
    styled,
)

__all__ = ["error_reductions", "variation_panels"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")


@styled
def error_reductions(groups: Mapping[str, Mapping[str, Sequence[float]]], subject: str = "") -> Figure:
    """A row per case and a mark per method at its mean reduction of the error; a line spans the seeds.

    Args:
        groups: Reductions per seed, 1 where no error is left, by case and method.
        subject: The method that is drawn larger, in front.
    """
    if not groups:
        raise InputError("no reduction of an error to draw; give at least one")
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure = new_figure(8.4, 0.62 * len(groups) + 1.5)
    axis = figure.subplots()
    for index, name in enumerate(names):
        chosen = name == subject
        shift = (index - (len(names) - 1) / 2) * 0.6 / len(names)
        for row, group in enumerate(groups.values()):
            values = [value for value in group.get(name, ()) if math.isfinite(value)]
            if not values:
                continue
            color = SERIES_COLORS[index % len(SERIES_COLORS)]
            axis.plot([min(values), max(values)], [row + shift] * 2, color=color, lw=1.2, zorder=2 + chosen)
            axis.plot(
                fmean(values), row + shift, _MARKERS[index % len(_MARKERS)], color=color, ms=9 if chosen else 6,
                mec=INK if chosen else color, zorder=3 + chosen, ls="none",
            )  # fmt: skip
        axis.plot(
            [], [], _MARKERS[index % len(_MARKERS)], color=SERIES_COLORS[index % len(SERIES_COLORS)],
            ms=8 if chosen else 6, mec=INK if chosen else None, ls="none", label=name,
        )  # fmt: skip
    axis.axvline(0, color=INK, lw=0.8, ls=":", alpha=0.7)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlabel("error of Primary Only removed")
    axis.grid(True, axis="x")
    for row in range(1, len(groups)):
        axis.axhline(row - 0.5, color=INK, lw=0.4, alpha=0.25)
    figure.legend(loc="outside lower center", ncols=min(len(names), 6))
    return figure


@styled
def variation_panels(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Sequence[float]]]]],
    axis: str,
    value: str = "",
    *,
    bars: bool = False,
) -> Figure:
    """A panel per case, a curve or a set of bars per method, over the values of one setting.

    Args:
        panels: Per panel and method (value of the setting, measurements per seed) in order.
        axis: What the setting is.
        value: What is measured; the panels' titles say it where empty.
        bars: Bars from zero in place of curves.
    """
    if not panels:
        raise InputError("nothing was varied; give at least one panel")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(max(3.1 * columns, 5.2), 2.5 * rows + 0.7)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    handles = {}
    for place, (title, panel) in zip(places, panels.items(), strict=False):
        ticks = sorted({at for points in panel.values() for at, _ in points})
        for index, name in enumerate(names):
            points = [(ticks.index(at), fmean(held), held) for at, held in panel.get(name, ()) if held]
            if not points:
                continue
            color = SERIES_COLORS[index % len(SERIES_COLORS)]
            width = 0.8 / len(names)
            spots = [x + (width * (index - (len(names) - 1) / 2) if bars else 0.0) for x, _, _ in points]
            means = [mean for _, mean, _ in points]
            if bars:
                handles[name] = place.bar(spots, means, width * 0.92, color=color)
            else:
                marker = LINE_MARKERS[index % len(LINE_MARKERS)]
                (handles[name],) = place.plot(
                    spots, means, color=color, ls=line_style(index), marker=marker, lw=1.6, ms=5
                )
            for spot, (_, _, held) in zip(spots, points, strict=True):
                place.plot([spot, spot], [min(held), max(held)], color=INK if bars else color, lw=1)
        place.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
        place.set_title(title, fontsize=8.5)
        place.set_xlabel(axis)
        place.grid(True, axis="y")
    for place in places[len(panels) :]:
        place.set_visible(False)
    places[0].set_ylabel(value)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(3, len(handles)))
    return figure
