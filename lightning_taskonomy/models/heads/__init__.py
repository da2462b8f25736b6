"""From feature maps to one task's output."""

from lightning_taskonomy.models.heads.base import Head, merge_views
from lightning_taskonomy.models.heads.dense import DenseHead
from lightning_taskonomy.models.heads.split import SplitResHead, SplitVGGHead
from lightning_taskonomy.models.heads.vector import ClassificationHead, VectorHead

__all__ = [
    "ClassificationHead",
    "DenseHead",
    "Head",
    "SplitResHead",
    "SplitVGGHead",
    "VectorHead",
    "merge_views",
]
