"""Callbacks: per-image scores, predictions as pictures, checkpoints to resume from."""

from lightning_taskonomy.callbacks.predictions import PredictionWriter
from lightning_taskonomy.callbacks.resume import ResumeCheckpoint
from lightning_taskonomy.callbacks.scores import ScoreWriter

__all__ = ["PredictionWriter", "ResumeCheckpoint", "ScoreWriter"]
