"""Factors of influence: which source helps which target, across image domains and task types."""

from lightning_taskonomy.studies.influence.settings import ImageSet, Training
from lightning_taskonomy.studies.influence.study import InfluenceStudy

__all__ = ["ImageSet", "InfluenceStudy", "Training"]
