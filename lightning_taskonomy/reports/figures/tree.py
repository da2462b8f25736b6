"""The similarity tree of tasks (Fig. 13 of Taskonomy, CVPR 2018)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.marks import draw_node, family_legend
from lightning_taskonomy.reports.figures.style import FAMILY_COLORS, MUTED, new_figure, readable, styled

__all__ = ["dendrogram"]


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
        draw_node(axis, 0, 10 * place + 5, family, ring=False)
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
    figure.legend(handles=family_legend(families, names, ()), loc="outside lower center", ncols=4)
    return figure
