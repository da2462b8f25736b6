"""The report of a study of transfer chains."""

from lightning_taskonomy.reports.influence.report import InfluenceReport

__all__ = ["InfluenceReport"]
