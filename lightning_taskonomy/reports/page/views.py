"""What the browser shows of an answer: cards, tables, curves. Plain functions of the answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from lightning_taskonomy.reports.figures.style import FAMILY_COLORS, INK, MUTED, readable
from lightning_taskonomy.reports.words import join
from lightning_taskonomy.solvers import TaxonomySolution
from lightning_taskonomy.solvers.grouping import GroupingSolution

__all__ = [
    "aria", "chart", "family_mark", "grouping_cards", "loss_table", "more_grouping", "more_taxonomy", "policy_table",
    "state", "taxonomy_cards",
]  # fmt: skip

MARKS = {"2D": "■", "3D": "●", "low-dimensional": "▲", "semantic": "◆"}
"""The figures' markers as characters."""


def aria(**names: str) -> dict[str, Any]:
    """Attributes for assistive technology: ``label``, ``live``, ..."""
    return {f"aria-{name}": text for name, text in names.items()}


def number(value: float | None, digits: int = 3) -> str:
    """A number as text; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A change as text, with its sign; a dash where there is none."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def state(proven: bool, gap: float, seconds: float, final: bool) -> str:
    """How good an answer is known to be, in words; final: the search has ended."""
    if proven:
        return f"Proven optimal, searched in {seconds:.2f} s."
    if final:
        return f"Not proven: at most {100 * gap:.1f} % from the best, after {seconds:.0f} s of search."
    return f"A greedy answer, at most {100 * gap:.1f} % from the best; the exact search is under way."


def family_mark(family: str) -> Component:
    """The family's marker in its colour; nothing to a screen reader, which reads the name."""
    style = {"color": FAMILY_COLORS.get(family, MUTED)}
    return html.Span(MARKS.get(family, "●"), className="mark", style=style, title=family, **aria(hidden="true"))


def card(name: str, value: str, note: str = "") -> Component:
    """A number in large type under its name."""
    return html.Div([html.Dt(name), html.Dd(value), html.Dd(note, className="note")], className="card")


def taxonomy_cards(solution: TaxonomySolution) -> Component:
    """What the taxonomy is worth."""
    spent = f"label cost {solution.label_cost:g} of {solution.budget:g}"
    return html.Dl(
        [
            card("Trained", str(len(solution.sources)), spent),
            card("Gain", number(solution.mean_gain), "mean win rate against training from scratch"),
            card("Quality", number(solution.mean_quality), "mean win rate against full supervision"),
            card("Objective", number(solution.objective, 4), "sum of importance × affinity"),
        ],
        className="cards",
    )


def more_taxonomy(now: TaxonomySolution, then: TaxonomySolution) -> list[Any]:
    """What a larger budget buys."""
    added = [readable(task) for task in then.sources if task not in now.sources]
    dropped = [readable(task) for task in now.sources if task not in then.sources]
    head = f"One more unit of budget (in all {then.budget:g}) "
    if not added and not dropped and then.objective <= now.objective:
        return [html.P([head, html.Strong("buys nothing.")])]
    what = f"trains {join(added)} too" if added else "frees labels"
    if dropped:
        what += f", instead of {join(dropped)}" if added else f" of {join(dropped)}"
    changes = (
        ("objective", signed(then.objective - now.objective, 4)),
        ("gain", signed(_less(then.mean_gain, now.mean_gain))),
        ("quality", signed(_less(then.mean_quality, now.mean_quality))),
    )
    return [html.P([head, html.Strong(f"{what}.")]), html.P(", ".join(f"{name} {value}" for name, value in changes))]


def policy_table(solution: TaxonomySolution, families: Mapping[str, str], order: Sequence[str]) -> Component:
    """How every target is solved, a row each."""
    rows = []
    for target in sorted(solution.policy, key=order.index):
        row = solution.policy[target]
        alone = row.kind == "task_specific"
        sources = "trained itself" if alone else " + ".join(map(readable, row.sources))
        rows.append(
            [
                [family_mark(families.get(target, "")), readable(target)],
                sources,
                "" if alone else str(row.order),
                number(row.affinity),
                number(row.win_rate_vs_scratch),
                number(row.win_rate_vs_task_specific),
            ]
        )
    return table(
        "How every target is solved",
        ("Target", "Solved from", "Order", "Affinity", "Gain", "Quality"),
        rows,
        numeric=(2, 3, 4, 5),
    )


