"""Figures of a Task Meta-Transfer study (Figures 3 to 5 of the paper, and its tables as a picture)."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill

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
