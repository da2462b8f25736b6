"""What the controls of the page say, as frozen settings: equal settings find the same answer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, Self, TypeVar

from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import Solution, TaxonomySolution, TaxonomySolver
from lightning_taskonomy.solvers.grouping import GroupingSolution, GroupingSolver

__all__ = ["GroupingSettings", "Settings", "TaxonomySettings"]

Numbers = tuple[tuple[str, float], ...]
"""Numbers by task."""

M = TypeVar("M")
T = TypeVar("T", bound=Solution)


@dataclass(frozen=True)
class Settings(ABC, Generic[M, T]):
    """What can be asked of a table; tuples throughout, so that equal settings find the same answer.

    Args:
        budget: What may be spent.
    """

    budget: float

    @abstractmethod
    def solve(self, table: M, time_limit: float | None = None) -> T:
        """The answer from a table, within so many seconds if a limit is given.

        Raises:
            InputError: A value is out of range, nothing is asked, or nothing meets the settings.
        """

    def at(self, budget: float) -> Self:
        """The same under another budget."""
        return replace(self, budget=budget)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the browser to keep."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What ``as_dict`` gave, after a round trip through JSON."""
        return cls(**{name: _tuples(value) for name, value in plain.items()})


@dataclass(frozen=True)
class TaxonomySettings(Settings[TransfersTable, TaxonomySolution]):
    """What the controls of the first tab say.

    Args:
        budget: As of all settings; what labels may cost.
        max_order: The highest order of transfers.
        targets: Tasks to solve.
        closed: Tasks that must not be trained: target-only (novel) or left out.
        required: Tasks that are trained in any case.
        label_costs: Costs other than 1, by task.
        importance: Weights other than 1, by target.
    """

    max_order: int
    targets: tuple[str, ...]
    closed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    label_costs: Numbers = ()
    importance: Numbers = ()

    @classmethod
    def of(
        cls,
        budget: float | None,
        max_order: int | None,
        roles: Mapping[str, Sequence[str]],
        label_costs: Mapping[str, float | None],
        importance: Mapping[str, float | None],
        table: TransfersTable,
    ) -> "TaxonomySettings":
        """Settings from what stands in the controls.

        Args:
            budget: As typed; None if the field is empty.
            max_order: As chosen.
            roles: Per task which of ``solve``, ``train`` and ``must`` are ticked.
            label_costs: Per task as typed; None if the field is empty or no number.
            importance: The same.
            table: The transfers; what they cannot do is left out.

        Raises:
            InputError: A field is empty, or a task is to be trained both in any case and never.
        """
        if budget is None:
            raise InputError("the budget is empty: give a number of at least 0")
        sources, targets = set(table.sources), set(table.targets)
        for name, ticked in roles.items():
            if "must" in ticked and "train" not in ticked:
                raise InputError(f"{name!r} must be trained but may not be: tick 'may train' or untick 'must'")
        return cls(
            float(budget),
            int(max_order or 1),
            tuple(name for name in roles if name in targets and "solve" in roles[name]),
            tuple(name for name in roles if name in sources and "train" not in roles[name]),
            tuple(name for name in roles if name in sources and "must" in roles[name]),
            _others("label cost", {name: label_costs[name] for name in label_costs if name in sources}),
            _others("importance", {name: importance[name] for name in importance if name in targets}),
        )

    def solve(self, table: TransfersTable, time_limit: float | None = None) -> TaxonomySolution:
        """See the base class."""
        if not self.targets:
            raise InputError("no task is ticked in the column 'solve': tick at least one")
        solver = TaxonomySolver(
            budget=self.budget,
            max_order=self.max_order,
            label_costs=dict(self.label_costs),
            importance=dict(self.importance),
            targets=self.targets,
            forbidden=self.closed,
            required=self.required,
            time_limit=time_limit,
        )
        return solver.solve(table)


@dataclass(frozen=True)
class GroupingSettings(Settings[GroupingsTable, GroupingSolution]):
    """What the controls of the second tab say.

    Args:
        budget: As of all settings; 1 is one full-size network.
        objective: ``total`` or ``max``.
        importance: Weights other than 1, by task.
        limits: The highest loss allowed, by task, where there is one.
    """

    objective: Literal["total", "max"] = "total"
    importance: Numbers = ()
    limits: Numbers = ()

    @classmethod
    def of(
        cls,
        budget: float | None,
        objective: Literal["total", "max"],
        importance: Mapping[str, float | None],
        limits: Mapping[str, float | None],
    ) -> "GroupingSettings":
        """Settings from what stands in the controls.

        Args:
            budget: As typed; None if the field is empty.
            objective: As chosen.
            importance: Per task as typed; None if the field is empty or no number.
            limits: The same; None is no limit.

        Raises:
            InputError: A field is empty.
        """
        if budget is None:
            raise InputError("the budget is empty: give a number of at least 0")
        limited = tuple((task, float(limit)) for task, limit in limits.items() if limit is not None)
        return cls(float(budget), objective, _others("importance", importance), limited)

    def solve(self, table: GroupingsTable, time_limit: float | None = None) -> GroupingSolution:
        """See the base class."""
        solver = GroupingSolver(
            budget=self.budget,
            importance=dict(self.importance),
            limits=dict(self.limits),
            objective=self.objective,
            time_limit=time_limit,
        )
        return solver.solve(table)


def _others(what: str, numbers: Mapping[str, float | None]) -> Numbers:
    """Numbers other than 1.

    Raises:
        InputError: One is missing.
    """
    for name, number in numbers.items():
        if number is None:
            raise InputError(f"the {what} of {name!r} is empty or below 0: give a number of at least 0")
    return tuple((name, float(number)) for name, number in numbers.items() if number is not None and number != 1)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, to the bottom."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
