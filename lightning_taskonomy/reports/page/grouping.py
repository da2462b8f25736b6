"""The second tab: which networks to keep under an inference budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import ALL, Input

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.reports.page import views
from lightning_taskonomy.reports.page.graph import Elements, grouping_elements
from lightning_taskonomy.reports.page.layout import HALF
from lightning_taskonomy.reports.page.recipes import grouping_recipes
from lightning_taskonomy.reports.page.settings import GroupingSettings
from lightning_taskonomy.reports.page.tab import Tab
from lightning_taskonomy.reports.tables import Tables
from lightning_taskonomy.solvers.grouping import GroupingSolution

__all__ = ["GroupingTab"]


class GroupingTab(Tab[GroupingsTable, GroupingSettings, GroupingSolution]):
    """Callbacks over a table of groupings.

    Args:
        tables: What the page shows; it has groupings.
    """

    name, step, restored = "grouping", HALF, GroupingSettings.from_dict

    def __init__(self, tables: Tables) -> None:
        assert tables.groupings is not None
        super().__init__(tables, tables.groupings)
        networks = self.table.networks
        self.lowest = {t: min(n.loss(t) for n in networks if t in n.tasks) for t in self.table.tasks}

    @property
    def controls(self) -> dict[str, Input]:
        """Budget, objective, and two columns of the tasks' table."""
        columns = {name: Input({"type": f"grouping-{name}", "task": ALL}, "value") for name in ("importance", "limit")}
        return {
            "budget": Input("grouping-budget", "value"),
            "objective": Input("grouping-objective", "value"),
            **columns,
        }

    def settings(self, controls: Mapping[str, Any]) -> GroupingSettings:
        """See ``GroupingSettings.of``."""
        return GroupingSettings.of(
            controls["budget"],
            controls["objective"],
            dict(zip(self.table.tasks, controls["importance"], strict=True)),
            dict(zip(self.table.tasks, controls["limit"], strict=True)),
        )

    def shown(self, settings: GroupingSettings, solution: GroupingSolution) -> tuple[Elements, Any, Any]:
        """Graph, cards, losses."""
        test = self.test_losses(solution)
        return (
            grouping_elements(solution, self.tables.families),
            views.grouping_cards(solution, settings.objective, test),
            views.loss_table(solution, self.tables.families, self.lowest, test),
        )

    def test_losses(self, solution: GroupingSolution) -> dict[str, float] | None:
        """The loss of each task on test images; None where a kept network has none."""
        tested = self.tables.groupings_test
        if tested is None or any(network.key not in tested.by_key for network in solution.networks):
            return None
        kept = [tested.by_key[network.key] for network in solution.networks]
        return {task: kept[place].loss(task) for task, place in solution.assignment.items()}

    def bought(self, now: GroupingSolution, then: GroupingSolution) -> list[Any]:
        """Networks and losses; see the base class."""
        return views.more_grouping(now, then)

    def budgets(self, settings: GroupingSettings) -> list[float]:
        """Every half network, up to one full-size network per task."""
        return [HALF * count for count in range(1, 2 * len(self.table.tasks) + 1)]

    def curve(self, solutions: Sequence[GroupingSolution], here: float) -> Any:
        """The objective."""
        losses = [solution.objective for solution in solutions]
        return views.chart("grouping-chart", [s.budget for s in solutions], {"loss": losses}, here, "loss")

    def recipes(self, solution: GroupingSolution) -> dict[str, str]:
        """One recipe, which trains all networks."""
        served = [
            [task for task, place in solution.assignment.items() if place == n] for n in range(len(solution.networks))
        ]
        return grouping_recipes(solution.networks, served, self.tables.training)
