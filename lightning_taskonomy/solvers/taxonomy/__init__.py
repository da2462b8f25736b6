"""Which tasks to supervise and how to reach all others from them, under a budget of labels."""

from lightning_taskonomy.solvers.taxonomy.solution import TaxonomySolution
from lightning_taskonomy.solvers.taxonomy.solver import TaxonomySolver

__all__ = ["TaxonomySolution", "TaxonomySolver"]
