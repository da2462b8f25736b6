"""Answers as graphs: elements with their places, and how they look. The same columns as in the report's figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_taskonomy.reports.figures.graphs import untangled
from lightning_taskonomy.reports.figures.style import FAMILY_COLORS, GREY, INK, readable
from lightning_taskonomy.solvers import TaxonomySolution
from lightning_taskonomy.solvers.grouping import GroupingSolution

__all__ = ["STYLESHEET", "WIDTHS", "Elements", "drawn_height", "grouping_elements", "stylesheet", "taxonomy_elements"]

Elements = list[dict[str, Any]]

HEIGHT, WIDTH = 600.0, 460.0
"""Pixels from top to bottom where rows are many, and between the columns."""

SHAPES = {"2D": "rectangle", "3D": "ellipse", "low-dimensional": "triangle", "semantic": "diamond"}
"""The family once more, for readers who cannot tell its colour; the markers of the figures."""

STYLESHEET: list[dict[str, Any]] = [
    {
        "selector": "node",
        "style": {
            "label": "data(label)",
            "width": 15,
            "height": 15,
            "background-color": GREY,
            "border-width": 1,
            "border-color": INK,
            "color": INK,
            "font-family": "system-ui, sans-serif",
            "font-size": 14,
            "text-valign": "center",
            "text-margin-x": 6,
            "text-halign": "right",
        },
    },
    *(
        {"selector": f'node[family = "{family}"]', "style": {"background-color": colour, "shape": SHAPES[family]}}
        for family, colour in FAMILY_COLORS.items()
    ),
    {"selector": ".left", "style": {"text-halign": "left", "text-margin-x": -6}},
    {"selector": ".trained", "style": {"width": 20, "height": 20, "border-width": 4, "font-weight": "bold"}},
    {"selector": ".unused", "style": {"opacity": 0.5, "width": 11, "height": 11}},
    {"selector": ".heading", "style": {"background-opacity": 0, "border-width": 0, "font-weight": "bold"}},
    {
        "selector": ".network",
        "style": {"shape": "round-rectangle", "width": "data(size)", "height": 22, "background-color": "#5b6270"},
    },
    {
        "selector": "edge",
        "style": {
            "width": "data(width)",
            "line-color": GREY,
            "opacity": 0.85,
            "curve-style": "unbundled-bezier",
            "control-point-weights": [0.3, 0.7],
            "control-point-distances": "data(bend)",
            "edge-distances": "node-position",
            "target-arrow-shape": "triangle",
            "target-arrow-color": GREY,
            "arrow-scale": 0.8,
        },
    },
    *(
        {"selector": f'edge[family = "{family}"]', "style": {"line-color": colour, "target-arrow-color": colour}}
        for family, colour in FAMILY_COLORS.items()
    ),
    {"selector": "edge[order = 2]", "style": {"line-style": "dashed", "line-dash-pattern": [10, 3]}},
    {"selector": "edge[order = 3]", "style": {"line-style": "dashed", "line-dash-pattern": [5, 3]}},
    {"selector": "edge[order >= 4]", "style": {"line-style": "dotted"}},
    {"selector": ":selected", "style": {"overlay-opacity": 0.15, "overlay-color": INK, "overlay-padding": 4}},
]
"""Families by colour and shape, orders by width and dash, trained tasks ringed, what is not used dimmed."""

WIDTHS = (5.0, 3.4, 2.4, 1.6)
"""Pixels of an edge of order 1, 2, 3, 4 and more."""


def stylesheet(selected: str | None = None) -> list[dict[str, Any]]:
    """How graphs look; with a selected node, all edges but its own fade."""
    if selected is None:
        return STYLESHEET
    of_selected = [{"selector": f'edge[{end} = "{selected}"]', "style": {"opacity": 1}} for end in ("source", "target")]
    return [*STYLESHEET, {"selector": "edge", "style": {"opacity": 0.12}}, *of_selected]


def taxonomy_elements(
    solution: TaxonomySolution, tasks: Sequence[str], families: Mapping[str, str], targets: Sequence[str]
) -> Elements:
    """Trained tasks on the left, the targets solved from them on the right, all other tasks below, dimmed.

    Args:
        solution: The taxonomy.
        tasks: All tasks, in the order in which equal ones stand.
        families: Family of each, as far as known.
        targets: All tasks that the table can solve; others are source-only.
    """
    policy = {t: row.sources for t, row in solution.policy.items() if row.kind != "task_specific"}
    reads = {task: policy[task] for task in tasks if task in policy}
    left, right = untangled([task for task in tasks if task in solution.sources], reads)
    rest = [task for task in tasks if task not in solution.sources and task not in solution.policy]
    elements: Elements = []
    places: dict[str, float] = {}

    def place(task: str, x: float, y: float, column: str, classes: str) -> None:
        label = readable(task) + (" (source only)" if task not in targets and column != "right" else "")
        elements.append(_node(f"{column}:{task}", label, families.get(task, ""), x, y, classes))
        places[f"{column}:{task}"] = y

    rows = max(len(left) + (len(rest) + 2 if rest else 0), len(right), 1)
    row = _row(rows)
    left_rows = rows - (len(rest) + 2 if rest else 0)
    for task, y in _spread(left, left_rows, row).items():
        place(task, 0, y, "left", "left trained")
    for task, y in _spread(right, rows, row).items():
        place(task, WIDTH, y, "right", "")
    for index, task in enumerate(rest):
        place(task, 0, (left_rows + 2 + index) * row, "left", "left unused")
    heading = "left heading"
    elements.append(_node("h:left", f"trained ({len(left)})", "", 0, -row, heading))
    elements.append(_node("h:right", f"solved by transfer ({len(right)})", "", WIDTH, -row, "heading"))
    if rest:
        elements.append(_node("h:rest", f"not used ({len(rest)})", "", 0, (left_rows + 1) * row, f"{heading} unused"))
    for target, sources in policy.items():
        for source in sources:
            ends = f"left:{source}", f"right:{target}"
            elements.append(_edge(*ends, len(sources), families.get(source, ""), places[ends[1]] - places[ends[0]]))
    return elements


def grouping_elements(solution: GroupingSolution, families: Mapping[str, str]) -> Elements:
    """Kept networks on the left, tasks on the right; a thin dotted line to a task that another network serves better.

    Args:
        solution: The grouping.
        families: Family of each task, as far as known.
    """
    networks = {f"{'+'.join(network.tasks)}/{network.cost:g}": network for network in solution.networks}
    names = list(networks)
    serves = {task: [names[place]] for task, place in solution.assignment.items()}
    left, right = untangled(names, serves)
    rows = max(len(left), len(right))
    row = _row(rows)
    heights, places = _spread(left, rows, row), _spread(right, rows, row)
    elements = [
        _node("h:left", f"networks (cost {solution.cost:g})", "", 0, -row, "left heading"),
        _node("h:right", "tasks", "", WIDTH, -row, "heading"),
    ]
    for name, y in heights.items():
        network = networks[name]
        label = f"{' + '.join(map(readable, network.tasks))}  (cost {network.cost:g})"
        elements.append(_node(f"left:{name}", label, "", 0, y, "left network", size=max(10.0, 34 * network.cost)))
    for task, y in places.items():
        label = f"{readable(task)}  {solution.values[task]:.4g}"
        elements.append(_node(f"right:{task}", label, families.get(task, ""), WIDTH, y, ""))
        for name in left:
            if task in networks[name].tasks:
                order = 1 if name in serves[task] else len(WIDTHS)
                ends = f"left:{name}", f"right:{task}"
                elements.append(_edge(*ends, order, families.get(task, ""), y - heights[name]))
    return elements


def drawn_height(rows: int) -> float:
    """Pixels that a graph of so many rows takes with its headings, unless its names make it shrink."""
    return (rows + 1) * _row(rows) + 40


def _row(rows: int) -> float:
    """Pixels between two of so many rows."""
    return min(60.0, max(24.0, HEIGHT / rows))


def _spread(names: Sequence[str], rows: int, row: float) -> dict[str, float]:
    """Places of a few in a column of so many rows, evenly, in pixels."""
    return {name: (index + 0.5) * rows / len(names) * row for index, name in enumerate(names)}


def _node(name: str, label: str, family: str, x: float, y: float, classes: str, **data: Any) -> dict[str, Any]:
    return {
        "data": {"id": name, "label": label, "family": family, **data},
        "position": {"x": x, "y": y},
        "classes": classes,
    }


def _edge(source: str, target: str, order: int, family: str, drop: float) -> dict[str, Any]:
    """A curve that leaves and arrives level; ``drop`` is how far it falls."""
    return {
        "data": {
            "id": f"{source}>{target}",
            "source": source,
            "target": target,
            "order": order,
            "family": family,
            "width": WIDTHS[min(order, len(WIDTHS)) - 1],
            "bend": _bend(drop),
        }
    }


def _bend(drop: float) -> list[float]:
    """Distances of the two control points from the straight line, so that they stand level with the curve's ends."""
    length = (WIDTH**2 + drop**2) ** 0.5
    side = 0.3 * drop * WIDTH / length
    return [-side, side]
