"""Gradient mathematics, without a trainer: the exact meta-gradient of Task Meta-Transfer, and task weightings."""

from lightning_taskonomy.optim.aggregation import Aggregation, AggregatorName
from lightning_taskonomy.optim.late import LateFlags
from lightning_taskonomy.optim.meta_gradient import (
    Branch,
    MetaBatch,
    MetaGradient,
    MetaOptions,
    MetaStep,
    meta_gradient,
)
from lightning_taskonomy.optim.min_norm import min_norm_weights
from lightning_taskonomy.optim.processes import any_process
from lightning_taskonomy.optim.projection import Diagonal, Full, Identity, LowRank, Projection, Scalar, project
from lightning_taskonomy.optim.state import PassState
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
    "Identity",
    "LateFlags",
    "LowRank",
    "MetaBatch",
    "MetaGradient",
    "MetaOptions",
    "MetaStep",
    "PassState",
    "Projection",
    "Scalar",
    "UncertaintyWeighting",
    "any_process",
    "cosine_weight",
    "grad_norm_slopes",
    "gradient_cosine",
    "meta_gradient",
    "meta_weight_gradients",
    "min_norm_weights",
    "project",
]
