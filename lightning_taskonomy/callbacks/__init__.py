"""Callbacks: Task Meta-Transfer, weightings of tasks, scores, predictions as pictures, checkpoints to resume from."""

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
    "CosineWeighting",
    "GradientAggregation",
    "KendallWeighting",
    "MetaWeighting",
    "PredictionWriter",
    "ResumeCheckpoint",
    "ScoreWriter",
    "TaskMetaTransfer",
]
