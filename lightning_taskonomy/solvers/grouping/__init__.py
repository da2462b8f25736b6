"""Which trained networks to keep under an inference budget."""

from lightning_taskonomy.solvers.grouping.pessimal import pessimal
from lightning_taskonomy.solvers.grouping.scoring import score, select_again, served
from lightning_taskonomy.solvers.grouping.solution import GroupingSolution
from lightning_taskonomy.solvers.grouping.solver import GroupingSolver

__all__ = ["GroupingSolution", "GroupingSolver", "pessimal", "score", "select_again", "served"]
