"""The report of a Taskonomy study, and of a table of transfers."""

from lightning_taskonomy.reports.taxonomy.report import TaxonomyReport
from lightning_taskonomy.reports.taxonomy.solved import write_solved_taxonomy

__all__ = ["TaxonomyReport", "write_solved_taxonomy"]
