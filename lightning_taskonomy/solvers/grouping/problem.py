"""A grouping problem in whole numbers: candidate networks, what they cost, what they lose on each task."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from lightning_taskonomy.affinity.groupings import Footprint, GroupingsTable, Network
from lightning_taskonomy.errors import InputError, hint

__all__ = ["BoundedChoice", "Choice", "GroupingProblem", "Objective", "Stopped", "checked_budget"]

Objective = Literal["total", "max"]
"""``total``: the weighted losses of all tasks summed; ``max``: the largest weighted loss, then their sum."""

Choice = tuple[int, ...]
"""The positions of kept networks, ascending."""


class Stopped(Exception):
    """The deadline came before the end of a search."""


@dataclass(frozen=True)
class BoundedChoice:
    """What a search ended with.

    Args:
        choice: The best networks found.
        bound: No choice has a lower objective; in the problem's own unit, at most the objective of ``choice``.
    """

    choice: Choice
    bound: float


@dataclass(frozen=True)
class GroupingProblem:
    """The numbers of one search, as exact integers.

    A float means the decimal number that it prints as, so that three networks of cost 0.1 cost 0.3; decimals are
    brought to a common denominator, and every comparison is one of whole numbers, whatever the method.

    Args:
        tasks: The T tasks.
        networks: The N candidates in name order: by their sorted task names, then by cost.
        costs: (N,) in units of ``1 / cost_unit``, above 0.
        losses: (N, T) loss times importance in units of ``1 / loss_unit``; ``unserved`` where a network does not serve
            a task, or not within its limit.
        cost_unit: How many make a cost of 1.
        loss_unit: How many make a loss of 1.
        unserved: Stands for no network; more than all tasks' losses together.
        objective: What is minimised.
        weights: (N,) bytes, which add up over kept networks; zeros where memory has no limit.
        activations: (N,) bytes, of which the largest counts; zeros where memory has no limit.
        memory: The most bytes of both.
    """

    tasks: tuple[str, ...]
    networks: tuple[Network, ...]
    costs: tuple[int, ...]
    losses: tuple[tuple[int, ...], ...]
    cost_unit: int
    loss_unit: int
    unserved: int
    objective: Objective
    weights: tuple[int, ...]
    activations: tuple[int, ...]
    memory: int

    @classmethod
    def of(
        cls,
        table: GroupingsTable,
        importance: Mapping[str, float],
        limits: Mapping[str, float],
        objective: Objective = "total",
        memory: int | None = None,
    ) -> "GroupingProblem":
        """The problem of a table.

        Args:
            table: The candidates.
            importance: The weight of each task; 1 where not given.
            limits: The highest loss (without its weight) that a task may have.
            objective: What is minimised.
            memory: The most bytes that the networks may take, if there is a limit.

        Raises:
            InputError: A name is not a task, no network serves a task within its limit, or there is a limit of memory
                and what a network takes is not known.
        """
        for option, numbers in (("importance", importance), ("limits", limits)):
            for name in numbers:
                if name not in table.tasks:
                    raise InputError(f"{option}: {name!r} is not a task of the table{hint(name, table.tasks)}")
        for task, limit in limits.items():
            lowest = min(network.loss(task) for network in table.networks if task in network.tasks)
            if lowest > limit:
                raise InputError(
                    f"limits: no network serves {task} with a loss of at most {limit:g}; the lowest is {lowest!r}"
                )
        networks = sorted(table.networks, key=lambda network: (sorted(network.tasks), network.cost))
        weights = {task: _decimal(importance.get(task, 1.0)) for task in table.tasks}
        weighted = [
            {
                task: weights[task] * _decimal(loss)
                for task, loss in zip(network.tasks, network.losses, strict=True)
                if task not in limits or loss <= limits[task]
            }
            for network in networks
        ]
        costs, cost_unit = _whole([_decimal(network.cost) for network in networks])
        _, loss_unit = _whole([loss for row in weighted for loss in row.values()])
        highest = sum(max(row[task] for row in weighted if task in row) for task in table.tasks)
        unserved = int(highest * loss_unit) + 1
        takes = [Footprint(0, 0) if memory is None else _known(network) for network in networks]
        return cls(
            table.tasks,
            tuple(networks),
            tuple(costs),
            tuple(
                tuple(int(row[task] * loss_unit) if task in row else unserved for task in table.tasks)
                for row in weighted
            ),
            cost_unit,
            loss_unit,
            unserved,
            objective,
            tuple(one.weights for one in takes),
            tuple(one.activations for one in takes),
            memory or 0,
        )

    @cached_property
    def serves(self) -> tuple[int, ...]:
        """(N,) sets of tasks as bits."""
        return tuple(sum(1 << t for t, loss in enumerate(row) if loss < self.unserved) for row in self.losses)

    @property
    def everything(self) -> int:
        """All tasks as bits."""
        return (1 << len(self.tasks)) - 1

    def within(self, level: int) -> "GroupingProblem":
        """The problem of the lowest total in which no task may lose more than ``level`` (times its importance)."""
        losses = tuple(tuple(loss if loss <= level else self.unserved for loss in row) for row in self.losses)
        return replace(self, losses=losses, objective="total")

    @property
    def without_limit(self) -> "GroupingProblem":
        """The problem with as much memory as all networks take."""
        return replace(self, memory=self.taken(tuple(range(len(self.networks)))))

    @property
    def with_gaps(self) -> "GroupingProblem":
        """The problem of leaving as few tasks as possible without a network.

        What leaves a task comes after the networks, one per task: it costs nothing and has a loss of 1, all others 0.
        """
        count = len(self.tasks)
        losses = [tuple(0 if loss < self.unserved else count + 1 for loss in row) for row in self.losses]
        losses += [tuple(1 if t == left else count + 1 for t in range(count)) for left in range(count)]
        nothing = (0,) * count
        return replace(
            self,
            networks=self.networks + tuple(Network((task,), 1.0, (1.0,)) for task in self.tasks),
            costs=self.costs + nothing,
            losses=tuple(losses),
            unserved=count + 1,
            objective="total",
            weights=self.weights + nothing,
            activations=self.activations + nothing,
        )

    @cached_property
    def is_limited(self) -> bool:
        """Whether memory has a limit."""
        return any(self.weights) or any(self.activations)

    @cached_property
    def peaks(self) -> tuple[int, ...]:
        """What the largest activations may be, ascending: those of any network that alone is within the memory."""
        alone = zip(self.weights, self.activations, strict=True)
        return tuple(sorted({peak for weights, peak in alone if weights + peak <= self.memory}))

    def taken(self, choice: Choice) -> int:
        """Bytes that networks take together."""
        return sum(self.weights[n] for n in choice) + max((self.activations[n] for n in choice), default=0)

    def fits(self, choice: Choice) -> bool:
        """Whether networks are within the memory."""
        return not self.is_limited or self.taken(choice) <= self.memory

    def most(self, budget: float) -> int:
        """The highest cost within a budget: the largest whose nearest float is not above it."""
        above = Fraction(math.nextafter(budget, math.inf))
        cost = math.floor((Fraction(budget) + above) / 2 * self.cost_unit)
        return cost if cost / self.cost_unit <= budget else cost - 1

    def cost(self, choice: Iterable[int]) -> int:
        """What networks cost together."""
        return sum(self.costs[n] for n in choice)

    def row(self, choice: Sequence[int]) -> tuple[int, ...]:
        """(T,) the lowest loss of each task."""
        return tuple(map(min, zip((self.unserved,) * len(self.tasks), *(self.losses[n] for n in choice), strict=True)))

    def measure(self, row: Sequence[int]) -> tuple[int, int]:
        """What of two rows of losses decides which is better: lower is better."""
        total = sum(row)
        return (max(row), total) if self.objective == "max" else (total, total)

    def rank(self, choice: Choice) -> tuple[tuple[int, int], int, int, Choice]:
        """What of two choices decides which is better: loss, cost, number of networks, name order."""
        return self.measure(self.row(choice)), self.cost(choice), len(choice), choice

    def floor(self, most: int) -> int:
        """No choice within a cost has a lower objective: each task served by the best network that alone is in it."""
        return self.measure(self.row([n for n, cost in enumerate(self.costs) if cost <= most]))[0]

    def extended(self, choice: Choice, most: int) -> Choice:
        """A good choice at once: adds the network that lowers the loss most, until none within the cost does."""
        while True:
            affordable = (n for n in range(len(self.costs)) if self.cost(choice) + self.costs[n] <= most)
            fitting = [n for n in affordable if self.fits((*choice, n))]
            better = min(
                (tuple(sorted({*choice, n})) for n in fitting),
                key=lambda other: (self.measure(self.row(other)), other),
                default=choice,
            )
            if self.measure(self.row(better)) >= self.measure(self.row(choice)):
                return choice
            choice = better


def checked_budget(budget: float) -> float:
    """A budget that is a finite number of at least 0.

    Raises:
        InputError: It is not.
    """
    if not 0 <= budget < math.inf:
        raise InputError(f"budget {budget} must be a finite number of at least 0")
    return float(budget)


def _known(network: Network) -> Footprint:
    """What a network takes.

    Raises:
        InputError: It is not known.
    """
    if network.memory is None:
        raise InputError(
            f"memory has a limit, but what network {network} takes is not known: give measured inference costs, or "
            "leave the limit out"
        )
    return network.memory


def _decimal(number: float) -> Fraction:
    """The decimal number that a float prints as."""
    return Fraction(repr(float(number)))


def _whole(numbers: Sequence[Fraction]) -> tuple[list[int], int]:
    """Fractions as whole multiples of one unit fraction, and how many of those make 1."""
    unit = math.lcm(*(number.denominator for number in numbers))
    return [int(number * unit) for number in numbers], unit
