"""Which tasks to supervise and how to reach all others from them, under a budget of labels.

Taskonomy (Zamir et al., CVPR 2018), section 3.4.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.solvers.base import Solution
from lightning_taskonomy.solvers.greedy import greedy
from lightning_taskonomy.solvers.problem import TaxonomyProblem
from lightning_taskonomy.solvers.program import Answer, Backend, Row

__all__ = ["TaxonomySolution", "TaxonomySolver", "solve_taxonomy"]

SAME = 1e-9
"""Objectives (and label costs) closer than this share of them are the same."""

ROUGHLY_SAME = 1e-7
"""What the solvers are told instead, whose own tolerances are about 1e-9; the exact test follows."""


@dataclass(frozen=True, kw_only=True)
class TaxonomySolution(Solution):
    """A taxonomy.

    Args:
        budget: The budget it was found under.
        max_order: The highest order it was allowed.
        sources: The tasks to supervise, sorted.
        label_cost: What they cost together, at most the budget.
        policy: The transfer of every target.
        mean_win_rate_vs_task_specific: Mean over targets (quality); None if a chosen transfer has none.
        mean_win_rate_vs_scratch: Mean over targets (gain); None if a chosen transfer has none.
    """

    budget: float
    max_order: int
    sources: tuple[str, ...]
    label_cost: float
    policy: dict[str, Transfer]
    mean_win_rate_vs_task_specific: float | None
    mean_win_rate_vs_scratch: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain Python values; the policy is one object per target."""
        plain = asdict(self)
        for transfer in plain["policy"].values():
            del transfer["target"]
        return plain


