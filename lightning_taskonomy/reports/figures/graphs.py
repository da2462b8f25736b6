"""Taxonomies as graphs (Fig. 8 of Taskonomy, CVPR 2018) and the similarity tree of tasks (Fig. 13)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, PathPatch
from matplotlib.path import Path as Curve
from numpy.typing import ArrayLike

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    FAMILIES,
    FAMILY_COLORS,
    FAMILY_MARKERS,
    GREY,
    INK,
    MUTED,
    new_figure,
    order_width,
    readable,
    styled,
    text_on,
)
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["dendrogram", "taxonomy_graph", "taxonomy_grid", "untangled"]

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
        sorted(taxonomy.sources, key=lambda t: (_rank(families.get(t, "")), t)),
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
        _node(axis, 0, y, families.get(task, ""), ring=True, dim=dim)
        axis.text(-0.4, y, readable(task), ha="right", va="center", alpha=0.65 if dim else 1.0)
        alone = taxonomy.policy.get(task)
        if alone is not None and alone.kind == "task_specific" and alone.win_rate_vs_scratch is not None:
            gain = f"gain {alone.win_rate_vs_scratch:.2f}"
            axis.text(start + 0.05, y, gain, ha="left", va="center", fontsize=7.5, alpha=0.75)
    for row in transfers:
        y = y_right[row.target]
        _node(axis, 4, y, families.get(row.target, ""), ring=False)
        axis.text(4.3, y, readable(row.target), ha="left", va="center")
        axis.text(order_at, y, str(row.order), ha="center", va="center", fontsize=8)
        _cell(axis, order_at + 0.8, y, row.win_rate_vs_scratch)
        _cell(axis, order_at + 1.67, y, row.win_rate_vs_task_specific)
    if unused:
        top = left_rows + 0.4
        axis.text(0, top, f"not used ({len(unused)})", ha="right", va="center", color=MUTED, fontsize=8)
        for index, task in enumerate(listed):
            _node(axis, 0, top + 0.9 + index, families.get(task, ""), ring=False, dim=True)
            axis.text(-0.4, top + 0.9 + index, readable(task), ha="right", va="center", alpha=0.55)
    _settle(axis)
    orders = sorted({row.order for row in transfers})
    figure.legend(handles=_legend(families, dictionary or [*left, *right], orders), loc="outside lower center", ncols=4)
    return figure


@styled
def taxonomy_grid(
    taxonomies: Sequence[TaxonomySolution],
    *,
    tasks: Sequence[str],
    families: Mapping[str, str] | None = None,
    source_only: Sequence[str] = (),
) -> Figure:
    """All taxonomies as small multiples: budgets across, maximum orders down; every task keeps its place.

    Tasks stand on a circle, by family, numbered as in the list on the right; trained tasks are ringed; arrows run
    from source to target. Source-only tasks are dimmed unless chosen.

    Args:
        taxonomies: Any number of budgets and maximum orders; a missing pair leaves an empty place.
        tasks: All tasks of the dictionary.
        families: Family of every task.
        source_only: Tasks that are never targets.
    """
    if not taxonomies:
        raise InputError("no taxonomy to draw; give at least one")
    families = families or {}
    ordered = sorted(tasks, key=lambda t: (_rank(families.get(t, "")), t))
    budgets = sorted({t.budget for t in taxonomies})
    orders = sorted({t.max_order for t in taxonomies})
    crowded = len(tasks) > 18
    lines = -(-len(budgets) // (3 if crowded else 6))
    columns = -(-len(budgets) // lines)
    side = 2.7 if crowded else (2.2 if len(tasks) > 12 else 1.9) * (0.9 if columns > 5 else 1.0)
    figure = new_figure(side * columns + 2.2, max(side * 1.08 * lines * len(orders) + 0.1, 0.175 * len(tasks) + 0.7))
    axis = figure.subplots()
    axis.axis("off")
    axis.set_aspect("equal", anchor="NW")
    axis.set_xlim(-1.25, 2.6 * columns - 1.25)
    axis.set_ylim(1.35 - 2.8 * lines * len(orders), 1.6)
    for taxonomy in taxonomies:
        place = budgets.index(taxonomy.budget)
        row = orders.index(taxonomy.max_order) * lines + place // columns
        centre = (2.6 * (place % columns), -2.8 * row)
        axis.text(
            centre[0],
            centre[1] + 1.28,
            f"budget {taxonomy.budget:g}, order ≤ {taxonomy.max_order}",
            ha="center",
            fontsize=8.5,
            weight="bold",
        )
        _wheel(axis, centre, taxonomy, ordered, families, source_only)
    _settle(axis)
    handles = [
        Line2D(
            [],
            [],
            ls="",
            ms=7,
            color=FAMILY_COLORS.get(families.get(task, ""), GREY),
            label=f"{number} {readable(task)}",
            marker=FAMILY_MARKERS.get(families.get(task, ""), "o"),
        )
        for number, task in enumerate(ordered, 1)
    ]
    handles.append(_trained())
    handles += _orders({row.order for taxonomy in taxonomies for row in taxonomy.transfers})
    figure.legend(handles=handles, loc="outside right upper", fontsize=7.5, labelspacing=0.3, handlelength=1.4)
    return figure


def _wheel(
    axis: Axes,
    centre: tuple[float, float],
    taxonomy: TaxonomySolution,
    ordered: Sequence[str],
    families: Mapping[str, str],
    source_only: Sequence[str],
) -> None:
    """One small taxonomy: the tasks on a unit circle about a centre."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(ordered)) / max(len(ordered), 1)
    spot = {t: (centre[0] + np.cos(a), centre[1] + np.sin(a)) for t, a in zip(ordered, angles, strict=True)}
    for transfer in taxonomy.transfers:
        for source in transfer.sources:
            if source in spot and transfer.target in spot and source != transfer.target:
                axis.add_patch(
                    FancyArrowPatch(
                        spot[source],
                        spot[transfer.target],
                        arrowstyle="-|>",
                        mutation_scale=6,
                        zorder=1,
                        connectionstyle="arc3,rad=0.12",
                        shrinkA=7,
                        shrinkB=7,
                        lw=order_width(transfer.order) * 0.5,
                        color=FAMILY_COLORS.get(families.get(source, ""), MUTED),
                    )
                )
    for number, task in enumerate(ordered, 1):
        trained = task in taxonomy.sources
        dim = task in source_only and not trained
        _node(axis, *spot[task], families.get(task, ""), ring=trained, dim=dim, size=9)
        axis.text(
            *spot[task],
            str(number),
            ha="center",
            va="center",
            fontsize=6,
            zorder=4,
            color="#000000",
            alpha=0.55 if dim else 1.0,
        )


