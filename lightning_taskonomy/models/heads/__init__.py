"""From feature maps to one task's output."""

from lightning_taskonomy.models.heads.base import Head, merge_views
from lightning_taskonomy.models.heads.center import CenterHead, KeypointHead
from lightning_taskonomy.models.heads.conflicting import ConflictingHead
from lightning_taskonomy.models.heads.dense import DenseHead
from lightning_taskonomy.models.heads.hrnet import HRNetClassificationHead
from lightning_taskonomy.models.heads.linear import LinearDepthHead, LinearHead
from lightning_taskonomy.models.heads.split import SplitResHead, SplitVGGHead
from lightning_taskonomy.models.heads.vector import ClassificationHead, VectorHead
from lightning_taskonomy.models.heads.xception import XceptionHead

__all__ = [
    "CenterHead",
    "ClassificationHead",
    "ConflictingHead",
    "DenseHead",
    "HRNetClassificationHead",
    "Head",
    "KeypointHead",
    "LinearDepthHead",
    "LinearHead",
    "SplitResHead",
    "SplitVGGHead",
    "VectorHead",
    "XceptionHead",
    "merge_views",
]
