"""Which trained networks to keep under an inference budget."""

from lightning_taskonomy.solvers.grouping.comparison import ApproximationRow, approximation_rows, searched
from lightning_taskonomy.solvers.grouping.pessimal import pessimal
from lightning_taskonomy.solvers.grouping.scoring import score, select_again, served
from lightning_taskonomy.solvers.grouping.search import NextTrainings, next_trainings
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution
from lightning_taskonomy.solvers.grouping.solver import GroupingSolver

__all__ = [
    "ApproximationRow",
    "GroupingSolution",
    "GroupingSolver",
    "NextTrainings",
    "approximation_rows",
    "next_trainings",
    "pessimal",
    "score",
    "searched",
    "select_again",
    "served",
]
