"""What to train next, where all groups are too many: pairs, then what the choice asks for, until the choice stands.

The Higher Order Approximation of "Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al.,
ICML 2020, section 3.3.2), applied again whenever networks that it chose have been trained.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from lightning_taskonomy.affinity.groupings import GroupingsTable, NetworkKey, completed
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution
from lightning_taskonomy.solvers.grouping.solver import GroupingSolver

__all__ = ["NextTrainings", "Price", "next_trainings"]


Price = Callable[[GroupingsTable], GroupingsTable]
"""Gives a table, whose costs are sizes, the costs that budgets count."""


@dataclass(frozen=True)
class NextTrainings:
    """What a search asks for.

    Args:
        networks: What to train next, by tasks and cost; none if the choice stands.
        solutions: The choice for each budget by what is measured and predicted; none before the pairs are trained.
    """

    networks: tuple[NetworkKey, ...]
    solutions: tuple[GroupingSolution, ...] = ()


def next_trainings(
    measured: GroupingsTable | None,
    candidates: Collection[NetworkKey],
    budgets: Sequence[float],
    solver: GroupingSolver | None = None,
    price: Price = lambda table: table,
) -> NextTrainings:
    """One round of the search: which candidates to train, from the losses measured so far.

    First all candidates of one and two tasks. Then the losses of those not yet measured are predicted from the pairs,
    corrected by what larger networks reached (:func:`~lightning_taskonomy.affinity.groupings.completed`); the networks
    are chosen for each budget as if predictions were measurements; and those of the choices that are not trained are
    asked for. Trained and measured, they go into ``measured`` and this is called again, until nothing is asked for:
    then the choice of each budget consists of measured networks.

    It ends, as each round asks for candidates that were not asked for before. The last choice is optimal among the
    measured networks, those that the Higher Order Approximation alone would choose among them, as they are what the
    first round asks for. It need not be the best of all candidates: a network that is better than it is predicted may
    never be asked for.

    Args:
        measured: Losses by which networks are chosen, such as validation losses; None before any.
        candidates: All networks that may be trained, such as :func:`~.candidate_groups` gives; one that cannot be
            trained is left out of them, and never asked for.
        budgets: The budgets that the choice is for.
        solver: How to choose; its own budget plays no part.
        price: Gives a table, whose costs are sizes, the costs that budgets count.

    Raises:
        InputError: As ``GroupingSolver.sweep``, or the candidates do not serve each task.
    """
    trained = {} if measured is None else measured.by_key
    small = tuple(key for key in dict.fromkeys(candidates) if len(key[0]) < 3 and key not in trained)
    if small or measured is None:
        return NextTrainings(small)
    table = price(completed(measured, candidates))
    solutions = tuple((solver or GroupingSolver()).sweep(table, budgets, skip_infeasible=True))
    asked = {(network.tasks, network.size) for solution in solutions for network in solution.networks} - trained.keys()
    return NextTrainings(tuple(key for key in dict.fromkeys(candidates) if key in asked), solutions)
