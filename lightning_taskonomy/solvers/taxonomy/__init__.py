"""Which tasks to supervise and how to reach all others from them, under a budget of labels."""

from lightning_taskonomy.solvers.taxonomy.chance import Band, Chance, Compared, as_entry, measure_chance, read_solutions
from lightning_taskonomy.solvers.taxonomy.solution import TaxonomySolution
from lightning_taskonomy.solvers.taxonomy.solver import TaxonomySolver

__all__ = [
    "Band",
    "Chance",
    "Compared",
    "TaxonomySolution",
    "TaxonomySolver",
    "as_entry",
    "measure_chance",
    "read_solutions",
]
