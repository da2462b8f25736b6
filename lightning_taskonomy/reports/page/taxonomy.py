"""The first tab: a taxonomy under a supervision budget."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from dash import ALL, Dash, Input, Output, ctx, no_update

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.reports.page import views
from lightning_taskonomy.reports.page.graph import Elements, taxonomy_elements
from lightning_taskonomy.reports.page.layout import COLUMNS, ROLES, first, marks
from lightning_taskonomy.reports.page.recipes import taxonomy_recipes
from lightning_taskonomy.reports.page.settings import TaxonomySettings
from lightning_taskonomy.reports.page.tab import Tab
from lightning_taskonomy.reports.tables import Tables
from lightning_taskonomy.solvers import TaxonomySolution

__all__ = ["TaxonomyTab"]


class TaxonomyTab(Tab[TransfersTable, TaxonomySettings, TaxonomySolution]):
    """Callbacks over a table of transfers.

    Args:
        tables: What the page shows; it has transfers.
    """

    name, step, restored = "taxonomy", 1.0, TaxonomySettings.from_dict

    def __init__(self, tables: Tables) -> None:
        assert tables.transfers is not None
        super().__init__(tables, tables.transfers)
        self.tasks = tables.tasks

    @property
    def controls(self) -> dict[str, Input]:
        """Budget, order, and five columns of the tasks' table."""
        columns = {name: Input({"type": name, "task": ALL}, "value") for name in COLUMNS}
        return {"budget": Input("budget", "value"), "order": Input("order", "value"), **columns}

    def settings(self, controls: Mapping[str, Any]) -> TaxonomySettings:
        """See ``TaxonomySettings.of``."""
        ticked = [[*chain(*values)] for values in zip(*(controls[role] for role in ROLES), strict=True)]
        return TaxonomySettings.of(
            controls["budget"],
            controls["order"],
            dict(zip(self.tasks, ticked, strict=True)),
            dict(zip(self.tasks, controls["cost"], strict=True)),
            dict(zip(self.tasks, controls["importance"], strict=True)),
            self.table,
        )

    def shown(self, settings: TaxonomySettings, solution: TaxonomySolution) -> tuple[Elements, Any, Any]:
        """Graph, cards, policy."""
        return (
            taxonomy_elements(solution, self.tasks, self.tables.families, self.table.targets),
            views.taxonomy_cards(solution),
            views.policy_table(solution, self.tables.families, self.tasks),
        )

    def bought(self, now: TaxonomySolution, then: TaxonomySolution) -> list[Any]:
        """Sources, objective, gain and quality; see the base class."""
        return views.more_taxonomy(now, then)

    def budgets(self, settings: TaxonomySettings) -> list[float]:
        """About 26 of them, up to what all sources cost."""
        costs = dict(settings.label_costs)
        most = max(1, math.ceil(sum(costs.get(name, 1.0) for name in self.table.sources)))
        step = max(1, math.ceil(most / 30))
        return [float(budget) for budget in range(step, most + step, step)]

    def curve(self, solutions: Sequence[TaxonomySolution], here: float) -> Any:
        """Gain and quality."""
        lines = {
            "gain": [solution.mean_gain for solution in solutions],
            "quality": [solution.mean_quality for solution in solutions],
        }
        return views.chart("taxonomy-chart", [s.budget for s in solutions], lines, here, "mean win rate")

    def recipes(self, solution: TaxonomySolution) -> dict[str, str]:
        """A recipe per network."""
        return taxonomy_recipes(solution, self.tables.settings)

    def register(self, app: Dash) -> None:
        """Also the buttons over the tasks, and the slider's end."""
        super().register(app)
        app.callback(
            output={name: Output({"type": name, "task": ALL}, "value") for name in COLUMNS},
            inputs={name: Input(name, "n_clicks") for name in ("all", "none", "reset")},
            prevent_initial_call=True,
        )(lambda **clicks: self.preset(str(ctx.triggered_id)))
        app.callback(
            output={name: Output("budget", name) for name in ("max", "marks", "step")},
            inputs={"costs": Input({"type": "cost", "task": ALL}, "value")},
            prevent_initial_call=True,
        )(self.span)

    def preset(self, button: str) -> dict[str, list[Any]]:
        """The columns of the tasks after a button: all targets, none, or all as at first."""
        rows = [first(task, self.table) for task in self.tasks]
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        if button == "reset":
            return columns
        kept = {name: [no_update] * len(rows) for name in COLUMNS if name != "solve"}
        return {**kept, "solve": columns["solve"] if button == "all" else [[] for _ in rows]}

    def span(self, costs: Sequence[float | None]) -> dict[str, Any]:
        """The budget slider's end, marks and step for given label costs."""
        of_sources = [cost or 0.0 for task, cost in zip(self.tasks, costs, strict=True) if task in self.table.sources]
        most = max(1, math.ceil(sum(of_sources)))
        return {"max": most, "marks": marks(1, most), "step": 1 if all(cost % 1 == 0 for cost in of_sources) else 0.1}
