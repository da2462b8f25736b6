"""What stands on the page before anything is solved: the controls, and places for the answers."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any
from uuid import uuid4

import dash_cytoscape
from dash import dcc, html
from dash.development.base_component import Component

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.reports.figures.style import FAMILIES, readable
from lightning_taskonomy.reports.page.graph import STYLESHEET, WIDTHS, drawn_height
from lightning_taskonomy.reports.page.views import aria, family_mark
from lightning_taskonomy.reports.tables import Tables

__all__ = ["COLUMNS", "HALF", "ROLES", "first", "marks", "page"]

HALF = 0.5
"""Half a network, one more unit of an inference budget."""

ROLES = {"solve": "Solve", "train": "May train", "must": "Must train"}
"""The columns of ticks: a target; a source that may be trained; one that is trained in any case."""
NUMBERS = {"cost": "Label cost", "importance": "Importance"}
"""The columns of numbers."""
COLUMNS = {**ROLES, **NUMBERS}
"""The columns of the table of tasks."""


def first(task: str, table: TransfersTable) -> dict[str, Any]:
    """What stands in a task's row at first, by column."""
    solve, train = task in table.targets, task in table.sources
    return {
        "solve": ["solve"] if solve else [],
        "train": ["train"] if train else [],
        "must": [],
        "cost": 1,
        "importance": 1,
    }


def page(tables: Tables) -> Component:
    """The whole page, for one new browser session."""
    tabs: dict[str, Component] = {}
    if tables.transfers is not None:
        tabs["taxonomy"] = _taxonomy_tab(tables, tables.transfers)
    if tables.groupings is not None:
        tabs["grouping"] = _grouping_tab(tables, tables.groupings)
    return html.Div(
        [
            html.A("Skip to the answer", href=f"#{next(iter(tabs))}-answer", className="skip"),
            html.Header(
                [
                    html.H1("What to train under a budget"),
                    html.P("Every change of a control is solved again, on this machine."),
                ]
            ),
            dcc.Store(id="session", data=uuid4().hex),
            html.Div(_switch(list(tabs)), className="switch", hidden=len(tabs) < 2),
            html.Main([html.Div(tab, id=f"{name}-tab") for name, tab in tabs.items()]),
        ]
    )


def _switch(names: Sequence[str]) -> Component:
    """Which decision is shown. Radio buttons: keys do not reach Dash's own tabs."""
    options = [{"label": name.capitalize(), "value": name} for name in names]
    choice = dcc.RadioItems(id="tab", options=options, value=names[0], inline=True)
    return html.Div(choice, role="group", **aria(label="Decision"))


def _taxonomy_tab(tables: Tables, table: TransfersTable) -> Component:
    count = len(table.sources)
    orders = sorted({row.order for row in table.candidates if row.kind == "transfer"})
    controls = [
        html.H2("Supervision budget", id="budget-label"),
        labelled(
            "budget-label",
            dcc.Slider(id="budget", min=1, max=count, step=1, value=min(8, count), marks=marks(1, count)),
        ),
        html.P("The most that the labels of all trained tasks may cost.", className="note"),
        html.H2("Highest order", id="order-label"),
        labelled(
            "order-label",
            dcc.Slider(id="order", min=1, max=orders[-1], step=1, value=min(4, orders[-1]), marks=marks(1, orders[-1])),
        ),
        html.P("How many sources one transfer may read.", className="note"),
        html.H2("Tasks"),
        html.P(
            "Solve: a target. May train: can be a source. Solve alone is a novel, target-only task; may train alone a "
            "source-only one; neither leaves it out.",
            className="note",
        ),
        html.Div(
            [
                html.Button("Solve all", id="all"),
                html.Button("Solve none", id="none"),
                html.Button("Reset", id="reset"),
            ],
            className="buttons",
        ),
        _task_table(tables, table),
    ]
    legend = _taxonomy_legend(tables.families.values(), orders)
    return panel("taxonomy", tables.title, controls, legend, 700)


def _grouping_tab(tables: Tables, table: GroupingsTable) -> Component:
    most, first_budget = float(len(table.tasks)), min(2.5, len(table.tasks))
    whole = all(network.cost % HALF == 0 for network in table.networks)
    heads = [html.Th(name, scope="col") for name in ("Task", "Importance", "Loss at most")]
    body = []
    for task in table.tasks:
        name = readable(task)
        cells = (
            number_box({"type": "grouping-importance", "task": task}, 1, f"Importance {name}"),
            number_box({"type": "grouping-limit", "task": task}, None, f"Loss at most {name}"),
        )
        title: list[Any] = [family_mark(tables.families.get(task, "")), name]
        body.append(html.Tr([html.Th(title, scope="row"), *map(html.Td, cells)]))
    controls = [
        html.H2("Inference budget", id="grouping-budget-label"),
        labelled(
            "grouping-budget-label",
            dcc.Slider(
                id="grouping-budget",
                min=HALF,
                max=most,
                step=HALF if whole else 0.1,
                value=first_budget,
                marks=marks(1, int(most)),
            ),
        ),
        html.P("What the kept networks may cost together; 1 is one full-size network.", className="note"),
        html.H2("Minimise", id="grouping-objective-label"),
        labelled(
            "grouping-objective-label",
            dcc.RadioItems(
                id="grouping-objective",
                options=[
                    {"label": "the total loss", "value": "total"},
                    {"label": "the largest loss of any task", "value": "max"},
                ],
                value="total",
            ),
        ),
        html.H2("Tasks"),
        html.Table([html.Thead(html.Tr(heads)), html.Tbody(body)], className="tasks"),
    ]
    legend = [*_families(tables.families[t] for t in table.tasks if t in tables.families)]
    legend += [_line("serves the task", 5, "solid"), _line("knows the task, another one serves it", 1.6, "dotted")]
    return panel("grouping", tables.groupings_title or tables.title, controls, legend, drawn_height(len(table.tasks)))


