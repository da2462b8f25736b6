"""The report of a table of groupings."""

from lightning_taskonomy.reports.grouping.report import write_groupings, write_solved_groupings

__all__ = ["write_groupings", "write_solved_groupings"]
