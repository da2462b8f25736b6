"""The heads of SplitVGG and SplitRes: the blocks of a mirrored decoder that each task has for itself.

"Task Meta-Transfer from Limited Parallel Labels", section 4.2. Blocks are numbered as the stages of the encoder that
they mirror, so a decoder runs from block 5 down to block 1; block j takes a map at /2^j to /2^(j-1). The same blocks
above the split belong to ``models.backbones.split``.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import BatchNorm, Head, initialise_output
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = [
    "RESIDUAL",
    "VGG",
    "VGG_UNPOOLED",
    "Block",
    "Residual",
    "SplitResHead",
    "SplitVGGHead",
    "convolution",
    "decode",
]

VGG = (1, 1, 2, 2, 4, 8)
"""Channels that block j of SplitVGG's decoder reads (entry j) and gives (entry j - 1), in multiples of the width."""
VGG_UNPOOLED = (1, 1, 2, 4, 8, 8)
"""The same for the plain mirror of VGG16, which max-unpooling needs."""
RESIDUAL = (1, 1, 1, 2, 4, 8)
"""The same for SplitRes: the plain mirror of ResNet-18."""
_CONVOLUTIONS = (0, 1, 2, 3, 3, 3)  # VGG16 has 2, 2, 3, 3, 3; the last of block 1 is the task's output layer
_DENSE = frozenset({TaskKind.DENSE, TaskKind.NORMALS, TaskKind.SEGMENTATION, TaskKind.GROUPING})


def convolution(
    in_channels: int, out_channels: int, size: int = 3, *, stride: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps the size of its map but for the stride, drawn for a ReLU behind it."""
    layer = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, Fig. 2); parameters are named as in ResNet-18's files.

    Args:
        in_channels: Channels read.
        out_channels: Channels given.
        stride: Of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(in_channels, out_channels, stride=stride), BatchNorm(out_channels)
        self.conv2, self.bn2 = convolution(out_channels, out_channels), BatchNorm(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            shortcut = convolution(in_channels, out_channels, 1, stride=stride)
            self.downsample = nn.Sequential(shortcut, BatchNorm(out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, out_channels, h / stride, w / stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(residual + self.downsample(maps))


class Block(nn.Module):
    """One block of a mirrored decoder.

    Args:
        level: Its number, 5 (next to the encoder) to 1 (next to the output).
        width: Channels of the encoder's first stage.
        channels: ``VGG``, ``VGG_UNPOOLED`` or ``RESIDUAL``.
    """

    def __init__(self, level: int, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.level = level
        self.enlarge_last = channels is RESIDUAL  # mirror of "stride, then convolutions"; VGG pools after them
        before, after = width * channels[level], width * channels[level - 1]
        if self.enlarge_last and level > 1:
            self.layers = nn.Sequential(Residual(before, before), Residual(before, after))
            return
        count = 1 if self.enlarge_last else _CONVOLUTIONS[level]
        layers: list[nn.Module] = []
        for out in [before] * (count - 1) + [after]:
            layers += [convolution(before, out), BatchNorm(out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor, size: tuple[int, int], indices: Tensor | None = None) -> Tensor:
        """Maps at /2^level to /2^(level - 1).

        Args:
            maps: (B, C, h, w).
            size: Height and width of the result.
            indices: Where the encoder's max-pooling found its maxima, (B, C, h, w) int64; None enlarges bilinearly.
        """
        if indices is not None:
            maps = F.max_unpool2d(maps, indices, [2, 2], output_size=list(size))
        elif not self.enlarge_last:
            maps = resize(maps, size)
        maps = self.layers(maps)
        return resize(maps, size) if self.enlarge_last else maps


def decode(blocks: nn.ModuleList, maps: Tensor, size: tuple[int, int], indices: Mapping[int, Tensor]) -> Tensor:
    """Runs blocks of a decoder.

    Args:
        blocks: In order, level by level downward.
        maps: What the first of them reads, (B, C, h, w).
        size: Height and width of the image.
        indices: By level, where there are any.

    Returns:
        What the last of them gives, at /2^(its level - 1).
    """
    for block in blocks:
        assert isinstance(block, Block)
        height, width = (max(1, side >> (block.level - 1)) for side in size)
        maps = block(maps, (height, width), indices.get(block.level))
    return maps


class _SplitHead(Head):
    """The blocks below the split and the output layer; split and width follow from the map that is read."""

    fits: ClassVar[frozenset[TaskKind]] = _DENSE

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task, channels: Sequence[int]) -> None:
        super().__init__(in_channels, reductions, task)
        self.split = reductions[0].bit_length() - 1
        width = in_channels[0] // channels[self.split] if 1 <= self.split <= 5 else 0
        if len(reductions) != 1 or 2**self.split != reductions[0] or in_channels[0] != width * channels[self.split]:
            raise InputError(
                f"{type(self).__name__} got {in_channels} channels at {reductions}; it reads the one map of its own "
                "backbone, SplitVGG or SplitRes with the same unpooling"
            )
        self.blocks = nn.ModuleList(Block(level, width, channels) for level in range(self.split, 0, -1))
        self.output = nn.Conv2d(width * channels[0], task.channels, 3, padding=1)
        initialise_output(self.output, task.kind)
        self.stride = task.stride

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels, *size)."""
        indices = dict(zip(range(self.split, 0, -1), features[1:], strict=False))
        image = (size[0] * self.stride, size[1] * self.stride)
        output: Tensor = self.output(decode(self.blocks, features[0], image, indices))
        return resize(output, size)


class SplitVGGHead(_SplitHead):
    """What follows the split of ``SplitVGG``, once per task: its decoder's blocks x to 1 and the output layer.

    Args:
        in_channels: Channels of the backbone's map.
        reductions: Its reduction, 2^x.
        task: What is read out.
        unpooling: As the backbone has it.

    Raises:
        InputError: The task is not dense, the map is not SplitVGG's, or a target with a stride is to be unpooled.
    """

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task, *, unpooling: bool = False) -> None:
        super().__init__(in_channels, reductions, task, VGG_UNPOOLED if unpooling else VGG)
        if unpooling and task.stride != 1:
            raise InputError(
                f"task {task.name!r} has stride {task.stride}; unpooling restores the image's own size: use stride 1"
            )
        self.unpooling = unpooling

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels, *size); behind the map come the indices of levels x to 1 where unpooled.

        Raises:
            InputError: Backbone and head differ in ``unpooling``.
        """
        if len(features) != 1 + self.unpooling * self.split:
            raise InputError(
                f"SplitVGGHead(unpooling={self.unpooling}) got {len(features) - 1} maps of unpooling indices; give "
                "SplitVGG and its heads the same unpooling"
            )
        return super().forward(features, size)


class SplitResHead(_SplitHead):
    """What follows the split of ``SplitRes``, once per task: its decoder's blocks x to 1 and the output layer.

    Args:
        in_channels: Channels of the backbone's map.
        reductions: Its reduction, 2^x.
        task: What is read out.

    Raises:
        InputError: The task is not dense, or the map is not SplitRes's.
    """

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task) -> None:
        super().__init__(in_channels, reductions, task, RESIDUAL)
