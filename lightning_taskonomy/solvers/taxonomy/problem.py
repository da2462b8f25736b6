"""A taxonomy problem: which transfers a solver may choose from, what sources cost, what targets matter."""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import Transfer, incidence

__all__ = ["Edges", "TaxonomyProblem"]


class Edges(NamedTuple):
    """All edges of a problem in a row, targets one after another, the best edges of each first.

    Args:
        first: (T + 1,) where the edges of each target start.
        values: (E,) what each contributes to the objective.
        starts: (E + 1,) where the sources of each edge start.
        needs: (N,) the sources of the edges.
        unreached: What a target without an edge counts: less than all others can make up for.
    """

    first: NDArray[np.int64]
    values: NDArray[np.float64]
    starts: NDArray[np.int64]
    needs: NDArray[np.int64]
    unreached: float


@dataclass(frozen=True)
class TaxonomyProblem:
    """The names, edges and numbers of one search.

    Args:
        sources: The tasks that may be chosen, sorted.
        edges: For each target the transfers it may be solved by, best first, none of them dominated.
        costs: (S,) label cost of each source, at least 0.
        required: (S,) sources that must be chosen.
        importance: The weight of each target, at least 0.
    """

    sources: tuple[str, ...]
    edges: dict[str, tuple[Transfer, ...]]
    costs: NDArray[np.float64]
    required: NDArray[np.bool_]
    importance: dict[str, float]

    @classmethod
    def of(
        cls,
        transfers: list[Transfer],
        targets: tuple[str, ...],
        costs: dict[str, float],
        required: frozenset[str],
        importance: dict[str, float],
    ) -> "TaxonomyProblem":
        """Sorts the transfers and leaves out those that another one dominates."""
        names = tuple(sorted({name for row in transfers for name in row.sources} | required))
        grouped: dict[str, list[Transfer]] = {target: [] for target in targets}
        for row in transfers:
            grouped[row.target].append(row)
        return cls(
            names,
            {target: _undominated(rows, names) for target, rows in grouped.items()},
            np.array([costs.get(name, 1.0) for name in names]),
            np.array([name in required for name in names], dtype=bool),
            {target: importance.get(target, 1.0) for target in targets},
        )

    def cover(self) -> "TaxonomyProblem":
        """The same problem with all transfers alike: its best taxonomy is the cheapest there is."""
        alike = {target: [replace(row, affinity=0.0) for row in rows] for target, rows in self.edges.items()}
        return replace(self, edges={target: _undominated(rows, self.sources) for target, rows in alike.items()})

    @cached_property
    def needs(self) -> dict[str, NDArray[np.bool_]]:
        """Per target (E_t, S): which sources each edge needs."""
        return {target: incidence(rows, self.sources) for target, rows in self.edges.items()}

    @cached_property
    def flat(self) -> Edges:
        """The edges as arrays."""
        numbers = [self.value(target, row) for target, rows in self.edges.items() for row in rows]
        position = {name: index for index, name in enumerate(self.sources)}
        needs = [[position[name] for name in row.sources] for rows in self.edges.values() for row in rows]
        return Edges(
            np.cumsum([0, *map(len, self.edges.values())]),
            np.array(numbers),
            np.cumsum([0, *map(len, needs)]),
            np.array([source for sources in needs for source in sources], dtype=np.int64),
            -1.0 - math.fsum(map(self.best_value, self.edges)),
        )

    def policy(self, sources: NDArray[np.bool_]) -> dict[str, Transfer] | None:
        """The best transfer of every target from chosen sources (S,), ties as documented; None if one has none."""
        best = {}
        for target, needs in self.needs.items():
            open_edges = np.flatnonzero(~(needs & ~sources).any(axis=1))
            if not len(open_edges):
                return None
            best[target] = self.edges[target][open_edges[0]]
        return best

    def value(self, target: str, transfer: Transfer) -> float:
        """What a transfer contributes to the objective, r·p."""
        return self.importance[target] * (transfer.affinity or 0.0)

    def best_value(self, target: str) -> float:
        """The most that a target can contribute, whatever the budget."""
        return self.value(target, self.edges[target][0])

    def objective(self, sources: NDArray[np.bool_]) -> float:
        """The collective performance of the best policy from chosen sources (S,); -inf if a target has none."""
        policy = self.policy(sources)
        if policy is None:
            return -math.inf
        return math.fsum(self.value(target, transfer) for target, transfer in policy.items())

    def cost(self, sources: NDArray[np.bool_]) -> float:
        """Label cost of chosen sources (S,)."""
        return math.fsum(self.costs[sources])

    def pruned(self, sources: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The chosen sources (S,) that are required or used by the best policy."""
        used = {name for transfer in (self.policy(sources) or {}).values() for name in transfer.sources}
        kept: NDArray[np.bool_] = self.required | np.array([name in used for name in self.sources], dtype=bool)
        return kept

    @cached_property
    def tie_weights(self) -> NDArray[np.float64]:
        """(S,) 1 plus a fixed number of each name, together below 1: fewer sources first, then a unique order."""
        digests = [hashlib.sha256(name.encode()).digest()[:4] for name in self.sources]
        fractions = np.array([int.from_bytes(digest) for digest in digests]) / 2.0**32
        return 1.0 + fractions / max(1, len(self.sources))


def _rank(row: Transfer) -> tuple[float, int, str, tuple[str, ...]]:
    """Better transfers first; of equal ones the lower order, then ``task_specific``, then by name."""
    return -(row.affinity or 0.0), row.order, row.kind, row.key[2]


def _undominated(rows: list[Transfer], names: tuple[str, ...]) -> tuple[Transfer, ...]:
    """Best first, without those that a better-ranked one makes useless: one that needs no other source.

    Exact: wherever the dominated transfer is open, so is the other one, which is chosen before it.
    """
    ranked = sorted(rows, key=_rank)
    needs = incidence(ranked, names).astype(np.float32)
    within = needs @ needs.T >= needs.sum(axis=1)[:, None]
    dominated = np.triu(within, 1).any(axis=0)
    return tuple(row for row, out in zip(ranked, dominated, strict=True) if not out)
