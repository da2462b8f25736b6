"""Budgets against results (Figs. 9 and 11 of Taskonomy, CVPR 2018), other data sets (Fig. 12), labels saved, seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.figures.style import (
    FAMILY_COLORS,
    FAMILY_MARKERS,
    GREY,
    INK,
    LINE_MARKERS,
    MUTED,
    SERIES_COLORS,
    line_style,
    new_figure,
    readable,
    styled,
)
from lightning_taskonomy.solvers.taxonomy import Band, Chance, TaxonomySolution

__all__ = ["Ranking", "budget_curves", "labels_saved", "rankings_elsewhere", "seed_spread"]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How the sources of a target rank here, by affinity, and fine-tuned on another data set (section 5.1).

    Args:
        name: The data set's name.
        target: The target whose affinities are compared.
        metric: What is measured there.
        sources: The affinity of each source, and its metric there.
        higher_is_better: Whether a higher metric is better.
        spearman: Spearman's correlation of the two; None where it is undefined.
    """

    name: str
    target: str
    metric: str
    sources: Mapping[str, tuple[float, float]]
    higher_is_better: bool = True
    spearman: float | None = None


@styled
def budget_curves(
    taxonomies: Sequence[TaxonomySolution], chance: Mapping[tuple[int, float], Chance] | None = None
) -> Figure:
    """Mean gain and mean quality against the budget, one curve per maximum order, with the random taxonomies.

    The grey band spans the 5th to 95th percentile of random feasible taxonomies of the same budget (Fig. 11), of the
    highest order that has them.

    Args:
        taxonomies: Any number of budgets and maximum orders.
        chance: What random taxonomies reach, by maximum order and budget.
    """
    if not taxonomies:
        raise InputError("no taxonomy to draw; give at least one")
    figure = new_figure(9.2, 3.5)
    axes = figure.subplots(1, 2, sharey=True)
    orders = sorted({t.max_order for t in taxonomies})
    for axis, name, title in zip(axes, ("gain", "quality"), ("Mean gain", "Mean quality"), strict=True):
        _band(axis, {key: band for key, one in (chance or {}).items() if (band := getattr(one, name)) is not None})
        for index, order in enumerate(orders):
            points = [(t.budget, getattr(t, f"mean_{name}")) for t in taxonomies if t.max_order == order]
            points = sorted(p for p in points if p[1] is not None)
            axis.plot(
                *zip(*points, strict=True) if points else ([], []),
                color=SERIES_COLORS[index % 4],
                ls=line_style(index),
                marker=LINE_MARKERS[index % 4],
                ms=5,
                markevery=(index, len(orders)) if len(points) > 12 else None,  # curves that coincide show in turns
                lw=1.8,
                label=f"taxonomy, order ≤ {order}",
            )
        axis.axhline(0.5, color=INK, lw=0.8, ls=":", alpha=0.7)
        axis.set_title(f"{title}: wins against {'scratch' if name == 'gain' else 'full supervision'}")
        axis.set_xlabel("supervision budget")
        axis.set_ylim(0, 1)
        axis.grid(True, axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    axes[0].set_ylabel("win rate")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4))
    return figure


@styled
def labels_saved(points: Sequence[tuple[float, float, float, str]], *, reference: float | None = None) -> Figure:
    """Mean quality against the share of labels used, relative to training every target fully.

    Args:
        points: (share of labels of 0 to 1 or above, mean quality, budget, name of the curve) per taxonomy.
        reference: Mean quality of training every target fully, a line; 0.5 by definition.
    """
    if not points:
        raise InputError("no taxonomy with a mean quality to draw; give at least one")
    figure = new_figure(6.6, 3.7)
    axis = figure.subplots()
    for index, name in enumerate(dict.fromkeys(p[3] for p in points)):
        line = sorted((p[0], p[1], p[2]) for p in points if p[3] == name)
        axis.plot(
            [p[0] for p in line],
            [p[1] for p in line],
            marker=LINE_MARKERS[index % 4],
            ms=5,
            lw=1.8,
            label=name,
            color=SERIES_COLORS[index % 4],
            ls=line_style(index),
        )
        if index == 0:
            apart = [p for i, p in enumerate(line) if i == 0 or p[0] - line[i - 1][0] > 0.02]
            for share, quality, budget in apart:
                axis.annotate(
                    f"{budget:g}", (share, quality), (0, -12), textcoords="offset points", ha="center", fontsize=7.5
                )
    if reference is not None:
        axis.axhline(reference, color=INK, lw=0.8, ls=":", alpha=0.7)
        axis.annotate(
            "every target trained fully",
            (0.0, reference),
            (4, 3),
            textcoords="offset points",
            fontsize=8,
            xycoords=("axes fraction", "data"),
        )
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlim(0, max(1.0, *(p[0] for p in points)) * 1.04)
    axis.set_ylim(0, max(0.6, *(p[1] for p in points)) * 1.08)
    axis.set_xlabel("labels used (100 %: every target trained fully); budget written at each point")
    axis.set_ylabel("mean quality")
    axis.grid(True)
    axis.legend(loc="lower right")
    return figure


