"""The decoder of "Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.models.heads.base import BatchNorm, Head, initialise_output
from lightning_taskonomy.models.heads.dense import DenseHead
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["XceptionHead", "separable"]

_COARSE, _FIRST = 16, 96
_STAGES = ((96, 64, 3), (64, 64, 5), (32, 32, 5))  # channels of transposed and separable convolution, its kernel
_LAST = 32  # channels of the fourth transposed convolution; the fourth separable one is the output


class XceptionHead(Head):
    """The light decoder: four transposed and four separable convolutions, about 116,000 weights.

    Section 4.2 of the paper has these figures; the channels are those of the authors' code for its first setting
    (https://github.com/tstandley/taskgrouping, ``xception_taskonomy_small``), which the figures fit. There, and here,
    two more separable convolutions read the encoder's map: one to 96 channels for the decoder, one to 16 channels that
    are enlarged bilinearly and stand beside the full-size map before the output layer.

    The coarsest map is read. Where it is finer than 16 pixels of the output, the transposed convolutions that would
    enlarge too far keep the size (1x1 instead of 2x2); where it is coarser, the output is enlarged bilinearly.

    Args:
        in_channels: Channels of each feature map; 256 in the paper.
        reductions: Image pixels per pixel of each feature map; 16 in the paper.
        task: What is read out; its ``stride`` gives the size of the output.

    Raises:
        InputError: The task is not dense.
    """

    fits: ClassVar[frozenset[TaskKind]] = DenseHead.fits

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task) -> None:
        super().__init__(in_channels, reductions, task)
        enlarged = max(0, round(reductions[-1] / task.stride).bit_length() - 1)
        self.coarse = nn.Sequential(separable(in_channels[-1], _COARSE), BatchNorm(_COARSE))
        self.first = nn.Sequential(separable(in_channels[-1], _FIRST), BatchNorm(_FIRST))
        layers: list[nn.Module] = []
        before = _FIRST
        for stage, (up, after, kernel) in enumerate(_STAGES):
            layers += [*_transposed(before, up, stage < enlarged), nn.ReLU()]
            layers += [separable(up, after, kernel), BatchNorm(after), nn.ReLU()]
            before = after
        self.decoder = nn.Sequential(*layers, *_transposed(before, _LAST, len(_STAGES) < enlarged))
        self.output = separable(_LAST + _COARSE, task.channels, 5, bias=True)
        pointwise = self.output[-1]
        assert isinstance(pointwise, nn.Conv2d)
        initialise_output(pointwise, task.kind)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels, *size)."""
        maps = self.decoder(self.first(features[-1]))
        coarse = resize(self.coarse(features[-1]), maps.shape[-2:])
        output: Tensor = self.output(F.relu(torch.cat([maps, coarse], dim=1)))
        return resize(output, size)


def separable(in_channels: int, out_channels: int, kernel: int = 3, *, bias: bool = False) -> nn.Sequential:
    """A depthwise convolution that keeps the size, then a pointwise one (Chollet 2017), nothing between them.

    Args:
        in_channels: Channels read.
        out_channels: Channels given.
        kernel: Side of the depthwise kernel, odd.
        bias: Whether the pointwise convolution has a bias.
    """
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False)
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
    nn.init.kaiming_normal_(depthwise.weight, nonlinearity="linear")
    nn.init.kaiming_normal_(pointwise.weight, nonlinearity="relu")
    return nn.Sequential(depthwise, pointwise)


def _transposed(in_channels: int, out_channels: int, enlarge: bool) -> tuple[nn.Module, nn.Module]:
    """A transposed convolution that doubles the size or keeps it, and its normalisation."""
    side = 2 if enlarge else 1
    layer = nn.ConvTranspose2d(in_channels, out_channels, side, stride=side)
    nn.init.normal_(layer.weight, std=in_channels**-0.5)  # strides do not overlap: each output has one pixel's channels
    return layer, BatchNorm(out_channels)