def _taxonomy_legend(families: Iterable[str], orders: Sequence[int]) -> list[Component]:
    """Families, orders, rings."""
    styles = ("solid", "dashed", "dashed", "dotted")
    names = ("order 1", "order 2", "order 3", "order 4 and more")
    lines = [_line(*look) for look in zip(names[: orders[-1]], WIDTHS, styles, strict=False)]
    return [*_families(families), *lines, html.Span("ringed: trained on all its labels; dimmed: not used")]


def _families(families: Iterable[str]) -> list[Component]:
    named = set(families)
    return [html.Span([family_mark(family), family]) for family in FAMILIES if family in named]


def _line(text: str, width: float, style: str) -> Component:
    sample = html.Span(
        className="line", style={"borderTopWidth": width, "borderTopStyle": style}, **aria(hidden="true")
    )
    return html.Span([sample, text])


def _task_table(tables: Tables, table: TransfersTable) -> Component:
    """A row of controls per task."""
    names = COLUMNS.values()
    head = html.Tr([html.Th("Task", scope="col"), *(html.Th(name, scope="col") for name in names)])
    body: list[Component] = []
    for family, tasks in groupby(tables.tasks, lambda task: tables.families.get(task, "")):
        if family:
            title = [family_mark(family), family]
            body.append(html.Tr(html.Th(title, colSpan=len(names) + 1, scope="rowgroup"), className="family"))
        body.extend(_task_row(task, table) for task in tasks)
    return html.Table([html.Thead(head), html.Tbody(body)], className="tasks")


def _task_row(task: str, table: TransfersTable) -> Component:
    name, values = readable(task), first(task, table)
    cells = []
    for column, text in COLUMNS.items():
        usable = task in (table.targets if column in ("solve", "importance") else table.sources)
        where, label = {"type": column, "task": task}, f"{text} {name}"
        if column in NUMBERS:
            cells.append(number_box(where, values[column], label, disabled=not usable))
        else:
            option = {"label": hidden(label), "value": column, "disabled": not usable}
            cells.append(dcc.Checklist(id=where, options=[option], value=values[column]))
    return html.Tr([html.Th(name, scope="row"), *map(html.Td, cells)])


def panel(
    name: str, title: str, controls: Sequence[Component], legend: Sequence[Component], height: float
) -> Component:
    """Controls on the left; the answer with its graph, cards, tables and downloads on the right.

    Args:
        name: Prefixes every id.
        title: Where the measurements came from.
        controls: The left side.
        legend: Below the graph.
        height: Of the graph, in pixels.
    """
    return html.Div(
        [
            dcc.Store(id=f"{name}-request"),
            dcc.Store(id=f"{name}-solved"),
            dcc.Download(id=f"{name}-download"),
            html.Section(
                [html.P(["Measurements: ", html.B(title)]), *controls], className="controls", **aria(label="Controls")
            ),
            html.Section(
                [
                    html.Div(id=f"{name}-state", className="state", role="status", **aria(live="polite")),
                    html.Div(id=f"{name}-cards"),
                    html.Div(id=f"{name}-more", className="more", **aria(live="polite")),
                    html.Div(
                        dash_cytoscape.Cytoscape(
                            id=f"{name}-graph",
                            elements=[],
                            stylesheet=STYLESHEET,
                            layout={"name": "preset", "fit": True, "padding": 16},
                            style={"width": "100%", "height": f"{height:g}px"},
                            userZoomingEnabled=False,
                            boxSelectionEnabled=False,
                            responsive=True,
                        ),
                        className="graph",
                        role="img",
                        **aria(label=f"The {name} as a graph; the table below holds the same"),
                    ),
                    html.Div(legend, className="legend"),
                    html.Div(id=f"{name}-table"),
                    html.Div(id=f"{name}-curve", className="curve"),
                    html.Div(
                        [
                            html.Button("Download the solution (JSON)", id=f"{name}-json"),
                            html.Button("Download the recipes that train it (ZIP)", id=f"{name}-recipe"),
                        ],
                        className="buttons",
                    ),
                    html.P(id=f"{name}-refused", className="refused", role="alert"),
                ],
                className="answer",
                id=f"{name}-answer",
                **aria(label=f"The {name}"),
            ),
        ],
        className="panel",
    )


def labelled(name: str, control: Component) -> Component:
    """A group that a screen reader names by a heading."""
    return html.Div(control, role="group", **aria(labelledby=name))


def hidden(text: str) -> Component:
    """Text for screen readers alone."""
    return html.Span(text, className="hidden")


def number_box(name: Any, value: float | None, label: str, disabled: bool = False) -> Component:
    """A small field for a number of at least 0."""
    field = dcc.Input(id=name, type="number", min=0, step="any", value=value, debounce=True, disabled=disabled)
    return html.Label([hidden(label), field])


def marks(low: int, high: int) -> Mapping[int, str]:
    """About six whole numbers along a slider."""
    step = max(1, round((high - low) / 5))
    places = [place for place in range(low, high, step) if high - place > step / 2]
    return {place: str(place) for place in (*places, high)}
