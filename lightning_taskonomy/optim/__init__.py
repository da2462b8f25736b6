"""Gradient mathematics, without a trainer: the exact meta-gradient of Task Meta-Transfer, and task weightings."""

from lightning_taskonomy.optim.aggregation import Aggregation, AggregatorName
from lightning_taskonomy.optim.late import LateFlags
from lightning_taskonomy.optim.meta_batch import Branch, HeldOut, MetaBatch, MetaOptions
from lightning_taskonomy.optim.meta_gradient import MetaGradient, MetaStep, meta_gradient
from lightning_taskonomy.optim.min_norm import min_norm_weights
from lightning_taskonomy.optim.processes import any_process
from lightning_taskonomy.optim.projection import (
    Diagonal,
    Full,
    Identity,
    LowRank,
    Normalized,
    Projection,
    Scalar,
    project,
)
from lightning_taskonomy.optim.state import PassState
from lightning_taskonomy.optim.virtual_step import GradientStep, Inner, OptimizerStep, VirtualStep
from lightning_taskonomy.optim.weighting import (
    UncertaintyWeighting,
    cosine_weight,
    grad_norm_slopes,
    gradient_cosine,
    meta_weight_gradients,
)

__all__ = [
    "Aggregation",
    "AggregatorName",
    "Branch",
    "Diagonal",
    "Full",
    "GradientStep",
    "HeldOut",
    "Identity",
    "Inner",
    "LateFlags",
    "LowRank",
    "MetaBatch",
    "MetaGradient",
    "MetaOptions",
    "MetaStep",
    "Normalized",
    "OptimizerStep",
    "PassState",
    "Projection",
    "Scalar",
    "UncertaintyWeighting",
    "VirtualStep",
    "any_process",
    "cosine_weight",
    "grad_norm_slopes",
    "gradient_cosine",
    "meta_gradient",
    "meta_weight_gradients",
    "min_norm_weights",
    "project",
]
