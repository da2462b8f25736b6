"""Figures of a study of transfer chains: gains and distances as matrices, scatters, collections in the plane."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.matrices import heat, numbers
from lightning_taskonomy.reports.figures.style import (
    INK,
    SERIES_COLORS,
    new_figure,
    readable,
    styled,
    text_on,
)

__all__ = ["Line", "Points", "distance_matrix", "gain_matrix", "gain_scatters", "plane_figure", "type_planes"]

REACH = 20.0
"""The gain in percent from which on colours do not change any more."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")


@dataclass(frozen=True)
class Line:
    """A row or column of a matrix.

    Args:
        name: What stands beside it.
        block: The task type and the domain, by which it is set apart from others.
    """

    name: str
    block: tuple[str, str]


@dataclass(frozen=True)
class Points:
    """Points of one kind in a scatter.

    Args:
        name: Of the kind, for the legend.
        x: (N,).
        y: (N,).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@styled
def gain_matrix(
    gains: ArrayLike,
    *,
    targets: Sequence[Line],
    sources: Sequence[Line],
    blank: Collection[tuple[int, int]] = (),
    marked: Collection[tuple[int, int]] = (),
    title: str = "",
) -> Figure:
    """Gains in percent, red below and blue above 0, the best source of each target framed (Tables 4 to 6).

    Args:
        gains: (targets, sources), NaN where not measured, which is hatched.
        targets: The rows.
        sources: The columns.
        blank: Cells (row, column) that are not measured by design; they stay empty.
        marked: Cells that get a triangle in their corner.
        title: Above the figure.
    """
    values = _checked(gains, targets, sources)
    figure, axis, image = _matrix(values, targets, sources, "RdBu", (-REACH, REACH), blank)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold")
    colors = image.to_rgba(values)
    for row, column in marked:
        corner = [(column + 0.47, row - 0.46), (column + 0.47, row - 0.1), (column + 0.2, row - 0.46)]
        axis.add_patch(Polygon(corner, color=text_on(*colors[row, column, :3]), lw=0))
    for row, line in enumerate(values):
        if np.isfinite(line).any():
            column = int(np.nanargmax(line))
            edge = text_on(*colors[row, column, :3])
            axis.add_patch(Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, ec=edge, lw=1.6))
    numbers(axis, image, values, 8, _whole if len(sources) > 12 else _tenths)
    ticks = [-REACH, -10, -2, 2, 10, REACH]
    bar = figure.colorbar(image, ax=axis, shrink=min(1.0, 8 / len(targets)), pad=0.01, aspect=22, ticks=ticks)
    bar.ax.set_yticklabels([f"≤ −{REACH:g}", "−10", "−2", "+2", "+10", f"≥ +{REACH:g}"])
    bar.set_label("gain, %")
    bar.outline.set_visible(False)
    return figure


@styled
def distance_matrix(distances: ArrayLike, *, targets: Sequence[Line], sources: Sequence[Line]) -> Figure:
    """Distances of targets from sources, dark where they are near (Table 9).

    Args:
        distances: (targets, sources), NaN where not measured.
        targets: The rows.
        sources: The columns.
    """
    values = _checked(distances, targets, sources)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    figure, axis, image = _matrix(values, targets, sources, "viridis", (low, max(high, low + 1e-9)), ())
    digits = int(np.clip(2 - np.floor(np.log10(high)), 0, 6)) if high > 0 else 0
    numbers(axis, image, values, 7.0, lambda value: f"{value:.{digits}f}")
    bar = figure.colorbar(image, ax=axis, shrink=min(1.0, 8 / len(targets)), pad=0.01, aspect=22)
    bar.set_label("distance")
    bar.outline.set_visible(False)
    return figure


@styled
def gain_scatters(
    panels: Mapping[str, Sequence[Points]],
    *,
    kinds: Sequence[str],
    x: str,
    y: str,
    notes: Mapping[str, str] | None = None,
    both: bool = False,
) -> Figure:
    """A panel per setting, a colour and a marker per kind of points; dotted lines where a gain counts as one.

    Args:
        panels: Points by title.
        kinds: All kinds of points; each has the same colour in any figure.
        x: What the horizontal axis is.
        y: What the vertical axis is, gains in percent.
        notes: A line in the corner of a panel, by its title.
        both: Whether both axes are gains.
    """
    if not panels:
        raise InputError("no point to draw; give at least one panel")
    figure = new_figure(max(4.2 * len(panels), 5.6), 4.3)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        for kind in panel:
            index = kinds.index(kind.name)
            (handles[kind.name],) = axis.plot(
                kind.x, kind.y, _MARKERS[index % len(_MARKERS)], color=SERIES_COLORS[index % 7], ms=5.5, alpha=0.8,
                mec="white", mew=0.4,
            )  # fmt: skip
        for at in (-2, 2):
            axis.axhline(at, color=INK, lw=0.8, ls=":", alpha=0.7)
            if both:
                axis.axvline(at, color=INK, lw=0.8, ls=":", alpha=0.7)
        axis.set_title(title)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(True)
        if note := (notes or {}).get(title):
            axis.annotate(note, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", fontsize=8)
            axis.set_title(title, pad=16)
    order = [name for name in kinds if name in handles]
    figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=min(2, len(order)))
    return figure


@styled
def plane_figure(places: Mapping[str, NDArray[np.float64]], domains: Mapping[str, str]) -> Figure:
    """Images in the plane (Fig. 3a): a colour per domain, a marker per collection.

    Args:
        places: (N, 2) by collection.
        domains: The domain of each.
    """
    figure = new_figure(8.4, 5.2)
    axis = figure.subplots()
    order = list(dict.fromkeys(domains[name] for name in places))
    for place, name in enumerate(sorted(places, key=lambda name: order.index(domains[name]))):
        domain = domains[name]
        axis.plot(
            *places[name].T, _MARKERS[place % len(_MARKERS)], ms=4.5, alpha=0.75, mec="none", ls="none",
            color=SERIES_COLORS[order.index(domain) % len(SERIES_COLORS)],
            label=_plain(name if name == domain else f"{name} ({domain})"),
        )  # fmt: skip
    _bare(axis)
    figure.legend(loc="outside right upper", markerscale=1.5)
    return figure


@styled
def type_planes(panels: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figure:
    """The same images by networks of several task types (Fig. 3b and c): a panel per data set, a colour per type.

    Args:
        panels: (N, 2) by data set and task type.
    """
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.0 * columns + 1.6, 2.8 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    order = list(dict.fromkeys(kind for places in panels.values() for kind in places))
    handles: dict[str, Any] = {}
    for axis in axes:
        _bare(axis)
    for axis, (name, places) in zip(axes, panels.items(), strict=False):
        for kind, points in places.items():
            index = order.index(kind)
            color, marker = SERIES_COLORS[index % len(SERIES_COLORS)], _MARKERS[index % len(_MARKERS)]
            (handles[kind],) = axis.plot(*points.T, marker, ms=4, alpha=0.7, mec="none", ls="none", color=color)
        axis.set_title(_plain(readable(name)))
    figure.legend(list(handles.values()), [_plain(readable(kind)) for kind in handles], loc="outside right upper")
    return figure


def _bare(axis: Axes) -> None:
    """Of places in the plane only their nearness has a meaning."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal", "datalim")
    for spine in axis.spines.values():
        spine.set_visible(False)


