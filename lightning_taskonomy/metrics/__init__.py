"""Metrics that torchmetrics lacks."""

from lightning_taskonomy.metrics.objects import KeypointAveragePrecision, ObjectAveragePrecision
from lightning_taskonomy.metrics.values import (
    AngularError,
    DeltaAccuracy,
    MaskedMeanAbsoluteError,
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
    "ObjectAveragePrecision",
    "PairAccuracy",
    "angles",
    "delta_accuracy",
    "pair_agreement",
]
