"""A good taxonomy at once, for when the time limit ends an exact search early."""

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.table import incidence
from lightning_taskonomy.solvers.problem import TaxonomyProblem

__all__ = ["greedy"]


def greedy(problem: TaxonomyProblem, budget: float) -> NDArray[np.bool_] | None:
    """Adds the source that raises the objective most per label cost, until none does or the budget is spent.

    Reaching one more target counts for more than any affinity.

    Returns:
        (S,) the chosen sources; None if they do not reach every target.
    """
    targets = list(problem.edges)
    rows = [row for target in targets for row in problem.edges[target]]
    owner = np.repeat(np.arange(len(targets)), [len(problem.edges[target]) for target in targets])
    values = problem.performance.coefficients
    needs = incidence(rows, problem.sources)
    unreached = -1.0 - values.sum()
    chosen = problem.required.copy()
    while True:
        absent = needs & ~chosen
        missing = absent.sum(axis=1)
        now = np.full(len(targets), unreached)
        np.maximum.at(now, owner[missing == 0], values[missing == 0])
        then = np.repeat(now[:, None], len(chosen), axis=1)
        one = np.flatnonzero(missing == 1)
        np.maximum.at(then, (owner[one], absent[one].argmax(axis=1)), values[one])
        gains = (then - now[:, None]).sum(axis=0)
        gains[chosen | (problem.costs > budget - problem.cost(chosen))] = 0
        if not (gains > 0).any():
            break
        chosen[np.argmax(gains / np.maximum(problem.costs, 1e-12))] = True
    reached = problem.policy(chosen) is not None and problem.cost(chosen) <= budget
    return chosen if reached else None
