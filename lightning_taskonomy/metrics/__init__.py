"""Metrics that torchmetrics lacks."""

from lightning_taskonomy.metrics.objects import KeypointAveragePrecision, ObjectAveragePrecision
from lightning_taskonomy.metrics.values import (
    AngularError,
    DeltaAccuracy,
    MaskedMeanAbsoluteError,
    MaskedRootMeanSquaredError,
    PairAccuracy,
    angles,
    delta_accuracy,
    pair_agreement,
)

__all__ = [
    "AngularError",
    "DeltaAccuracy",
    "KeypointAveragePrecision",
    "MaskedMeanAbsoluteError",
    "MaskedRootMeanSquaredError",
    "ObjectAveragePrecision",
    "PairAccuracy",
    "angles",
    "delta_accuracy",
    "pair_agreement",
]
