"""HRNetV2: four resolutions side by side."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.timm import create_features
from lightning_taskonomy.models.backbones.widths import check_width
from lightning_taskonomy.models.resize import resize

__all__ = ["HRNetV2"]

_PUBLISHED = (18, 30, 32, 40, 44, 48, 64)


class HRNetV2(Backbone):
    """The four branches of an HRNet, enlarged bilinearly to /4 and concatenated.

    Wang et al. 2020, "Deep High-Resolution Representation Learning for Visual Recognition", section 3.3: the HRNetV2
    representation, 15 times ``width`` channels. Its branches fit together where both sides of an image are multiples of
    32; others are padded.

    Args:
        width: Channels of the finest branch: 18, 30, 32, 40, 44, 48 and 64 are published. Another number multiplies all
            channels of the next wider of them (or of 64), to multiples of 2 (below 64) or 8.
        pretrained: Load timm's weights, downloaded or from its cache.
        weights: A local file instead: of timm's HRNet, or of a run of this library.
        normalises: Whether images come in [0, 1] and are normalised here; false where the data's ``normalise`` does.

    Raises:
        InputError: The width is too small, or the weights do not fit.
    """

    multiple = 32

    def __init__(
        self,
        width: float = 18.0,
        pretrained: bool = False,
        weights: str | Path | None = None,
        *,
        normalises: bool = True,
    ) -> None:
        super().__init__(normalises=normalises)
        check_width(width)
        published = min((one for one in _PUBLISHED if one >= width), default=_PUBLISHED[-1])
        # An empty feature_location gives the branches; timm's default gives the classifier's widened maps.
        self.model = create_features(
            f"hrnet_w{published}",
            pretrained=pretrained,
            weights=weights,
            width=width / published,
            out_indices=(1, 2, 3, 4),
            feature_location="",
        )
        self.out_channels, self.reductions = [sum(self.model.feature_info.channels())], [4]
        if weights is not None:
            self.load_run(weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The representation (B, about 15 * width, H / 4, W / 4)."""
        branches = self.model(image)
        return [torch.cat([resize(branch, branches[0].shape[-2:]) for branch in branches], dim=1)]
