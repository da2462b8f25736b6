"""Decisions under a budget: from measurements to what to train. NumPy, SciPy and python-mip only."""

from lightning_taskonomy.solvers.base import Solution
from lightning_taskonomy.solvers.grouping import GroupingSolution, GroupingSolver
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution, TaxonomySolver

__all__ = ["GroupingSolution", "GroupingSolver", "Solution", "TaxonomySolution", "TaxonomySolver"]
