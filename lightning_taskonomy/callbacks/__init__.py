"""Callbacks: Task Meta-Transfer, weightings of tasks, scores, predictions, best weights, history, resuming."""

from lightning_taskonomy.callbacks.best import BestWeights
from lightning_taskonomy.callbacks.dry_pass import DryPass
from lightning_taskonomy.callbacks.history import History
from lightning_taskonomy.callbacks.meta_transfer import TaskMetaTransfer
from lightning_taskonomy.callbacks.predictions import PredictionWriter
from lightning_taskonomy.callbacks.resume import ResumeCheckpoint
from lightning_taskonomy.callbacks.scores import ScoreWriter
from lightning_taskonomy.callbacks.weighting import (
    CosineWeighting,
    GradientAggregation,
    KendallWeighting,
    MetaWeighting,
)

__all__ = [
    "BestWeights",
    "CosineWeighting",
    "DryPass",
    "GradientAggregation",
    "History",
    "KendallWeighting",
    "MetaWeighting",
    "PredictionWriter",
    "ResumeCheckpoint",
    "ScoreWriter",
    "TaskMetaTransfer",
]