def _checked(values: ArrayLike, targets: Sequence[Line], sources: Sequence[Line]) -> NDArray[np.float64]:
    array = np.asarray(values, float)
    if not array.size or array.shape != (len(targets), len(sources)):
        raise InputError(f"values of shape {array.shape} for {len(targets)} targets and {len(sources)} sources")
    return array


def _matrix(
    values: NDArray[np.float64],
    targets: Sequence[Line],
    sources: Sequence[Line],
    colors: str,
    limits: tuple[float, float],
    blank: Collection[tuple[int, int]],
) -> tuple[Figure, Axes, AxesImage]:
    """A heat map whose rows and columns are set apart by task type (thick) and domain (thin), which is named."""
    rows, columns = len(targets), len(sources)
    cell = 0.46 if columns <= 12 else 0.36 if columns <= 20 else 0.33
    letters = max(len(line.name) for line in (*targets, *sources))
    around = 0.075 * letters + 0.075 * max(len(line.block[1]) for line in (*targets, *sources))
    figure = new_figure(max(cell * columns + around + 1.4, 5.2), max(0.27 * rows + around + 0.8, 2.6))
    axis = figure.subplots()
    image = heat(axis, values, colors, *limits, blank)
    axis.set_xticks(range(columns), [_plain(readable(line.name)) for line in sources], rotation=90)
    axis.set_yticks(range(rows), [_plain(readable(line.name)) for line in targets])
    axis.tick_params(which="both", pad=4)
    axis.set_xlabel("source")
    axis.set_ylabel("target")
    for lines, is_row in ((targets, True), (sources, False)):
        for first, last, domain, new_type in _blocks(lines):
            if first:
                draw = axis.axhline if is_row else axis.axvline
                draw(first - 0.5, color=INK, lw=2.6 if new_type else 0.6)
            middle = (first + last) / 2
            if is_row:
                place = {"x": columns - 0.4, "y": middle, "va": "center", "ha": "left"}
            else:
                place = {"x": middle, "y": -0.6, "va": "bottom", "ha": "center", "rotation": 90}
            axis.text(**place, s=_plain(readable(domain)), fontsize=7.5, style="italic", color=INK)  # type: ignore[arg-type]
    return figure, axis, image


def _blocks(lines: Sequence[Line]) -> list[tuple[int, int, str, bool]]:
    """First and last place of each run of lines of one type and domain, the domain, and whether the type is new."""
    starts = [place for place, line in enumerate(lines) if not place or line.block != lines[place - 1].block]
    return [
        (first, after - 1, lines[first].block[1], bool(first) and lines[first].block[0] != lines[first - 1].block[0])
        for first, after in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


def _tenths(value: float) -> str:
    return _signed(value, 1) if abs(value) < 99.95 else _signed(value, 0)


def _whole(value: float) -> str:
    return _signed(value, 0)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")


def _plain(name: str) -> str:
    """A name that is not read as mathematics."""
    return name.replace("$", r"\$")
