"""The encoder of Taskonomy: a fully convolutional ResNet without pooling, read through a narrow representation."""

from pathlib import Path

from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.timm import create_features

__all__ = ["TaskonomyResNet"]


class TaskonomyResNet(Backbone):
    """A fully convolutional ResNet without pooling whose only output is a narrow map.

    Taskonomy (CVPR 2018), section 4: "a fully convolutional ResNet-50 without pooling"; the transfers read 8 channels
    at /16, made by a 3x3 convolution, batch normalisation and ReLU. The stem's max-pooling is a strided convolution
    here, which starts at random even with pretrained weights.

    Args:
        name: A ResNet of timm: ``resnet50``, ``resnet18``, ...; the shortcuts of some variants, such as ``resnet10t``,
            average pixels.
        channels: Channels of the representation.
        output_stride: Its reduction, 8, 16 or 32; strides beyond it are replaced by dilation.
        pretrained: Load timm's weights into the ResNet, downloaded or from its cache.
        weights: A local file instead: of timm's ResNet, or of a run of this library.
        width: The ResNet's channels are multiplied by this, to multiples of 2 (below 64) or 8; the representation's
            are not.
        stages: How many of the ResNet's four stages there are; 1 ends at /4, 2 at /8, whatever ``output_stride``.
        normalises: Whether images come in [0, 1] and are normalised here; false where the data's ``normalise`` does.

    Raises:
        InputError: The name is not that of a ResNet, a size is not allowed, or the weights do not fit.

    Example:
        >>> backbone = TaskonomyResNet("test_resnet")
        >>> backbone.out_channels, backbone.reductions
        ([8], [16])
    """

    def __init__(
        self,
        name: str = "resnet50",
        channels: int = 8,
        output_stride: int = 16,
        pretrained: bool = False,
        weights: str | Path | None = None,
        width: float = 1.0,
        stages: int = 4,
        *,
        normalises: bool = True,
    ) -> None:
        if output_stride not in (8, 16, 32) or channels < 1 or not 1 <= stages <= 4:
            raise InputError(
                f"TaskonomyResNet with channels={channels}, output_stride={output_stride}, stages={stages}: at least 1 "
                "channel at a stride of 8, 16 or 32, 1 to 4 stages"
            )
        super().__init__(normalises=normalises)
        self.model = create_features(
            name,
            pretrained=pretrained,
            weights=weights,
            width=width,
            out_indices=(stages,),
            output_stride=output_stride,
            replace_stem_pool=True,
        )
        self.compress = nn.Sequential(
            nn.Conv2d(self.model.feature_info.channels()[-1], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.out_channels, self.reductions = [channels], [min(output_stride, 2 ** (stages + 1))]
        if weights is not None:
            self.load_run(weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The representation (B, channels, H / r, W / r), r being its reduction."""
        return [self.compress(self.model(image)[-1])]
