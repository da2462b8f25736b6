"""SplitVGG and SplitRes: an encoder and the first blocks of its mirrored decoder.

"Task Meta-Transfer from Limited Parallel Labels", section 4.2: VGG16 (with batch normalisation) or ResNet-18, a
decoder that mirrors it, and a split at the x-th block of the decoder: what lies before it is the backbone, what comes
after it exists once per task (``SplitVGGHead``, ``SplitResHead``).

The paper states three facts about SplitVGG: 128 channels at the split x = 3, "the encoder and the first 2 blocks"
before it, about 98 % of the weights in the backbone at x = 2 but about 50 % at x = 5. The shares fall as x grows, so
blocks are numbered here as the stages of the encoder that they mirror: block 5 stands next to the encoder, block 1 next
to the output, and at x = 3 the first two blocks (5 and 4) lie in the backbone. A plain mirror of VGG16 then has 256
channels at x = 3. ``SplitVGG`` therefore gives up channels one block earlier: its blocks 5 to 1 end with 256, 128, 128,
64 and 64 channels where the plain mirror has 512, 256, 128, 64 and 64. Of the weights of the backbone and two heads,
97.7 % are then in the backbone at x = 2 and 47.7 % at x = 5, and all three facts hold. With ``unpooling`` the decoder
is the plain mirror, since max-unpooling needs as many channels as were pooled: 256 channels at x = 3, 98.2 % at x = 2,
33.3 % at x = 5 (50.0 % of the backbone and one head). ``docs/meta_transfer.md`` has the table for every x.
"""

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.timm import create_features
from lightning_taskonomy.models.heads.base import BatchNorm
from lightning_taskonomy.models.heads.split import RESIDUAL, VGG, VGG_UNPOOLED, Block, Residual, convolution, decode
from lightning_taskonomy.models.weights import assign_weights, backbone_weights, read_weights

__all__ = ["SplitRes", "SplitVGG"]

_LEVELS = 5
_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # VGG16: multiples of the width, and convolutions
_SMALLEST = 2**_LEVELS
_CLASSIFIERS = ("classifier.", "fc.", "head.", "pre_logits.")  # of torchvision and timm


class _Split(Backbone):
    """What both have in common: the checks, the blocks above the split, pretrained encoders."""

    model: nn.Module

    def __init__(self, split: int, width: int, channels: tuple[int, ...]) -> None:
        if not 1 <= split <= _LEVELS or width < 1:
            raise InputError(
                f"{type(self).__name__} with split={split}, width={width}: split at a block from 1 (next to the "
                f"output) to {_LEVELS} (next to the encoder), at least 1 channel"
            )
        super().__init__()
        self.out_channels, self.reductions = [width * channels[split]], [2**split]
        self.decoder = nn.ModuleList(Block(level, width, channels) for level in range(_LEVELS, split, -1))
        self.split = split

    def _check_size(self, image: Tensor) -> tuple[int, int]:
        height, width = image.shape[-2:]
        if min(height, width) < _SMALLEST:
            raise InputError(
                f"{type(self).__name__} got images of {height}x{width} pixels; at least {_SMALLEST}x{_SMALLEST}"
            )
        return height, width

    def _load_encoder(self, name: str, pretrained: bool, weights: str | Path | None) -> None:
        """Weights of the plain network into the encoder, or those of a run of this library into the whole backbone."""
        state: Mapping[str, Tensor]
        if weights is not None:
            state = read_weights(weights)
            if backbone_weights(state) is not None:
                return self.load_run(weights)
        elif pretrained:
            state = create_features(name, pretrained=True).state_dict()
        else:
            return None
        names = {key: key.removeprefix("features_").removeprefix("features.") for key in state}
        body = {names[key]: value for key, value in state.items() if not key.startswith(_CLASSIFIERS)}
        return assign_weights(self.model, body, origin=str(weights or name))


