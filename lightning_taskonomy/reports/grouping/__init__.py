"""The report of a grouping study, and of a table of groupings."""

from lightning_taskonomy.reports.grouping.report import write_groupings, write_solved_groupings
from lightning_taskonomy.reports.grouping.study import GroupingReport

__all__ = ["GroupingReport", "write_groupings", "write_solved_groupings"]
