"""The encoder of "Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020)."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.widths import scaled
from lightning_taskonomy.models.heads.base import BatchNorm
from lightning_taskonomy.models.heads.split import convolution
from lightning_taskonomy.models.heads.xception import separable

__all__ = ["Xception"]

_STEM, _ENTRY, _MIDDLE, _BLOCKS = (24, 48), (96, 192), 512, 4


class Xception(Backbone):
    """The modified Xception of the paper, section 4.2: 17 layers, 512 channels in the middle flow, no pooling.

    2 convolutions (24 and 48 channels), 3 blocks of 2 separable convolutions that halve the map (96, 192, 512), 4
    blocks of 2 at /16 (512), 1 separable convolution to 256 channels. At 256x256 it has 4.09 million weights and 2.26
    G multiply-adds; the paper has about 4 million and 2.28 G. The text leaves the channels outside the middle flow
    open; these are of the authors' code for the paper's first setting (https://github.com/tstandley/taskgrouping,
    ``xception_taskonomy_small``). A max-pooling of Xception is a plain 2x2 convolution of stride 2 from all channels to
    as many: depthwise ones would make 2.86 million and 1.69 G. ``docs/networks.md`` has all sizes.

    The heads are ``XceptionHead``: ``heads: {dense: {class_path: XceptionHead}, ...}``.

    Args:
        width: All channels but those of the output are multiplied by this, to multiples of 2 (below 64) or 8.
        channels: Channels of the output. They are the same at every width, so that decoders are, too.
        weights: A local file, of a run of this library.

    Raises:
        InputError: A layer would be without channels, or the weights do not fit.

    Example:
        >>> backbone = Xception(width=0.25)
        >>> backbone.out_channels, backbone.reductions
        ([256], [16])
    """

    def __init__(self, width: float = 1.0, channels: int = 256, weights: str | Path | None = None) -> None:
        if channels < 1:
            raise InputError(f"Xception with channels={channels}: at least 1 channel")
        super().__init__()
        stem, before = (scaled(count, width) for count in _STEM)
        middle = scaled(_MIDDLE, width)
        self.stem = nn.Sequential(
            convolution(3, stem, stride=2),
            BatchNorm(stem),
            nn.ReLU(),
            convolution(stem, before),
            BatchNorm(before),
            nn.ReLU(),
        )
        blocks: list[nn.Module] = []
        for after in (*(scaled(count, width) for count in _ENTRY), middle):
            blocks.append(_Block(before, after, halve=True, activate=bool(blocks)))  # a ReLU ends the stem
            before = after
        self.blocks = nn.Sequential(*blocks, *(_Block(middle, middle) for _ in range(_BLOCKS)))
        self.exit = nn.Sequential(separable(middle, channels), BatchNorm(channels), nn.ReLU())
        self.out_channels, self.reductions = [channels], [16]
        if weights is not None:
            self.load_run(weights)

    def features(self, image: Tensor) -> list[Tensor]:
        """The map (B, channels, H / 16, W / 16), sides rounded up."""
        return [self.exit(self.blocks(self.stem(image)))]


class _Block(nn.Module):
    """Two separable convolutions beside a shortcut; with ``halve`` a 2x2 convolution of stride 2 behind them."""

    def __init__(self, in_channels: int, out_channels: int, *, halve: bool = False, activate: bool = True) -> None:
        super().__init__()
        self.activate = activate
        self.first = nn.Sequential(separable(in_channels, out_channels), BatchNorm(out_channels))
        self.second = nn.Sequential(separable(out_channels, out_channels), BatchNorm(out_channels))
        self.halve: nn.Conv2d | None = None
        self.shortcut: nn.Module = nn.Identity()
        if halve:
            self.halve = nn.Conv2d(out_channels, out_channels, 2, stride=2)
            nn.init.kaiming_normal_(self.halve.weight, nonlinearity="linear")
            if self.halve.bias is not None:
                nn.init.zeros_(self.halve.bias)
            self.shortcut = nn.Sequential(convolution(in_channels, out_channels, 1, stride=2), BatchNorm(out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h, w) or half that size, sides rounded up."""
        residual = self.first(F.relu(maps) if self.activate else maps)
        residual = self.second(F.relu(residual))
        if self.halve is not None:
            height, width = residual.shape[-2:]
            if height % 2 or width % 2:
                residual = F.pad(residual, (0, width % 2, 0, height % 2))
            residual = self.halve(residual)
        result: Tensor = residual + self.shortcut(maps)
        return result
