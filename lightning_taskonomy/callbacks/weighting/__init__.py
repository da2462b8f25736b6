"""Weightings of tasks as callbacks: by uncertainty, by gradient cosines, by a meta-gradient, by aggregation."""

from lightning_taskonomy.callbacks.weighting.aggregation import GradientAggregation
from lightning_taskonomy.callbacks.weighting.cosine import CosineWeighting
from lightning_taskonomy.callbacks.weighting.kendall import KendallWeighting
from lightning_taskonomy.callbacks.weighting.meta import MetaWeighting

__all__ = ["CosineWeighting", "GradientAggregation", "KendallWeighting", "MetaWeighting"]
