"""Callbacks: Task Meta-Transfer, weightings and affinities of tasks, scores, predictions, best weights, checkpoints."""

from lightning_taskonomy.callbacks.affinity import TaskAffinity
from lightning_taskonomy.callbacks.best import BestWeights
from lightning_taskonomy.callbacks.dry_pass import DryPass
from lightning_taskonomy.callbacks.meta_transfer import TaskMetaTransfer
from lightning_taskonomy.callbacks.predictions import PredictionWriter
from lightning_taskonomy.callbacks.resume import ResumeCheckpoint
from lightning_taskonomy.callbacks.scores import ScoreWriter
from lightning_taskonomy.callbacks.weighting import (
    CosineWeighting,
    GradientAggregation,
    GradNormWeighting,
    KendallWeighting,
    MetaWeighting,
    MGDAUpperBound,
)

__all__ = [
    "BestWeights",
    "CosineWeighting",
    "DryPass",
    "GradNormWeighting",
    "GradientAggregation",
    "KendallWeighting",
    "MGDAUpperBound",
    "MetaWeighting",
    "PredictionWriter",
    "ResumeCheckpoint",
    "ScoreWriter",
    "TaskAffinity",
    "TaskMetaTransfer",
]
