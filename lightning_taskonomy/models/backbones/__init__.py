"""From images to feature maps."""

from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.hrnet import HRNetV2
from lightning_taskonomy.models.backbones.random import GaussianBackbone
from lightning_taskonomy.models.backbones.shrink import multiply_adds, shrunk
from lightning_taskonomy.models.backbones.split import SplitRes, SplitVGG
from lightning_taskonomy.models.backbones.taskonomy import TaskonomyResNet
from lightning_taskonomy.models.backbones.timm import TimmBackbone
from lightning_taskonomy.models.backbones.xception import Xception
from lightning_taskonomy.models.weights import read_weights

__all__ = [
    "Backbone",
    "GaussianBackbone",
    "HRNetV2",
    "SplitRes",
    "SplitVGG",
    "TaskonomyResNet",
    "TimmBackbone",
    "Xception",
    "multiply_adds",
    "read_weights",
    "shrunk",
]
