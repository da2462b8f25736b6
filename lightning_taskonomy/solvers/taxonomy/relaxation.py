"""The Lagrangian relaxation of the taxonomy program, compiled; importing it imports Numba, so it is imported when used.

The aggregated constraints "the transfers into t that need s <= y_s" move into the objective with multipliers
λ_ts >= 0. What remains falls apart: each target takes its best transfer at the price of λ of its sources, and the
sources with most Σ_t λ_ts per label cost fill the budget (a continuous knapsack). Every λ gives an upper bound on the
objective, the least of them is that of the linear program, and what a bound loses when a source is forced in or out
shows which sources are settled.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.solvers.taxonomy.problem import Edges

__all__ = ["ascend", "best_edges", "improve", "probe", "uses"]

Function = TypeVar("Function", bound=Callable[..., object])
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
States = NDArray[np.int8]
"""(S,) 1: source chosen, -1: not chosen, 0: open."""

STANDSTILL, SHORTEST = 20, 1e-3
"""After so many rounds without progress steps are halved, until they are so short."""


def _compiled(function: Function) -> Function:
    """Compiles at the first call, for one thread; the machine code is kept on disk for later processes."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))


@_compiled
def best_edges(edges: Edges, subset: Flags, picks: Indices) -> float:
    """Collective performance of chosen sources (S,); ``picks`` (T,) gets the edge of each target, -1 if none."""
    total = 0.0
    for t in range(len(picks)):
        best, picks[t] = edges.unreached, -1
        for e in range(edges.first[t], edges.first[t + 1]):
            reached = True
            for j in range(edges.starts[e], edges.starts[e + 1]):
                if not subset[edges.needs[j]]:
                    reached = False
                    break
            if reached:
                best, picks[t] = edges.values[e], e
                break
        total += best
    return total


@_compiled
def uses(edges: Edges, picks: Indices, sources: Flags) -> bool:
    """Whether any of the picked edges (T,) needs one of these sources (S,)."""
    for pick in picks:
        for j in range(edges.starts[pick], edges.starts[pick + 1]):
            if sources[edges.needs[j]]:
                return True
    return False


@_compiled
def _priced(edges: Edges, state: States, prices: Floats, t: int, without: int) -> tuple[float, int]:
    """The best transfer of target t at prices (T, S) of open sources that does not need ``without``."""
    best, pick = edges.unreached, -1
    for e in range(edges.first[t], edges.first[t + 1]):
        value = edges.values[e]
        if value <= best:
            break
        for j in range(edges.starts[e], edges.starts[e + 1]):
            s = edges.needs[j]
            if state[s] < 0 or s == without:
                value = edges.unreached
            elif state[s] == 0:
                value -= prices[t, s]
            if value <= best:
                break
        if value > best:
            best, pick = value, e
    return best, pick


@_compiled
def _ranked(state: States, costs: Floats, worth: Floats, order: Indices) -> int:
    """Writes the open sources of positive worth into ``order`` (S,), most worth per cost first; how many."""
    count = 0
    for s in range(len(state)):
        if state[s] == 0 and worth[s] > 0:
            place = count
            while place > 0 and worth[order[place - 1]] * costs[s] < worth[s] * costs[order[place - 1]]:
                order[place] = order[place - 1]
                place -= 1
            order[place] = s
            count += 1
    return count


@_compiled
def _knapsack(costs: Floats, worth: Floats, order: Indices, count: int, capacity: float, without: int) -> float:
    """The most worth within the capacity; the last source may enter in part."""
    total = 0.0
    for place in range(count):
        s = order[place]
        if s == without:
            continue
        if costs[s] > capacity:
            total += worth[s] * capacity / costs[s]
            break
        capacity -= costs[s]
        total += worth[s]
    return total


@_compiled
def _fill(
    state: States, costs: Floats, order: Indices, count: int, capacity: float, share: Floats, subset: Flags
) -> None:
    """Fills the knapsack: ``share`` (S,) as the relaxation does, ``subset`` (S,) with whole sources, as many as fit."""
    for s in range(len(state)):
        share[s], subset[s] = 0.0, state[s] > 0
    full = False
    for place in range(count):
        s = order[place]
        if costs[s] <= capacity:
            capacity -= costs[s]
            subset[s] = True
            if not full:
                share[s] = 1.0
        elif not full:
            share[s], full = capacity / costs[s], True


@_compiled
def _turn(edges: Edges, state: States, share: Floats, picks: Indices, prices: Floats, direction: Floats) -> float:
    """Turns ``direction`` (T, S) to the subgradient, three parts of ten of its last value kept; its squared length."""
    norm = 0.0
    for t in range(len(picks)):
        for s in range(len(state)):
            direction[t, s] = 0.3 * direction[t, s] + share[s]
        if picks[t] >= 0:
            for j in range(edges.starts[picks[t]], edges.starts[picks[t] + 1]):
                direction[t, edges.needs[j]] -= 1.0
        for s in range(len(state)):
            if state[s] != 0 or (prices[t, s] <= 0 and direction[t, s] > 0):
                direction[t, s] = 0.0
            norm += direction[t, s] * direction[t, s]
    return norm


