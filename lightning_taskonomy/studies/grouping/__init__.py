"""Which tasks to learn together under an inference budget."""

from lightning_taskonomy.studies.grouping.settings import GroupingSettings
from lightning_taskonomy.studies.grouping.study import GroupingStudy

__all__ = ["GroupingSettings", "GroupingStudy"]