@styled
def seed_spread(
    groups: Mapping[str, Mapping[str, Sequence[float]]], *, value: str = "win rate", reference: float | None = 0.5
) -> Figure:
    """A bar per series with its mean over seeds, whiskers from least to greatest, and a dot per seed.

    Args:
        groups: Values per seed, by group (``depth z → normals``) and series (``transfer``, ``shuffled scores``).
        value: What is measured.
        reference: A line to compare with.
    """
    if not groups:
        raise InputError("no measurement over seeds to draw; give at least one")
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    thick = 0.8 / len(series)
    figure = new_figure(8.0, 0.34 * len(groups) * max(len(series), 1) + 1.3)
    axis = figure.subplots()
    for index, name in enumerate(series):
        color = (*SERIES_COLORS[:1], GREY, *SERIES_COLORS[1:])[index % 5]
        for row, group in enumerate(groups.values()):
            values = np.asarray(group.get(name, ()), float)
            values = values[np.isfinite(values)]
            if not values.size:
                continue
            place = row - 0.4 + thick * (index + 0.5)
            axis.barh(place, values.mean(), thick * 0.9, color=color, label=name if row == 0 else None)
            axis.errorbar(
                values.mean(),
                place,
                xerr=[[values.mean() - values.min()], [values.max() - values.mean()]],
                color=INK,
                lw=1.1,
                capsize=3,
            )
            axis.plot(values, np.full(values.size, place), ".", color=INK, ms=4)
    if reference is not None:
        axis.axvline(reference, color=INK, lw=0.8, ls=":", alpha=0.7)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set_ylim(len(groups) - 0.45, -0.55)
    axis.set_xlabel(value)
    axis.grid(True, axis="x")
    axis.tick_params(axis="y", length=0)
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


@styled
def rankings_elsewhere(rankings: Sequence[Ranking], *, families: Mapping[str, str] | None = None) -> Figure:
    """What networks reach on other data sets, a panel each, in the order of their affinities here (Fig. 12).

    Args:
        rankings: At least one, each with at least one source.
        families: Family of every task; gives bars their colour, and a mark above.
    """
    if not rankings or not all(ranking.sources for ranking in rankings):
        raise InputError("no ranking to draw; give at least one, with a source")
    most = max(len(ranking.sources) for ranking in rankings)
    figure = new_figure(len(rankings) * max(0.3 * most + 1.0, 4.2), 4.4)
    axes = figure.subplots(1, len(rankings), squeeze=False)[0]
    shown: dict[str, BarContainer] = {}
    for axis, ranking in zip(axes, rankings, strict=True):
        names = sorted(ranking.sources, key=lambda name: (-ranking.sources[name][0], name))
        for place, name in enumerate(names):
            family, value = (families or {}).get(name, ""), ranking.sources[name][1]
            shown[family] = axis.bar(place, value, 0.78, color=FAMILY_COLORS.get(family, GREY))
            axis.plot(place, value, FAMILY_MARKERS.get(family, "."), color=INK, ms=4)
        correlation = "undefined" if ranking.spearman is None else f"{ranking.spearman:.3f}"
        axis.set_title(f"Transferring to {ranking.name}\nSpearman's correlation {correlation}")
        axis.set_xticks(range(len(names)), [readable(name) for name in names], rotation=90)
        axis.set_xlabel(f"source, by affinity to {readable(ranking.target)}")
        axis.set_ylabel(readable(ranking.metric) + ("" if ranking.higher_is_better else ", lower is better"))
        axis.tick_params(axis="x", length=0)
        axis.grid(True, axis="y")
        axis.set_axisbelow(True)
    drawn = [family for family in (*FAMILY_COLORS, "") if family in shown]
    marks = [Line2D([], [], color=INK, ls="", marker=FAMILY_MARKERS.get(family, "."), ms=4) for family in drawn]
    handles: Any = [(shown[family], mark) for family, mark in zip(drawn, marks, strict=True)]
    figure.legend(handles, [family or "other" for family in drawn], loc="outside lower center", ncols=5)
    return figure


def _band(axis: Axes, bands: Mapping[tuple[int, float], Band]) -> None:
    """The random taxonomies of the highest order that has them, by order and budget."""
    if not bands:
        return
    order = max(order for order, _ in bands)
    line = sorted((budget, band.low, band.middle, band.high) for (at, budget), band in bands.items() if at == order)
    budgets, low, middle, high = zip(*line, strict=True)
    label = f"random taxonomies, order ≤ {order} (5–95 %)"
    axis.fill_between(budgets, low, high, color=MUTED, alpha=0.3, lw=0, label=label)
    axis.plot(budgets, middle, color=MUTED, lw=1.4, marker="|", label="their median")
