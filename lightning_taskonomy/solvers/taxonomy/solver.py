"""Which tasks to supervise and how to reach all others from them, under a budget of labels.

Taskonomy (Zamir et al., CVPR 2018), section 3.4.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from lightning_taskonomy.affinity.table import TransfersTable
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.solvers.base import Solver
from lightning_taskonomy.solvers.taxonomy.problem import TaxonomyProblem
from lightning_taskonomy.solvers.taxonomy.programs import ProgramSearch, cheapest
from lightning_taskonomy.solvers.taxonomy.ranking import SAME, Ranking
from lightning_taskonomy.solvers.taxonomy.search import Search, prepare
from lightning_taskonomy.solvers.taxonomy.solution import TaxonomySolution

__all__ = ["TaxonomyBackend", "TaxonomySolver"]

TaxonomyBackend = Literal["branch_and_bound", "mip", "scipy"]
"""``branch_and_bound``: our own exact search; ``mip``: python-mip, CBC; ``scipy``: ``scipy.optimize.milp``, HiGHS."""

COVER_SECONDS = 10.0
"""How long the cheapest taxonomy is looked for, to say what budget would do."""


class TaxonomySolver(Solver):
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
        target_only: Tasks that are never sources.
        novel: All for one (section 4.2): the one task to solve, never a source, while all others are sources only.
        forbidden: Tasks that must not be supervised.
        required: Tasks that are supervised in any case.
        gap: The relative gap at which the search may stop; ties are broken only at 0.
        time_limit: Seconds after which the best taxonomy so far is returned, with its gap. Code that is compiled at
            the first use on a machine takes its seconds before that.
        backend: Our own branch and bound, or a general solver for the program: slower, and independent of it.

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
        novel: str | None = None,
        forbidden: Sequence[str] = (),
        required: Sequence[str] = (),
        gap: float = 0.0,
        time_limit: float | None = None,
        backend: TaxonomyBackend = "branch_and_bound",
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
        if backend not in get_args(TaxonomyBackend):
            raise InputError(f"backend {backend!r} is unknown{hint(backend, get_args(TaxonomyBackend))}")
        if novel is not None and (self.targets is not None or self.target_only or self.source_only):
            raise InputError(f"novel: {novel!r} is the only target: leave out targets, source_only and target_only")
        self.novel = novel
        self.gap, self.time_limit, self.backend = gap, time_limit, backend

    def solve(self, table: TransfersTable) -> TaxonomySolution:
        """The best taxonomy of a table.

        Raises:
            InputError: A name is not in the table, or no taxonomy meets the constraints; the message names the
                constraint and the smallest budget that would do.
        """
        return self.best(table, 1)[0]

    def best(self, table: TransfersTable, count: int) -> list[TaxonomySolution]:
        """The best taxonomies that differ, the best first: no two choose the same sources.

        The sources decide, as each target takes the best transfer from them; sources that no transfer uses are left
        out before comparing. Each is proven: no other taxonomy but those listed before it is better, or as good and
        earlier by the rule of ties.

        Args:
            table: The transfers.
            count: How many; fewer are returned if no more exist.

        Raises:
            InputError: As ``solve``; the count is below 1.
        """
        if count != int(count) or count < 1:
            raise InputError(f"count {count} must be a whole number of at least 1")
        search, start = self._start(table, self.max_order)
        solutions = self._run(search, self.budget, self.max_order, start, count)
        if not solutions:
            raise _infeasible(search.problem, self.budget, self.time_limit)
        return solutions

    def sweep(
        self,
        table: TransfersTable,
        budgets: Iterable[float],
        orders: Iterable[int] = (1,),
        skip_infeasible: bool = False,
    ) -> list[TaxonomySolution]:
        """The best taxonomies under several budgets and highest orders, instead of the solver's own.

        Budgets share the problem, and each search starts from the bound of the next larger budget. A taxonomy that
        costs less than its budget is the answer to every budget down to its cost, and is not searched again.

        Args:
            table: The transfers.
            budgets: The budgets.
            orders: The highest orders.
            skip_infeasible: Leave out the budgets that are below what any taxonomy of an order costs, unless all are.

        Returns:
            One solution per order and budget, in that order, as given.

        Raises:
            InputError: As ``solve``; a budget or order is out of range.
        """
        budgets, orders = [_budget(budget) for budget in budgets], [_order(order) for order in orders]
        solutions: dict[tuple[int, float], TaxonomySolution] = {}
        for order in dict.fromkeys(orders):
            search, _ = self._start(table, order)
            last: TaxonomySolution | None = None
            for budget in sorted(set(budgets), reverse=True):
                start = time.perf_counter()
                if last is not None and last.proven and last.gap == self.gap == 0 and last.label_cost <= budget:
                    last = replace(last, budget=budget, seconds=time.perf_counter() - start)
                else:
                    answers = self._run(search, budget, order, start, 1)
                    if not answers and (last is None or not skip_infeasible):
                        raise _infeasible(search.problem, budget, self.time_limit)
                    if not answers:
                        break  # and so are all smaller ones
                    (last,) = answers
                solutions[order, budget] = last
        keys = ((order, budget) for order in orders for budget in budgets)
        return [solutions[key] for key in keys if key in solutions]

    def _problem(self, table: TransfersTable, max_order: int) -> TaxonomyProblem:
        """Checks every name against the table and takes the transfers that are allowed."""
        alone = () if self.novel is None else (self.novel,)
        for option, names, allowed in (
            ("novel", alone, table.targets),
            ("targets", self.targets or (), table.targets),
            ("target_only", self.target_only, table.targets),
            ("importance", self.importance, table.targets),
            ("required", self.required, table.sources),
            ("forbidden", self.forbidden, table.sources),
            ("source_only", self.source_only, (*table.sources, *table.targets)),
            ("label_costs", self.label_costs, (*table.sources, *table.targets)),
        ):
            for name in names:
                if name not in allowed:
                    raise InputError(f"{option}: {name!r} is not in the transfers table{hint(name, allowed)}")
        closed = {*self.forbidden, *self.target_only, *alone}
        for name in self.required:
            if name in closed:
                raise InputError(f"required: {name!r} is also forbidden or target-only: choose one")
        targets = alone or tuple(dict.fromkeys(table.targets if self.targets is None else self.targets))
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

    def _start(self, table: TransfersTable, max_order: int) -> tuple[Search | ProgramSearch, float]:
        """The search of a table, and when the clock started."""
        prepare()
        start = time.perf_counter()
        problem = self._problem(table, max_order)
        return Search(problem) if self.backend == "branch_and_bound" else ProgramSearch(problem, self.backend), start

    def _run(
        self, search: Search | ProgramSearch, budget: float, max_order: int, start: float, count: int
    ) -> list[TaxonomySolution]:
        problem = search.problem
        deadline = math.inf if self.time_limit is None else start + self.time_limit
        candidates, left = search.run(budget, count, self.gap, deadline)
        if left > -math.inf and isinstance(search, ProgramSearch):  # what our own finds at once may be better
            ranking = Ranking(problem, budget, count)
            for one in (*candidates, *Search(problem).run(budget, count, deadline=-math.inf)[0]):
                ranking.offer(one.sources)
            candidates = ranking.listed
        if not candidates and left > -math.inf:
            raise InputError(f"time_limit {self.time_limit} s ended before any taxonomy was found: allow more time")
        seconds = time.perf_counter() - start
        return [
            TaxonomySolution.of(problem, one.sources, budget, max_order, _gap(one.objective, left), seconds)
            for one in candidates
        ]


def _infeasible(problem: TaxonomyProblem, budget: float, time_limit: float | None) -> InputError:
    """The error that names the budget that would do."""
    sources, proven = cheapest(problem, time.perf_counter() + min(COVER_SECONDS, time_limit or COVER_SECONDS))
    cost = problem.cost(sources)
    names = ", ".join(name for name, taken in zip(problem.sources, sources, strict=True) if taken)
    kind = "the cheapest sources" if proven else "the cheapest sources known"
    return InputError(
        f"budget {budget:g} is below what any taxonomy costs: {kind} that reach all {len(problem.edges)} targets "
        f"cost {cost:g} ({names}); raise the budget to that"
    )


def _gap(objective: float, left: float) -> float:
    """How much better one could still be, as a share; 0 if by no more than what counts as the same."""
    if left <= objective * (1 + SAME):
        return 0.0
    return (left - objective) / objective if objective > 0 else 1.0


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
