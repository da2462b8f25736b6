"""Branch and bound over the sources with the Lagrangian bound of ``relaxation``: exact, with ties and runners-up."""

import heapq
import math
import time
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.solvers.taxonomy.problem import Edges, TaxonomyProblem
from lightning_taskonomy.solvers.taxonomy.programs import ProgramSearch, cheapest
from lightning_taskonomy.solvers.taxonomy.ranking import SAME, Candidate, Ranking

__all__ = ["Search", "prepare"]

ROOT_EFFORT, NODE_EFFORT = (1000, 1.0), (60, 0.3)
"""How many steps of the bound, and how long at first, before anything is settled and after each decision."""

AT_ONCE = 10_000_000
"""About so many operations of compiled code pass before the clock is looked at: some hundredths of a second."""

MARGIN = 3e-3
"""How far below the best objective the bound of a node aims, as a share of it."""

MOST_TIES = 1000
"""After so many nodes with nothing but ties these are left to HiGHS, if one taxonomy is wanted."""

Stage = Literal["better", "cheaper", "earlier"]
"""What is looked for in a node: a higher objective; of equal ones a lower label cost; of these less tie weight."""


@dataclass(frozen=True)
class Node:
    """What is still to be searched: all sets of sources that agree with ``state``.

    Args:
        bound: No set of them has a higher objective.
        state: (S,) 1: chosen, -1: not chosen, 0: open.
        places: Where multipliers are above 0,
        prices: and those.
    """

    bound: float
    state: NDArray[np.int8]
    places: NDArray[np.intp]
    prices: NDArray[np.float64]


