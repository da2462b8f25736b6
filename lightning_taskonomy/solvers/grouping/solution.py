"""A choice of networks in words."""

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_taskonomy.affinity.groupings import Footprint, Network, serving
from lightning_taskonomy.solvers.base import Solution
from lightning_taskonomy.solvers.grouping.problem import Choice, GroupingProblem

__all__ = ["GroupingSolution"]


@dataclass(frozen=True, kw_only=True)
class GroupingSolution(Solution):
    """Kept networks. ``objective`` is what was minimised, ``values`` the loss of each task, without its importance.

    Args:
        networks: The kept networks, by name.
        cost: What they cost together, at most the budget.
        assignment: For each task the position in ``networks`` of the one that serves it.
        memory: What they take together, where it is known of all.
    """

    kind: ClassVar[str] = "grouping"

    networks: tuple[Network, ...]
    cost: float
    assignment: dict[str, int]
    memory: Footprint | None = None

    @classmethod
    def of(
        cls, problem: GroupingProblem, choice: Choice, budget: float, bound: float, seconds: float
    ) -> "GroupingSolution":
        """A choice in words.

        Args:
            problem: What was solved.
            choice: The kept networks.
            budget: What it was found under.
            bound: The objective that no choice passes, in the problem's unit.
            seconds: Wall time of the search.
        """
        networks = tuple(problem.networks[n] for n in choice)
        places = serving(networks)
        assignment = {task: places[task] for task in problem.tasks}
        objective = problem.measure(problem.row(choice))[0]
        gap = 0.0 if objective == bound else float(abs(objective - bound) / max(objective, bound))
        return cls(
            objective=objective / problem.loss_unit,
            values={task: networks[place].loss(task) for task, place in assignment.items()},
            proven=gap == 0,
            gap=gap,
            seconds=seconds,
            budget=budget,
            networks=networks,
            cost=problem.cost(choice) / problem.cost_unit,
            assignment=assignment,
            memory=Footprint.of(networks),
        )

    @classmethod
    def _restored(cls, values: dict[str, Any]) -> dict[str, Any]:
        networks = tuple(
            Network(
                tuple(plain["tasks"]),
                plain["cost"],
                tuple(plain["losses"]),
                plain.get("size", 0.0),
                _footprint(plain.get("memory")),
            )
            for plain in values["networks"]
        )
        return {**values, "networks": networks, "memory": _footprint(values.get("memory"))}


def _footprint(plain: dict[str, int] | None) -> Footprint | None:
    return None if plain is None else Footprint(**plain)