class SplitVGG(_Split):
    """VGG16-BN and its mirrored decoder's blocks before the split; see the module's text on widths and numbers.

    The heads are ``SplitVGGHead``: ``heads: {dense: {class_path: SplitVGGHead}, ...}``.

    Args:
        split: The block at which tasks part, 5 (right after the encoder) to 1.
        unpooling: Unpool at the encoder's maxima, as SegNet does, instead of enlarging bilinearly; the decoder then is
            the plain mirror. Behind the map ``features`` gives the indices of levels x to 1, int64, which the heads
            read and nothing else does.
        width: Channels of the first stage; 64 is VGG16.
        pretrained: Load timm's ``vgg16_bn`` into the encoder, downloaded or from its cache.
        weights: A local file instead: of timm's or torchvision's ``vgg16_bn``, or of a run of this library.

    Raises:
        InputError: No such block, or the weights do not fit.

    Example:
        >>> backbone = SplitVGG(split=3, width=8)
        >>> backbone.out_channels, backbone.reductions
        ([16], [8])
    """

    model: nn.ModuleList

    def __init__(
        self,
        split: int = 3,
        unpooling: bool = False,
        width: int = 64,
        pretrained: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(split, width, VGG_UNPOOLED if unpooling else VGG)
        self.unpooling = unpooling
        layers: list[nn.Module] = []
        before = 3
        for multiple, count in _STAGES:
            for _ in range(count):
                after = multiple * width
                layers += [convolution(before, after, bias=True), BatchNorm(after), nn.ReLU(inplace=True)]
                before = after
            layers.append(nn.MaxPool2d(2, return_indices=unpooling))
        self.model = nn.ModuleList(layers)
        self._load_encoder("vgg16_bn", pretrained, weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The map (B, C, H / 2^x, W / 2^x); with ``unpooling`` the indices of levels x to 1 behind it."""
        size, maps = self._check_size(image), image
        indices: dict[int, Tensor] = {}
        for layer in self.model:
            maps = layer(maps)
            if isinstance(maps, tuple):
                maps, indices[len(indices) + 1] = maps
        read = [indices[level] for level in range(self.split, 0, -1)] if self.unpooling else []
        return [decode(self.decoder, maps, size, indices), *read]


class _Encoder(nn.Module):
    """ResNet-18 without its classifier; parameters are named as in its files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, width, 7, stride=2), BatchNorm(width)
        self.layer1 = nn.Sequential(Residual(width, width), Residual(width, width))
        self.layer2 = nn.Sequential(Residual(width, 2 * width, 2), Residual(2 * width, 2 * width))
        self.layer3 = nn.Sequential(Residual(2 * width, 4 * width, 2), Residual(4 * width, 4 * width))
        self.layer4 = nn.Sequential(Residual(4 * width, 8 * width, 2), Residual(8 * width, 8 * width))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 8 * width, H / 32, W / 32)."""
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
        return maps


class SplitRes(_Split):
    """ResNet-18 and its mirrored decoder's blocks before the split.

    Blocks 5 to 2 mirror the four stages: two residual blocks, then bilinear enlargement; block 1 mirrors the stem. At
    x = 3 the map has 128 channels. The heads are ``SplitResHead``.

    Args:
        split: The block at which tasks part, 5 (right after the encoder) to 1.
        width: Channels of the first stage; 64 is ResNet-18.
        pretrained: Load timm's ``resnet18`` into the encoder, downloaded or from its cache.
        weights: A local file instead: of timm's or torchvision's ``resnet18``, or of a run of this library.

    Raises:
        InputError: No such block, or the weights do not fit.
    """

    def __init__(
        self, split: int = 3, width: int = 64, pretrained: bool = False, weights: str | Path | None = None
    ) -> None:
        super().__init__(split, width, RESIDUAL)
        self.model = _Encoder(width)
        self._load_encoder("resnet18", pretrained, weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The map (B, C, H / 2^x, W / 2^x)."""
        return [decode(self.decoder, self.model(image), self._check_size(image), {})]
