"""A backbone that knows nothing: the random-encoder reference."""

import math

import torch
from torch import Tensor, nn

from lightning_taskonomy.models.backbones.base import Backbone

__all__ = ["GaussianBackbone"]


class GaussianBackbone(Backbone):
    """Another backbone with every weight drawn anew: Gaussian of variance 2 / fan-in, norms at 1 and 0.

    The readout on a Gaussian-random encoder of Taskonomy (Table 1, "rand"). Networks are often initialised otherwise
    where that trains better (residual branches that start at zero), and would then be no random features.

    Args:
        backbone: The backbone whose form is taken.
        seed: The same seed draws the same weights.
    """

    def __init__(self, backbone: Backbone, seed: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.out_channels, self.reductions = list(backbone.out_channels), list(backbone.reductions)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in backbone.named_parameters():
                if parameter.dim() > 1:
                    std = math.sqrt(2 / parameter[0].numel())
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
                else:
                    nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)

    def forward(self, image: Tensor) -> list[Tensor]:
        """As the backbone, which normalises the image itself."""
        features: list[Tensor] = self.backbone(image)
        return features
