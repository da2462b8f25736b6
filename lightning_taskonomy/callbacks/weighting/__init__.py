"""Weightings of tasks as callbacks: by uncertainty, by their gradients, by a meta-gradient."""

from lightning_taskonomy.callbacks.weighting.aggregation import GradientAggregation
from lightning_taskonomy.callbacks.weighting.cosine import CosineWeighting
from lightning_taskonomy.callbacks.weighting.grad_norm import GradNormWeighting
from lightning_taskonomy.callbacks.weighting.kendall import KendallWeighting
from lightning_taskonomy.callbacks.weighting.meta import MetaWeighting
from lightning_taskonomy.callbacks.weighting.mgda import MGDAUpperBound

__all__ = [
    "CosineWeighting",
    "GradNormWeighting",
    "GradientAggregation",
    "KendallWeighting",
    "MGDAUpperBound",
    "MetaWeighting",
]