class Search:
    """Searches one problem, under one budget after another; each starts from the bound of the last.

    Args:
        problem: What is solved.
    """

    def __init__(self, problem: TaxonomyProblem) -> None:
        self.problem, self.edges = problem, problem.flat
        self.multipliers = np.zeros((len(problem.edges), len(problem.sources)))
        self.unit = float(problem.costs[0]) if np.ptp(problem.costs) == 0 and problem.costs[0] > 0 else None
        self.costs = problem.costs if self.unit is None else np.ones(len(problem.costs))
        self.rounds_at_once = max(1, AT_ONCE // (len(self.edges.needs) + self.multipliers.size))

    def run(
        self, budget: float, wanted: int = 1, gap: float = 0.0, deadline: float = math.inf
    ) -> tuple[list[Candidate], float]:
        """The best sets of sources.

        Args:
            budget: What they may cost.
            wanted: How many of them.
            gap: The relative gap at which the search may stop.
            deadline: ``time.perf_counter()`` at which it must, but for the first bound.

        Returns:
            The sets, the best first, fewer if there are no more, none if nothing meets the budget; and the objective
            that no other set exceeds, -inf if all that matter have been seen.
        """
        self.ranking, self.gap, self.deadline = Ranking(self.problem, budget, wanted), gap, deadline
        state = np.where(self.problem.required, 1, 0).astype(np.int8)
        heap: list[tuple[float, int, Node]] = []
        number = count()
        left = -math.inf
        self.improved: Candidate | None = None
        ties = 0
        nodes = self._children(Node(math.inf, state, *_sparse(self.multipliers)), ROOT_EFFORT)
        if nodes and not self.ranking.listed:  # hardly any set reaches all targets: whether one does is settled first
            cover, proven = cheapest(self.problem, deadline)
            self.ranking.offer(cover)
            if proven and not self.ranking.listed:
                return [], -math.inf
        while True:
            for node in nodes:
                heapq.heappush(heap, (-node.bound, -next(number), node))
            if not heap:
                break
            node = heapq.heappop(heap)[2]
            if self._settled(node.bound):
                left = node.bound if gap > 0 else -math.inf
                break
            if time.perf_counter() > deadline:
                left = node.bound
                break
            ties += self._only_ties(node.bound)
            if wanted == 1 and ties > MOST_TIES:  # nothing but ties is left
                program = ProgramSearch(self.problem, "scipy")
                sources = program.first_of_equals(self.ranking.listed[0].sources, budget, deadline)
                return [Candidate.of(self.problem, sources)], -math.inf
            nodes = self._children(node, NODE_EFFORT)
        return self.ranking.listed, left

    def _settled(self, bound: float) -> bool:
        """Whether sets below a bound cannot enter the ranking, or not by more than the gap asked for."""
        ranking = self.ranking
        return bound < ranking.low - ranking.slack or (
            ranking.last is not None and self.gap > 0 and bound <= ranking.low * (1 + self.gap)
        )

    def _only_ties(self, bound: float) -> bool:
        """Whether sets below a bound can enter the ranking only by the order of ties."""
        return self.ranking.last is not None and bound <= self.ranking.low * (1 + SAME)

    def _room(self, state: NDArray[np.int8], stage: Stage, share: float = 1 + SAME) -> float:
        """What a stage leaves for open sources, in the unit of its weights; of costs, ``share`` of the limit counts."""
        last = self.ranking.last
        if stage == "earlier" and last is not None:
            return last.tie - math.fsum(self.problem.tie_weights[state > 0])
        limit = last.cost if stage == "cheaper" and last is not None else self.ranking.budget
        if self.unit is None:
            return limit * share - self.problem.cost(state > 0)
        return float(math.floor(limit / self.unit * share) - int((state > 0).sum()))

    def _children(self, node: Node, effort: tuple[int, float]) -> list[Node]:
        """Bounds a node and settles what the bound settles.

        First, with the budget, by the objective. Where that leaves only ties, by what comes before the last of the
        ranking: sets that cost less; then, if there are none, sets of less tie weight, which count the sources first.
        (If all costs are equal, the second covers both.)

        Returns:
            Two nodes that differ in one more source; none if there is nothing to be found; the node itself if time is
            up.
        """
        from lightning_taskonomy.solvers.taxonomy import relaxation

        ranking, state, bound = self.ranking, node.state.copy(), node.bound
        multipliers = np.zeros_like(self.multipliers)
        multipliers.flat[node.places] = node.prices
        picks = np.empty(len(multipliers), dtype=np.int64)
        with_it, without = np.empty(len(state)), np.empty(len(state))
        stage: Stage = "better"
        while self._room(state, "better") >= 0:
            bound = min(bound, relaxation.best_edges(self.edges, state >= 0, picks))
            if picks.min() < 0:
                return []
            if not relaxation.uses(self.edges, picks, state <= 0):
                ranking.offer(state > 0)
                return []
            if self._only_ties(bound):
                if ranking.loses(state > 0):
                    return []
                if stage == "better":
                    stage = "cheaper" if self.unit is None else "earlier"
            last, weights = ranking.last, self.problem.tie_weights if stage == "earlier" else self.costs
            room = self._room(state, stage, 1 - SAME if stage == "cheaper" else 1 + SAME)
            limit = self._ascend(state, weights, room, *effort, multipliers)
            if stage == "better":
                root = math.isinf(bound)
                if root:
                    self.multipliers = multipliers.copy()
                self._improve(limit if root else math.inf)
                bound = min(bound, limit)
            if self._settled(limit):
                if stage == "cheaper":
                    stage = "earlier"
                    continue
                return [Node(limit, state, *_sparse(multipliers))] if self.gap > 0 else []
            if time.perf_counter() > self.deadline:
                return [Node(bound, state, *_sparse(multipliers))]
            if self._only_ties(bound) and (stage == "better" or last is not ranking.last):
                continue
            relaxation.probe(self.edges, state, weights, self._room(state, stage), multipliers, with_it, without)
            worse = ranking.low - ranking.slack
            out, into = (state == 0) & (with_it < worse), (state == 0) & (without < worse)
            if (out & into).any():
                return []
            if not (out | into).any():
                return self._branches(bound, state, multipliers, with_it, without)
            state[out], state[into] = -1, 1
            effort = NODE_EFFORT
        return []

    def _branches(
        self,
        bound: float,
        state: NDArray[np.int8],
        multipliers: NDArray[np.float64],
        with_it: NDArray[np.float64],
        without: NDArray[np.float64],
    ) -> list[Node]:
        """The two halves of a node; what decides is the source whose lesser fall of the two bounds is greatest."""
        falls = np.minimum(bound - with_it, bound - without) + 1e-3 * np.maximum(bound - with_it, bound - without)
        source = int(np.argmax(np.where(state == 0, falls, -math.inf)))
        kept = _sparse(multipliers)
        nodes = []
        for decision, limit in ((-1, without[source]), (1, with_it[source])):
            child = state.copy()
            child[source] = decision
            nodes.append(Node(min(bound, float(limit)), child, *kept))
        return nodes

    def _ascend(
        self,
        state: NDArray[np.int8],
        weights: NDArray[np.float64],
        room: float,
        rounds: int,
        length: float,
        multipliers: NDArray[np.float64],
    ) -> float:
        """The bound after some rounds; what is found on the way enters the ranking. -inf without room."""
        if room < 0:
            return -math.inf
        from lightning_taskonomy.solvers.taxonomy import relaxation

        bound, sources, pace = math.inf, np.empty(len(state), dtype=bool), np.array([length, 0.0])
        while rounds > 0 and pace[0] > 0:
            low, slack = self.ranking.low, self.ranking.slack
            margin = MARGIN * (low if low > 0 else -self.edges.unreached)
            now, objective = relaxation.ascend(
                self.edges,
                state,
                weights,
                room,
                low,
                slack,
                margin,
                min(rounds, self.rounds_at_once),
                multipliers,
                sources,
                pace,
            )
            bound = min(bound, now)
            if objective >= max(0.0, low - slack):
                self.ranking.offer(sources)
            if time.perf_counter() > self.deadline:
                break
            rounds -= self.rounds_at_once
        return bound

    def _improve(self, bound: float) -> None:
        """Swaps sources of a new best set as long as that raises the objective; nothing exceeds ``bound``."""
        from lightning_taskonomy.solvers.taxonomy import relaxation

        listed = self.ranking.listed
        tries = 1 + AT_ONCE // (10 * len(self.multipliers))
        root = np.where(self.problem.required, 1, 0).astype(np.int8)
        while listed and listed[0] is not self.improved and time.perf_counter() < self.deadline:
            self.improved = listed[0]
            if bound > listed[0].objective * (1 + SAME):
                sources = listed[0].sources.copy()
                relaxation.improve(self.edges, root, self.costs, self._room(root, "better"), sources, tries)
                self.ranking.offer(sources)
                listed = self.ranking.listed


@cache
def prepare() -> None:
    """Loads the compiled code, or compiles it once (some seconds), so that no clock of a search runs meanwhile."""
    from lightning_taskonomy.solvers.taxonomy import relaxation

    edges = Edges(np.array([0, 1]), np.ones(1), np.array([0, 1]), np.zeros(1, dtype=np.int64), -2.0)
    state, sources, picks = np.zeros(1, dtype=np.int8), np.zeros(1, dtype=bool), np.zeros(1, dtype=np.int64)
    one, prices = np.ones(1), np.zeros((1, 1))
    relaxation.ascend(edges, state, one, 1.0, 0.0, 1e-9, 0.0, 1, prices, sources, np.array([1.0, 0.0]))
    relaxation.probe(edges, state, one, 1.0, prices, one.copy(), one.copy())
    relaxation.improve(edges, state, one, 1.0, sources, 1)
    relaxation.best_edges(edges, sources, picks)
    relaxation.uses(edges, picks, sources)


def _sparse(multipliers: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    places = np.flatnonzero(multipliers)
    return places, multipliers.flat[places]
