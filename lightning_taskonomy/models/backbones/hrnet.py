"""HRNetV2: four resolutions side by side."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.timm import create_features
from lightning_taskonomy.models.resize import resize

__all__ = ["HRNetV2"]


class HRNetV2(Backbone):
    """The four branches of an HRNet, enlarged bilinearly to /4 and concatenated.

    Wang et al. 2020, "Deep High-Resolution Representation Learning for Visual Recognition", section 3.3: the HRNetV2
    representation, 15 times ``width`` channels.

    Args:
        width: Channels of the finest branch.
        pretrained: Load timm's weights, downloaded or from its cache.
        weights: A local file instead: of timm's HRNet, or of a run of this library.

    Raises:
        InputError: The weights do not fit.
    """

    def __init__(
        self,
        width: Literal[18, 30, 32, 40, 44, 48, 64] = 18,
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        # An empty feature_location gives the branches; timm's default gives the classifier's widened maps.
        self.model = create_features(
            f"hrnet_w{width}", pretrained=pretrained, weights=weights, out_indices=(1, 2, 3, 4), feature_location=""
        )
        self.out_channels, self.reductions = [sum(self.model.feature_info.channels())], [4]
        if weights is not None:
            self.load_run(weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The representation (B, 15 * width, H / 4, W / 4)."""
        branches = self.model(image)
        return [torch.cat([resize(branch, branches[0].shape[-2:]) for branch in branches], dim=1)]
