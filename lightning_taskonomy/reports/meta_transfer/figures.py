"""Figures of a Task Meta-Transfer study (Figures 3 to 5 of the paper, and its tables as a picture)."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill

from matplotlib.axes import Axes
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

__all__ = ["error_reductions", "lead_overview", "variation_panels"]

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
_HATCHES = ("", "///", "...", "xxx")
_TITLE = 34
"""Letters of a title that fit above a panel."""


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
        is_subject = name == subject
        shift = (index - (len(names) - 1) / 2) * 0.6 / len(names)
        for row, group in enumerate(groups.values()):
            values = [value for value in group.get(name, ()) if math.isfinite(value)]
            if not values:
                continue
            color = SERIES_COLORS[index % len(SERIES_COLORS)]
            axis.plot([min(values), max(values)], [row + shift] * 2, color=color, lw=1.2, zorder=2 + is_subject)
            axis.plot(
                fmean(values), row + shift, _MARKERS[index % len(_MARKERS)], color=color, ms=9 if is_subject else 6,
                mec=INK if is_subject else color, zorder=3 + is_subject, ls="none",
            )  # fmt: skip
        axis.plot(
            [], [], _MARKERS[index % len(_MARKERS)], color=SERIES_COLORS[index % len(SERIES_COLORS)],
            ms=8 if is_subject else 6, mec=INK if is_subject else None, ls="none", label=name,
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
    panels: Mapping[tuple[str, str], Mapping[str, Sequence[tuple[float, Sequence[float]]]]],
    axis: str,
    *,
    bars: bool = False,
    shares: bool = False,
) -> Figure:
    """A panel per case, a curve or a set of bars per method, over the values of one setting.

    Args:
        panels: By title and unit, per method (value of the setting, measurements per seed) in order.
        axis: What the setting is.
        bars: Bars from zero in place of curves.
        shares: Values of the setting below 1 are shares.
    """
    if not panels:
        raise InputError("nothing was varied; give at least one panel")
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    wide = max(3.1 * columns, 6.2)
    abreast = max(1, min(6, int(wide / (0.6 + 0.075 * max(map(len, names))))))  # inches of a sample line and a letter
    figure = new_figure(wide, (3.2 if len(panels) == 1 else 2.6) * rows + 0.3 + 0.2 * math.ceil(len(names) / abreast))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    handles = {}
    for place, ((title, unit), panel) in zip(places, panels.items(), strict=False):
        ticks = sorted({at for points in panel.values() for at, _ in points})
        for index, name in enumerate(names):
            points = [(ticks.index(at), fmean(values), values) for at, values in panel.get(name, ()) if values]
            if not points:
                continue
            color = SERIES_COLORS[index % len(SERIES_COLORS)]
            width = 0.8 / len(names)
            spots = [x + (width * (index - (len(names) - 1) / 2) if bars else 0.0) for x, _, _ in points]
            means = [mean for _, mean, _ in points]
            if bars:
                hatch = _HATCHES[index % len(_HATCHES)]
                handles[name] = place.bar(spots, means, width * 0.92, color=color, hatch=hatch)
            else:
                marker = LINE_MARKERS[index % len(LINE_MARKERS)]
                (handles[name],) = place.plot(
                    spots, means, color=color, ls=line_style(index), marker=marker, lw=1.6, ms=5
                )
            for spot, (_, _, values) in zip(spots, points, strict=True):
                place.plot([spot, spot], [min(values), max(values)], color=INK if bars else color, lw=1)
        labels = [f"{100 * tick:g} %" if shares and tick < 1 else f"{tick:g}" for tick in ticks]
        place.set_xticks(range(len(ticks)), labels)
        place.set_title(fill(title, _TITLE), fontsize=8.5)
        place.set_xlabel(axis)
        place.set_ylabel(unit)
        place.grid(True, axis="y")
    for place in places[len(panels) :]:
        place.set_visible(False)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=abreast)
    return figure


@styled
def lead_overview(groups: Mapping[str, Mapping[str, Mapping[str, tuple[float, float | None]]]]) -> Figure:
    """A row per label under the name of its factor; in it a dot and its interval per control, and a line at zero.

    Intervals that are much longer than the leads are cut and end in an arrow, so that two seeds do not hide the rest.

    Args:
        groups: By factor, label and control the lead in per cent and half of its interval, None of one seed.
    """
    points = [point for rows in groups.values() for row in rows.values() for point in row.values()]
    if not points:
        raise InputError("no lead to draw; give at least one")
    names = list(dict.fromkeys(name for rows in groups.values() for row in rows.values() for name in row))
    ends = max(abs(mean) + (half or 0.0) for mean, half in points)
    limit = 1.08 * (min(ends, 3 * max(abs(mean) for mean, _ in points)) or ends or 1.0)
    heights = [name for rows in groups.values() for name in (None, *rows)]
    figure = new_figure(7.6, 0.3 * len(heights) + 1.2)
    axis = figure.subplots()
    ticks, place = {}, 0.0
    for factor, rows in groups.items():
        axis.annotate(
            factor, (0, place), (-4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", va="center", fontweight="bold", fontsize=8.5,
        )  # fmt: skip
        axis.axhline(place, color=INK, lw=0.4, alpha=0.25)
        for label, row in rows.items():
            place += 1
            ticks[place] = label
            for index, name in enumerate(names):
                if name in row:
                    _interval(axis, *row[name], place + 0.27 * (index - (len(names) - 1) / 2), limit, index)
        place += 1
    for index, name in enumerate(names):
        axis.plot([], [], _MARKERS[index], color=SERIES_COLORS[index], ms=5.5, lw=1.4, ls="-", label=f"over {name}")
    axis.axvline(0, color=INK, lw=1.0, alpha=0.8)
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set_ylim(place - 0.4, -0.6)
    least, most = min(mean - (half or 0.0) for mean, half in points), max(mean + (half or 0.0) for mean, half in points)
    axis.set_xlim(max(-limit, min(1.08 * least, -limit / 4)), min(limit, max(1.08 * most, limit / 4)))
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("← the other is better      error of the other that TMT removes, %      TMT is better →")
    axis.grid(True, axis="x")
    figure.legend(loc="outside lower center", ncols=len(names))
    return figure


def _interval(axis: Axes, mean: float, half: float | None, height: float, limit: float, index: int) -> None:
    """A dot at the mean, filled where its interval excludes zero, and the interval as far as the figure goes."""
    color, marker = SERIES_COLORS[index % len(SERIES_COLORS)], _MARKERS[index % len(_MARKERS)]
    if half is not None:
        low, high = max(mean - half, -limit), min(mean + half, limit)
        axis.plot([low, high], [height] * 2, color=color, lw=1.4, solid_capstyle="butt")
        for end, arrow, is_cut in ((low, "<", mean - half < -limit), (high, ">", mean + half > limit)):
            if is_cut:
                axis.plot(end, height, arrow, color=color, ms=4, clip_on=False)
    filled = half is not None and abs(mean) > half
    axis.plot(mean, height, marker, ms=5.5, color=color, mfc=color if filled else "white", mew=1.2, zorder=3)
