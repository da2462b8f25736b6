"""Taxonomies of many budgets and orders as small graphs (Fig. 8 of Taskonomy, CVPR 2018)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.families import family_rank
from lightning_taskonomy.reports.figures.marks import draw_node, keep_out_of_layout, order_marks, trained_mark
from lightning_taskonomy.reports.figures.style import (
    FAMILY_COLORS,
    FAMILY_MARKERS,
    GREY,
    MUTED,
    new_figure,
    order_width,
    readable,
    styled,
)
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["taxonomy_grid"]


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
    ordered = sorted(tasks, key=lambda t: (family_rank(families.get(t, "")), t))
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
    keep_out_of_layout(axis)
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
    handles.append(trained_mark())
    handles += order_marks({row.order for taxonomy in taxonomies for row in taxonomy.transfers})
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
        draw_node(axis, *spot[task], families.get(task, ""), ring=trained, dim=dim, size=9)
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