@styled
def dendrogram(
    linkage: ArrayLike,
    names: Sequence[str],
    *,
    families: Mapping[str, str] | None = None,
    support: ArrayLike | None = None,
) -> Figure:
    """The task similarity tree: agglomerative clustering of tasks by how they transfer to others (Fig. 13).

    Args:
        linkage: As of ``scipy.cluster.hierarchy.linkage``, shape (tasks - 1, 4).
        names: The tasks, in the order of the rows that were clustered.
        families: Family of every task; colours the leaves and every branch that holds one family alone.
        support: Share in [0, 1] of bootstrap trees that have each merge's cluster, shape (tasks - 1,); written at its
            branch in per cent.
    """
    from scipy.cluster.hierarchy import dendrogram as lay_out

    families = families or {}
    links = np.asarray(linkage, float)
    if links.shape != (len(names) - 1, 4):
        raise InputError(f"a linkage of shape {links.shape} for {len(names)} tasks; give ({len(names) - 1}, 4)")
    holds = [{families.get(name, "")} for name in names]
    for one, other in links[:, :2].astype(int):
        holds.append(holds[one] | holds[other])

    def color(cluster: int) -> str:
        family = next(iter(holds[cluster])) if len(holds[cluster]) == 1 else ""
        return FAMILY_COLORS.get(family, MUTED)

    tree = lay_out(links, no_plot=True, link_color_func=color)
    figure = new_figure(8.2, 0.27 * len(names) + 1.4)
    axis = figure.subplots()
    for xs, ys, tint in zip(tree["icoord"], tree["dcoord"], tree["color_list"], strict=True):
        axis.plot(ys, xs, color=tint, lw=1.8, solid_joinstyle="round")
    reach = float(links[:, 2].max()) or 1.0
    for place, leaf in enumerate(tree["leaves"]):
        family = families.get(names[leaf], "")
        _node(axis, 0, 10 * place + 5, family, ring=False)
        axis.text(-0.02 * reach, 10 * place + 5, readable(names[leaf]), ha="left", va="center")
    if support is not None:
        shares = np.asarray(support, float)
        if shares.shape != (len(links),):
            raise InputError(f"support of shape {shares.shape} for {len(links)} merges; give one share each")
        places = [0.0] * len(names)
        for place, leaf in enumerate(tree["leaves"]):
            places[leaf] = 10.0 * place + 5
        for (one, other, height, _), share in zip(links, shares, strict=True):
            places.append((places[int(one)] + places[int(other)]) / 2)
            if np.isfinite(share) and len(places) < 2 * len(names) - 1:  # the root is in every tree
                at = (height, places[-1])
                axis.annotate(f"{100 * share:.0f}", at, (2.5, 0), textcoords="offset points", va="center", fontsize=7)
    axis.set_xlim(reach * 1.03, -0.35 * reach)
    axis.set_ylim(0, 10 * len(names))
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.spines["bottom"].set_bounds(0, reach)
    axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= reach])
    axis.set_xlabel("distance between tasks (joined further left: less alike)", loc="left")
    figure.legend(handles=_legend(families, names, ()), loc="outside lower center", ncols=4)
    return figure


def _settle(axis: Axes) -> None:
    """Everything lies inside the axes: spares the layout the measuring of every artist."""
    for artist in axis.get_children():
        artist.set_in_layout(False)


def _rank(family: str) -> int:
    """Place of a family in lists."""
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


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


def _node(axis: Axes, x: float, y: float, family: str, *, ring: bool, dim: bool = False, size: float = 10.0) -> None:
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


def _trained() -> Line2D:
    """The ring, for a legend."""
    return Line2D([], [], ls="", marker="o", mfc="none", mec=INK, mew=1.3, ms=10, label="trained fully")


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


def _legend(families: Mapping[str, str], tasks: Sequence[str], orders: Collection[int]) -> list[Line2D]:
    """Families and orders that are in the picture."""
    present = {families.get(task, "") for task in tasks}
    handles = [
        Line2D([], [], ls="", marker=FAMILY_MARKERS[f], color=FAMILY_COLORS[f], ms=8, label=f)
        for f in FAMILIES
        if f in present
    ]
    if orders:
        handles.append(_trained())
    return handles + _orders(orders)


def _orders(orders: Collection[int]) -> list[Line2D]:
    """The widths of those orders, for a legend."""
    more = max(orders, default=0) > 4
    names = {order: f"order {order}" + (" or more" if order == 4 and more else "") for order in range(1, 5)}
    shown = sorted({min(order, 4) for order in orders})
    return [Line2D([], [], color=INK, lw=order_width(order), label=names[order]) for order in shown]
