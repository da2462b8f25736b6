"""Marks that graphs of tasks share: a task, its ring, families and orders in a legend."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lightning_taskonomy.reports.figures.style import (
    FAMILIES,
    FAMILY_COLORS,
    FAMILY_MARKERS,
    GREY,
    INK,
    order_width,
)

__all__ = ["draw_node", "family_legend", "keep_out_of_layout", "order_marks", "trained_mark"]


def keep_out_of_layout(axis: Axes) -> None:
    """Everything lies inside the axes: spares the layout the measuring of every artist."""
    for artist in axis.get_children():
        artist.set_in_layout(False)


def draw_node(
    axis: Axes, x: float, y: float, family: str, *, ring: bool, dim: bool = False, size: float = 10.0
) -> None:
    """A task; a ring says that it is trained fully."""
    marker = FAMILY_MARKERS.get(family, "o")
    axis.plot(
        x,
        y,
        marker,
        ms=size * (1.15 if marker == "^" else 1.0),
        color=FAMILY_COLORS.get(family, GREY),
        mec="none",
        alpha=0.45 if dim else 1.0,
        zorder=3,
        clip_on=False,
    )
    if ring:
        axis.plot(x, y, "o", ms=size * 1.6, mfc="none", mec=INK, mew=1.3, zorder=2, clip_on=False)


def trained_mark() -> Line2D:
    """The ring, for a legend."""
    return Line2D([], [], ls="", marker="o", mfc="none", mec=INK, mew=1.3, ms=10, label="trained fully")


def family_legend(families: Mapping[str, str], tasks: Sequence[str], orders: Collection[int]) -> list[Line2D]:
    """Families and orders that are in the picture."""
    present = {families.get(task, "") for task in tasks}
    handles = [
        Line2D([], [], ls="", marker=FAMILY_MARKERS[f], color=FAMILY_COLORS[f], ms=8, label=f)
        for f in FAMILIES
        if f in present
    ]
    if orders:
        handles.append(trained_mark())
    return handles + order_marks(orders)


def order_marks(orders: Collection[int]) -> list[Line2D]:
    """The widths of those orders, for a legend."""
    more = max(orders, default=0) > 4
    names = {order: f"order {order}" + (" or more" if order == 4 and more else "") for order in range(1, 5)}
    shown = sorted({min(order, 4) for order in orders})
    return [Line2D([], [], color=INK, lw=order_width(order), label=names[order]) for order in shown]
