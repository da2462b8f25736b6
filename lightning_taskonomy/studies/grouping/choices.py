"""Which networks each method keeps under each budget: selected by validation losses, reported by test losses."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network, random_groupings
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers.grouping import GroupingSolver, pessimal, score
from lightning_taskonomy.studies.grouping.baselines import baseline_of
from lightning_taskonomy.studies.grouping.measurements import Losses, Measured
from lightning_taskonomy.studies.grouping.plan import CANDIDATE, SINGLE, Candidate

__all__ = ["CHOICES", "Choice", "Chooser", "in_words"]

_LOG = logging.getLogger(__name__)

CHOICES = ("method", "budget", "seed", "cost", "networks", "validation_loss", "test_loss")
"""The first columns of ``choices.csv``; a column per task follows, its test loss."""


@dataclass(frozen=True)
class Choice:
    """What a method keeps under a budget, and what that is worth.

    Args:
        method: How it was chosen.
        budget: The budget.
        seed: The seed of the networks.
        cost: What the networks cost together.
        networks: In words; empty for a mean over many choices.
        losses: The test loss of each task.
        validation_loss: The total on validation images; None where it was not asked for.
    """

    method: str
    budget: float
    seed: int
    cost: float
    networks: str
    losses: Losses
    validation_loss: float | None = None

    def row(self, tasks: Sequence[str]) -> list[object]:
        """Its row of ``choices.csv``."""
        total = fsum(self.losses.values())
        losses = [self.losses[task] for task in tasks]
        return [
            self.method, self.budget, self.seed, self.cost, self.networks, self.validation_loss, total, *losses,
        ]  # fmt: skip


@dataclass(frozen=True)
class Chooser:
    """Chooses among the networks of one seed.

    Args:
        tasks: All tasks.
        seed: The seed.
        budgets: What the networks may cost together.
        validation: Losses of candidates that decide.
        test: Those that are reported.
        by: What each method selects by: a solver, and losses or what stands for them.
        draws: Whether random and pessimal choices are drawn: not where losses asked for a part of the networks.
        measured: All that was trained under this seed.
        costs: What each of them costs, in the budget's unit.
    """

    tasks: Sequence[str]
    seed: int
    budgets: Sequence[float]
    validation: GroupingsTable
    test: GroupingsTable
    by: Mapping[str, tuple[GroupingSolver, GroupingsTable]]
    draws: bool
    measured: Sequence[Measured]
    costs: Mapping[Candidate, float]

    def choices(self) -> Iterator[Choice]:
        """What each method keeps under each budget that it can meet."""
        for method, (solver, table) in self.by.items():
            yield from self.selected(method, solver, table)
        yield from self.independent()
        kinds = dict.fromkeys(one.network.kind for one in self.measured if baseline_of(one.network.kind) is not None)
        for method in {"mtl": None, **kinds}:
            yield from self.alone(method)
        if self.draws:
            yield from self.by_chance()

    def selected(self, method: str, solver: GroupingSolver, by: GroupingsTable) -> Iterator[Choice]:
        """What a solver keeps by some losses; nothing, and a warning, where they are beyond all limits.

        Args:
            method: What it is called.
            solver: Importance and limits of the tasks.
            by: The losses to select by, without networks whose training failed.
        """
        try:
            solutions = solver.sweep(by, self.budgets, skip_infeasible=True)
        except InputError as reason:
            _LOG.warning("no choice by %s under seed %d: %s", method, self.seed, reason)
            return
        for solution in solutions:
            networks = solution.networks
            if all(network.key in self.validation.by_key for network in networks):  # else it is still to be trained
                decided = fsum(score(networks, self.validation, self.validation).values())
                losses = score(networks, self.test, self.validation)
                yield Choice(method, solution.budget, self.seed, solution.cost, in_words(networks), losses, decided)

    def independent(self) -> Iterator[Choice]:
        """A network of its own for each task, all of one size: those of equal total cost with a budget, or less."""
        by_size: dict[float, dict[str, Measured]] = {}
        for one in self.measured:
            if len(one.network.tasks) == 1 and one.network.kind in (CANDIDATE, SINGLE) and not one.reason:
                by_size.setdefault(one.network.size, {})[one.network.tasks[0]] = one
        for _, by_task in sorted(by_size.items()):
            if len(by_task) == len(self.tasks):
                yield self._together("independent", [by_task[task] for task in self.tasks])

    def alone(self, method: str) -> Iterator[Choice]:
        """One network of all tasks, of each size that was trained."""
        kinds = (method, CANDIDATE) if method == "mtl" else (method,)
        by_size: dict[float, Measured] = {}
        for one in self.measured:
            if one.network.kind in kinds and one.network.tasks == tuple(self.tasks) and not one.reason:
                by_size.setdefault(one.network.size, one)
        for one in by_size.values():
            yield self._together(method, [one])

    def _together(self, method: str, networks: Sequence[Measured]) -> Choice:
        """A choice that nobody searched for, under the budget that it costs."""
        cost = fsum(self.costs[one.network] for one in networks)
        losses = {task: loss for one in networks for task, loss in one.losses["test"].items()}
        decided = fsum(loss for one in networks for loss in one.losses["validation"].values())
        return Choice(method, cost, self.seed, cost, "; ".join(one.network.name for one in networks), losses, decided)

    def by_chance(self) -> Iterator[Choice]:
        """The mean of 1,000 random choices, and the worst one that spends the budget (section 4.3)."""
        for budget in self.budgets:
            try:
                losses = random_groupings(self.test, budget).mean(axis=0)
                worst = pessimal(self.test, budget, time_limit=10.0)
            except InputError:  # too small a budget: it hardly serves every task
                continue
            by_task = dict(zip(self.tasks, losses.tolist(), strict=True))
            yield Choice("random", budget, self.seed, budget, "", by_task)
            names = in_words(worst.networks)
            losses_of = score(worst.networks, self.test, self.test)
            yield Choice("pessimal", budget, self.seed, worst.cost, names, losses_of)


def in_words(networks: Sequence[Network]) -> str:
    """Networks as ``choices.csv`` writes them."""
    return "; ".join(Candidate(network.tasks, network.size).name for network in networks)