class TaxonomySolver:
    """Finds the taxonomy: the tasks to supervise and one transfer into every target, best together, within the budget.

    The integer program of section 3.4 with three constraints: a chosen transfer needs all its sources chosen; every
    target has exactly one transfer; the label costs of the chosen sources stay within the budget. The paper prints the
    second one as a row of 2s that must not exceed -1, which nothing meets, and puts label costs on transfers; this
    follows their meaning. The first constraint is aggregated: for each source and target, the chosen transfers into
    the target that need the source are at most the source's variable, one row instead of one per transfer and the
    tighter one. Transfers that a better one from fewer sources dominates are left out, which changes no answer.

    A transfer of kind ``task_specific`` trains the target itself and needs the target among the sources.

    Ties, whatever the solver or the order of rows: of taxonomies with the same objective (to 1e-9 of it) the one of
    the lowest label cost, then with the fewest sources, then with the least sum of a fixed number of each source's
    name. Of equal transfers the one with the lowest order, then ``task_specific``, then by name. Sources that no
    transfer uses are not chosen unless required.

    Args:
        budget: The most that the label costs of the supervised tasks may sum to; with no costs given, how many tasks.
        max_order: The most sources that a transfer may read.
        label_costs: The cost of labels of each source; 1 where not given.
        importance: The weight of each target in the objective; 1 where not given.
        targets: The tasks to solve; all targets of the table if not given.
        source_only: Tasks that are never targets.
        target_only: Tasks that are never sources (novel tasks).
        forbidden: Tasks that must not be supervised.
        required: Tasks that are supervised in any case.
        gap: The relative gap at which the search may stop; ties are broken only at 0.
        time_limit: Seconds after which the best taxonomy so far is returned, with its gap; a greedy one if the search
            has found none as good.
        backend: python-mip (CBC), or SciPy (HiGHS).

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        budget: float = 8,
        max_order: int = 1,
        label_costs: Mapping[str, float] | None = None,
        importance: Mapping[str, float] | None = None,
        targets: Sequence[str] | None = None,
        source_only: Sequence[str] = (),
        target_only: Sequence[str] = (),
        forbidden: Sequence[str] = (),
        required: Sequence[str] = (),
        gap: float = 0.0,
        time_limit: float | None = None,
        backend: Backend = "mip",
    ) -> None:
        self.budget, self.max_order = _budget(budget), _order(max_order)
        self.label_costs = _numbers("label_costs", label_costs)
        self.importance = _numbers("importance", importance)
        self.targets = None if targets is None else tuple(targets)
        self.source_only, self.target_only = tuple(source_only), tuple(target_only)
        self.forbidden, self.required = tuple(forbidden), tuple(required)
        if not 0 <= gap < math.inf:
            raise InputError(f"gap {gap} must be a number of at least 0")
        if time_limit is not None and not time_limit > 0:
            raise InputError(f"time_limit {time_limit} must be a number of seconds above 0")
        if backend not in ("mip", "scipy"):
            raise InputError(f"backend {backend!r} is unknown{hint(backend, ('mip', 'scipy'))}")
        self.gap, self.time_limit, self.backend = gap, time_limit, backend

    def solve(self, table: TransfersTable) -> TaxonomySolution:
        """The best taxonomy of a table.

        Raises:
            InputError: A name is not in the table, or no taxonomy meets the constraints; the message names the
                constraint and the smallest budget that would do.
        """
        start = time.perf_counter()
        return self._solve(self._problem(table, self.max_order), self.budget, self.max_order, start)

    def sweep(
        self, table: TransfersTable, budgets: Iterable[float], orders: Iterable[int] = (1,)
    ) -> list[TaxonomySolution]:
        """The best taxonomies under several budgets and highest orders, instead of the solver's own.

        A taxonomy that costs less than its budget is the answer to every budget down to its cost, and is not searched
        again.

        Returns:
            One solution per order and budget, in that order, as given.

        Raises:
            InputError: As ``solve``; a budget or order is out of range.
        """
        budgets, orders = [_budget(budget) for budget in budgets], [_order(order) for order in orders]
        found: dict[tuple[int, float], TaxonomySolution] = {}
        for order in dict.fromkeys(orders):
            problem = self._problem(table, order)
            last: TaxonomySolution | None = None
            for budget in sorted(set(budgets), reverse=True):
                start = time.perf_counter()
                if last is not None and last.proven and last.gap == self.gap == 0 and last.label_cost <= budget:
                    last = replace(last, budget=budget, seconds=time.perf_counter() - start)
                else:
                    last = self._solve(problem, budget, order, start)
                found[order, budget] = last
        return [found[order, budget] for order in orders for budget in budgets]

    def _problem(self, table: TransfersTable, max_order: int) -> TaxonomyProblem:
        """Checks every name against the table and takes the transfers that are allowed."""
        for option, allowed in (
            ("targets", table.targets),
            ("target_only", table.targets),
            ("importance", table.targets),
            ("required", table.sources),
            ("forbidden", table.sources),
            ("source_only", (*table.sources, *table.targets)),
            ("label_costs", (*table.sources, *table.targets)),
        ):
            for name in getattr(self, option) or ():
                if name not in allowed:
                    raise InputError(f"{option}: {name!r} is not in the transfers table{hint(name, allowed)}")
        closed = {*self.forbidden, *self.target_only}
        for name in self.required:
            if name in closed:
                raise InputError(f"required: {name!r} is also forbidden or target-only: choose one")
        targets = tuple(dict.fromkeys(table.targets if self.targets is None else self.targets))
        for name in (*(self.targets or ()), *self.target_only):
            if name in self.source_only:
                raise InputError(f"source_only: {name!r} is also among the targets: choose one")
        targets = tuple(name for name in targets if name not in self.source_only)
        if not targets:
            raise InputError("no target is left: name at least one that is not source-only")
        rows = [
            row
            for row in table.candidates
            if row.target in targets and row.order <= max_order and closed.isdisjoint(row.sources)
        ]
        for name in targets:
            if not any(row.target == name for row in rows):
                raise InputError(
                    f"exactly one transfer per target: target {name!r} has none of order {max_order} or less without "
                    f"a forbidden or target-only source; raise max_order, allow a source, or leave the target out"
                )
        return TaxonomyProblem.of(rows, targets, self.label_costs, frozenset(self.required), self.importance)

    def _solve(self, problem: TaxonomyProblem, budget: float, max_order: int, start: float) -> TaxonomySolution:
        deadline = math.inf if self.time_limit is None else start + self.time_limit
        reward = np.zeros(problem.program.size)
        reward[problem.performance.columns] = -problem.scale * problem.performance.coefficients

        def affordable(chosen: NDArray[np.bool_]) -> bool:
            return problem.cost(chosen) <= budget * (1 + SAME) and problem.policy(chosen) is not None

        spend = Row(
            np.arange(problem.program.size), problem.over_sources(problem.costs), upper=budget * (1 + ROUGHLY_SAME)
        )
        answer = problem.program.minimise(
            reward, spend, backend=self.backend, gap=self.gap, deadline=deadline, accept=affordable
        )
        if answer.status == "infeasible":
            raise self._infeasible(problem, budget)
        found = [] if answer.x is None else [_sources(problem, answer)]
        if answer.status == "stopped":
            found += [quick for quick in (greedy(problem, budget),) if quick is not None]
        if not found:
            raise InputError(f"time_limit {self.time_limit} s ended before any taxonomy was found: allow more time")
        chosen = problem.pruned(max(found, key=problem.objective))
        best = problem.objective(chosen)
        bound = min(-answer.bound / problem.scale, math.fsum(map(problem.best_value, problem.edges)))
        share = max(0.0, bound - best) / best if best > 0 else float(bound > 0)
        proven = share <= 1e-6 if self.gap == 0 and answer.status == "optimal" else share <= SAME
        if proven and self.gap == 0:
            keep = Row(
                problem.performance.columns,
                problem.scale * problem.performance.coefficients,
                lower=problem.scale * best * (1 - ROUGHLY_SAME),
            )
            chosen = self._cheapest(
                problem,
                [keep, spend],
                lambda other: affordable(other) and problem.objective(other) >= best * (1 - SAME),
                deadline,
                chosen,
            )
        return _solution(problem, chosen, budget, max_order, proven, 0.0 if proven else share, start)

    def _cheapest(
        self,
        problem: TaxonomyProblem,
        rows: list[Row],
        accept: Callable[[NDArray[np.bool_]], bool],
        deadline: float,
        chosen: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """The sources of lowest cost, then fewest, then by name, among those that rows and the exact test accept.

        Args:
            problem: What is solved.
            rows: The test as constraints, a little wider.
            accept: The exact test; holds for ``chosen``, and for sources that a policy does not use left out.
            deadline: When to return the best so far.
            chosen: Where to start.
        """
        costs = problem.costs / max(problem.costs.max(), 1e-300)
        limits: list[tuple[NDArray[np.float64], float]] = []
        for weights in (costs, problem.tie_weights) if np.ptp(costs) > 0 else (problem.tie_weights,):
            answer = problem.program.minimise(
                problem.over_sources(1e3 * weights),
                *rows,
                *(
                    Row(np.arange(problem.program.size), problem.over_sources(spent), upper=limit * (1 + ROUGHLY_SAME))
                    for spent, limit in limits
                ),
                backend=self.backend,
                deadline=deadline,
                accept=lambda other: (
                    accept(other) and all(math.fsum(spent[other]) <= limit * (1 + SAME) for spent, limit in limits)
                ),
            )
            if answer.x is None:  # out of time: the objective is the same
                break
            chosen = problem.pruned(_sources(problem, answer))
            limits.append((weights, math.fsum(weights[chosen])))
        return chosen

    def _infeasible(self, problem: TaxonomyProblem, budget: float) -> InputError:
        """The error that names the budget that would do."""
        everything = np.ones(len(problem.sources), dtype=bool)
        cheapest = self._cheapest(problem, [], lambda other: problem.policy(other) is not None, math.inf, everything)
        if problem.cost(cheapest) <= budget:
            raise RuntimeError(
                f"the solver library lost a taxonomy of cost {problem.cost(cheapest)}: try another backend"
            )
        names = ", ".join(name for name, taken in zip(problem.sources, cheapest, strict=True) if taken)
        return InputError(
            f"budget {budget:g} is below what any taxonomy costs: the cheapest sources that reach all "
            f"{len(problem.edges)} targets cost {problem.cost(cheapest):g} ({names}); raise the budget to that"
        )


def solve_taxonomy(transfers: str | Path, solver: TaxonomySolver) -> tuple[TaxonomySolution, TransfersTable]:
    """Reads a table of transfers and solves it.

    Returns:
        The solution, and the table, whose ``unmeasured`` rows took no part: name them to the user.

    Raises:
        InputError: The table is wrong, or no taxonomy meets the solver's constraints.
    """
    table = TransfersTable.read(transfers)
    return solver.solve(table), table


def _sources(problem: TaxonomyProblem, answer: Answer) -> NDArray[np.bool_]:
    assert answer.x is not None
    chosen: NDArray[np.bool_] = answer.x[-len(problem.sources) :] > 0.5
    return chosen


def _solution(
    problem: TaxonomyProblem,
    chosen: NDArray[np.bool_],
    budget: float,
    max_order: int,
    proven: bool,
    gap: float,
    start: float,
) -> TaxonomySolution:
    policy = problem.policy(chosen) or {}
    values = {target: problem.value(target, transfer) for target, transfer in policy.items()}
    return TaxonomySolution(
        objective=math.fsum(values.values()),
        values=values,
        proven=proven,
        gap=gap,
        seconds=time.perf_counter() - start,
        budget=budget,
        max_order=max_order,
        sources=tuple(name for name, taken in zip(problem.sources, chosen, strict=True) if taken),
        label_cost=problem.cost(chosen),
        policy=policy,
        mean_win_rate_vs_task_specific=_mean(row.win_rate_vs_task_specific for row in policy.values()),
        mean_win_rate_vs_scratch=_mean(row.win_rate_vs_scratch for row in policy.values()),
    )


def _mean(rates: Iterable[float | None]) -> float | None:
    known = list(rates)
    total = [rate for rate in known if rate is not None]
    return math.fsum(total) / len(total) if total and len(total) == len(known) else None


def _budget(budget: float) -> float:
    if not 0 <= budget < math.inf:
        raise InputError(f"budget {budget} must be a finite number of at least 0")
    return budget


def _order(order: int) -> int:
    if order != int(order) or order < 1:
        raise InputError(f"max_order {order} must be a whole number of at least 1")
    return int(order)


def _numbers(option: str, numbers: Mapping[str, float] | None) -> dict[str, float]:
    for name, number in (numbers or {}).items():
        if not 0 <= number < math.inf:
            raise InputError(f"{option}: {name!r} has {number}; give a finite number of at least 0")
    return dict(numbers or {})