def grouping_cards(solution: GroupingSolution, objective: str, test: Mapping[str, float] | None = None) -> Component:
    """What the grouping costs and loses.

    Args:
        solution: The grouping.
        objective: What was minimised: ``total`` or ``max``.
        test: The loss of each task on test images, where that was measured too.
    """
    what = "sum of importance × loss" if objective == "total" else "largest importance × loss"
    total = sum(solution.values.values())
    cards = [card("Networks", str(len(solution.networks)), f"cost {solution.cost:g} of {solution.budget:g}")]
    if not math.isclose(total, solution.objective):
        cards.append(card("Objective", number(solution.objective, 5), what))
    cards.append(card("Total loss", number(total, 5), "sum of the losses"))
    if test is not None:
        cards.append(card("Test loss", number(sum(test.values()), 5), "their sum on test images"))
    return html.Dl(cards, className="cards")


def more_grouping(now: GroupingSolution, then: GroupingSolution) -> list[Any]:
    """What a larger budget buys."""
    head = f"One more half network (a budget of {then.budget:g}) "
    if then.networks == now.networks:
        return [html.P([head, html.Strong("buys nothing.")])]
    added = [str(network) for network in then.networks if network not in now.networks]
    dropped = [str(network) for network in now.networks if network not in then.networks]
    what = f"keeps {join(added)}" + (f", instead of {join(dropped)}" if dropped else "")
    better = [readable(task) for task in now.values if then.values[task] < now.values[task]]
    worse = [readable(task) for task in now.values if then.values[task] > now.values[task]]
    change = f"loss {signed(then.objective - now.objective, 5)}; better: {join(better)}; worse: {join(worse)}"
    return [html.P([head, html.Strong(f"{what}.")]), html.P(change)]


def loss_table(
    solution: GroupingSolution,
    families: Mapping[str, str],
    lowest: Mapping[str, float],
    test: Mapping[str, float] | None = None,
) -> Component:
    """Which network serves each task, and what it loses.

    Args:
        solution: The grouping.
        families: Family of each task, as far as known.
        lowest: The lowest loss of each task in the table.
        test: The loss of each task on test images, where that was measured too.
    """
    rows = [
        [
            [family_mark(families.get(task, "")), readable(task)],
            str(solution.networks[place]),
            number(solution.values[task], 5),
            number(lowest[task], 5),
            *([] if test is None else [number(test[task], 5)]),
        ]
        for task, place in solution.assignment.items()
    ]
    header = ("Task", "Network", "Loss", "Lowest of any network", *([] if test is None else ["Test loss"]))
    return table("How every task is served", header, rows, numeric=(2, 3, 4))


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int] = ()) -> Component:
    """A table whose first column names its rows."""

    def kind(column: int) -> str:
        return "number" if column in numeric else ""

    heads = [html.Th(text, scope="col", className=kind(column)) for column, text in enumerate(header)]
    body = [
        html.Tr(
            [
                html.Th(cell, scope="row") if column == 0 else html.Td(cell, className=kind(column))
                for column, cell in enumerate(cells)
            ]
        )
        for cells in rows
    ]
    return html.Div(
        html.Table([html.Caption(caption), html.Thead(html.Tr(heads)), html.Tbody(body)]), className="scroll"
    )


def chart(
    name: str, x: Sequence[float], lines: Mapping[str, Sequence[float | None]], here: float, y_title: str
) -> Component:
    """Lines against the budget, with a mark at the chosen one."""
    looks = (("#0062a3", "solid", "circle"), ("#b34700", "dash", "square"), (INK, "dot", "diamond"))
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": label,
            "x": list(x),
            "y": list(y),
            "line": {"color": colour, "dash": dash, "width": 2},
            "marker": {"symbol": symbol, "size": 7},
        }
        for (label, y), (colour, dash, symbol) in zip(lines.items(), looks, strict=False)
    ]
    axis = {"gridcolor": "#e3e5ea", "linecolor": MUTED, "ticks": "outside", "tickcolor": MUTED, "zeroline": False}
    layout = {
        "height": 260,
        "margin": {"l": 60, "r": 20, "t": 10, "b": 45},
        "font": {"family": "system-ui, sans-serif", "size": 14, "color": INK},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.18, "x": 0},
        "xaxis": {"title": {"text": "budget", "font": {"size": 14}}, **axis},
        "yaxis": {"title": {"text": y_title, "font": {"size": 14}}, **axis},
        "shapes": [
            {
                "type": "line", "x0": here, "x1": here, "yref": "paper", "y0": 0, "y1": 1,
                "line": {"color": INK, "width": 1.5, "dash": "dot"},
            }
        ],
    }  # fmt: skip
    return dcc.Graph(id=name, figure={"data": data, "layout": layout}, config={"displayModeBar": False})


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
