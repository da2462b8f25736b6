"""The decoder of tasks with a value per pixel."""

import math
from typing import ClassVar

from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import BatchNorm, Head, initialise_output, maps_from
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["DenseHead"]


class DenseHead(Head):
    """A fully convolutional decoder: convolutions, then pairs of up-convolution and convolution, then the output.

    With 15 layers on features at /16 it is a decoder as in Taskonomy (section 4: "a 15-layer fully convolutional
    network"): 6 convolutions, 4 pairs up to full size, 1 output layer. With fewer layers it first gives up
    convolutions, then pairs, and the output is enlarged bilinearly instead. Several feature maps are projected,
    enlarged to the finest that is read, and added.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out; its ``stride`` gives the size of the output.
        layers: Layers in all, at least 2.
        width: Channels at the features' resolution; halved by each up-convolution, down to ``min_width``.
        min_width: The least channels.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is not dense, or there are fewer than 2 layers.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset(
        {TaskKind.DENSE, TaskKind.NORMALS, TaskKind.SEGMENTATION, TaskKind.GROUPING, TaskKind.SET}
    )

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        layers: int = 15,
        width: int = 64,
        min_width: int = 16,
        finest: int = 4,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if layers < 2 or min(width, min_width) < 1:
            raise InputError(
                f"DenseHead with layers={layers}, width={width}, min_width={min_width}: at least 2 layers and 1 channel"
            )
        self.read = maps_from(reductions, finest)
        start = min(reductions[i] for i in self.read)
        pairs = min(max(0, round(math.log2(max(1, start / task.stride)))), (layers - 2) // 2)

        # The first convolution works on each map apart; the sum of the results is the convolution of all of them.
        self.project = nn.ModuleList(nn.Conv2d(in_channels[i], width, 3, padding=1, bias=False) for i in self.read)
        decoder: list[nn.Module] = [BatchNorm(width), nn.ReLU(inplace=True)]
        for _ in range(layers - 2 - 2 * pairs):
            decoder += _layer(nn.Conv2d(width, width, 3, padding=1, bias=False))
        for _ in range(pairs):
            narrow = max(width // 2, min(min_width, width))
            decoder += _layer(nn.ConvTranspose2d(width, narrow, 4, stride=2, padding=1, bias=False))
            decoder += _layer(nn.Conv2d(narrow, narrow, 3, padding=1, bias=False))
            width = narrow
        self.decoder = nn.Sequential(*decoder)
        self.output = nn.Conv2d(width, task.channels, 3, padding=1)
        initialise_output(self.output, task.kind)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels, *size)."""
        maps = [project(features[i]) for project, i in zip(self.project, self.read, strict=True)]
        finest = max((m.shape[-2:] for m in maps), key=math.prod)
        fused = resize(maps[0], finest)
        for other in maps[1:]:
            fused = fused + resize(other, finest)
        output: Tensor = self.output(self.decoder(fused))
        return resize(output, size)


def _layer(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A convolution, its normalisation and its non-linearity."""
    nn.init.kaiming_normal_(
        convolution.weight, mode="fan_in" if isinstance(convolution, nn.Conv2d) else "fan_out", nonlinearity="relu"
    )
    return [convolution, BatchNorm(convolution.out_channels), nn.ReLU(inplace=True)]
