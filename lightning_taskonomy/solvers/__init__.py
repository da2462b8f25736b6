"""Decisions under a budget: from measurements to what to train. NumPy, SciPy and python-mip only."""

from lightning_taskonomy.solvers.base import Solution
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver, solve_taxonomy

__all__ = ["Solution", "TaxonomySolution", "TaxonomySolver", "solve_taxonomy"]