@_compiled
def ascend(
    edges: Edges,
    state: States,
    costs: Floats,
    capacity: float,
    low: float,
    slack: float,
    margin: float,
    rounds: int,
    multipliers: Floats,
    subset: Flags,
    pace: Floats,
) -> tuple[float, float]:
    """Lowers the bound by a projected subgradient method with Polyak's steps.

    Args:
        edges: The transfers.
        state: (S,) what is settled.
        costs: (S,) label costs.
        capacity: What the open sources may cost.
        low: The objective to beat; the ascent ends when the bound falls below it by more than ``slack``,
        slack: or when it comes as close as a tenth of that to what it aims at.
        margin: How far below ``low`` that is, as Polyak's steps come to what they aim at from above only; or the
            best objective found on the way, if higher.
        rounds: How many steps at most.
        multipliers: (T, S) where to start; gets those of the best bound.
        subset: (S,) gets the best of the tried sets of sources.
        pace: (2,) the length of steps and for how many rounds the bound has stood still; 0 when no step helps more.

    Returns:
        The bound, and the objective of ``subset``.
    """
    targets, sources = multipliers.shape
    prices, direction = np.empty((targets, sources)), np.zeros((targets, sources))
    worth, share, tried = np.empty(sources), np.empty(sources), np.empty(sources, np.bool_)
    order, picks, others = np.empty(sources, np.int64), np.empty(targets, np.int64), np.empty(targets, np.int64)
    for t in range(targets):
        for s in range(sources):
            prices[t, s] = multipliers[t, s]
    bound, objective = np.inf, -np.inf
    for _ in range(rounds):
        total = 0.0
        for s in range(sources):
            worth[s] = 0.0
        for t in range(targets):
            value, picks[t] = _priced(edges, state, prices, t, -1)
            total += value
            for s in range(sources):
                worth[s] += prices[t, s]
        count = _ranked(state, costs, worth, order)
        total += _knapsack(costs, worth, order, count, capacity, -1)
        _fill(state, costs, order, count, capacity, share, tried)
        value = best_edges(edges, tried, others)
        if value > objective:
            objective = value
            for s in range(sources):
                subset[s] = tried[s]
        aim = max(objective, low - margin)
        pace[1] += 1.0
        if total < bound:
            if total < bound - 1e-3 * (bound - aim):
                pace[1] = 0.0
            bound = total
            for t in range(targets):
                for s in range(sources):
                    multipliers[t, s] = prices[t, s]
        if bound < low - slack or bound <= aim + 0.1 * slack:
            pace[0] = 0.0
            break
        if pace[1] >= STANDSTILL:
            pace[0], pace[1] = 0.5 * pace[0], 0.0
            if pace[0] < SHORTEST:
                pace[0] = 0.0
                break
            for t in range(targets):
                for s in range(sources):
                    prices[t, s], direction[t, s] = multipliers[t, s], 0.0
            continue
        norm = _turn(edges, state, share, picks, prices, direction)
        if norm <= 0:
            pace[0] = 0.0
            break
        step = pace[0] * (total - aim) / norm
        for t in range(targets):
            for s in range(sources):
                prices[t, s] = max(0.0, prices[t, s] - step * direction[t, s])
    return bound, objective


@_compiled
def probe(
    edges: Edges, state: States, costs: Floats, capacity: float, multipliers: Floats, with_it: Floats, without: Floats
) -> None:
    """The bound if one open source is forced in, and if it is forced out.

    Args:
        edges: The transfers.
        state: (S,) what is settled.
        costs: (S,) label costs.
        capacity: What the open sources may cost.
        multipliers: (T, S).
        with_it: (S,) gets the bound with each open source, -inf where it does not fit.
        without: (S,) gets the bound without it.
    """
    targets, sources = multipliers.shape
    worth, order = np.zeros(sources), np.empty(sources, np.int64)
    total, losses = 0.0, np.zeros(sources)
    for t in range(targets):
        value, pick = _priced(edges, state, multipliers, t, -1)
        total += value
        if pick >= 0:
            for j in range(edges.starts[pick], edges.starts[pick + 1]):
                s = edges.needs[j]
                if state[s] == 0:
                    losses[s] += value - _priced(edges, state, multipliers, t, s)[0]
        for s in range(sources):
            worth[s] += multipliers[t, s]
    count = _ranked(state, costs, worth, order)
    for s in range(sources):
        if state[s] == 0:
            without[s] = total - losses[s] + _knapsack(costs, worth, order, count, capacity, s)
            with_it[s] = -np.inf
            if costs[s] <= capacity:
                with_it[s] = total + worth[s] + _knapsack(costs, worth, order, count, capacity - costs[s], s)


@_compiled
def improve(edges: Edges, state: States, costs: Floats, capacity: float, subset: Flags, tries: int) -> float:
    """Adds, and swaps a chosen source for another, as long as that raises the objective.

    Args:
        edges: The transfers.
        state: (S,) what is settled.
        costs: (S,) label costs.
        capacity: What the open sources may cost.
        subset: (S,) where to start, changed in place.
        tries: How many sets of sources to look at, at most.

    Returns:
        The objective.
    """
    sources = len(state)
    picks = np.empty(len(edges.first) - 1, np.int64)
    best = best_edges(edges, subset, picks)
    spent = 0.0
    for s in range(sources):
        if subset[s] and state[s] == 0:
            spent += costs[s]
    since, place = 0, 0
    while since < sources * (sources + 1) and tries > 0:
        out, into = place // sources - 1, place % sources  # out = -1: only add
        place = (place + 1) % (sources * (sources + 1))
        since += 1
        if subset[into] or state[into] != 0 or (out >= 0 and (not subset[out] or state[out] != 0)):
            continue
        change = costs[into] - (costs[out] if out >= 0 else 0.0)
        if spent + change > capacity:
            continue
        if out >= 0:
            subset[out] = False
        subset[into] = True
        tries -= 1
        value = best_edges(edges, subset, picks)
        if value > best:
            best, spent, since = value, spent + change, 0
        else:
            subset[into] = False
            if out >= 0:
                subset[out] = True
    return best
