"""The heads that are one 1 x 1 convolution: segmentation and depth of "Factors of Influence" (A.2 and A.5)."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import Head, initialise_output, maps_from
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["LinearDepthHead", "LinearHead"]


class LinearHead(Head):
    """One 1 x 1 convolution, then a bilinear enlargement.

    Of a segmentation the class probabilities are enlarged, as A.2 orders it (linear classifier, softmax, enlargement),
    not the logits: the output is the logarithm of enlarged probabilities, which a cross-entropy reads as logits. Of
    several feature maps, each is convolved at its own resolution and the results are added at the finest one; but for
    the order of two linear operations that is one convolution of all maps side by side.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is neither a segmentation nor values per pixel.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.SEGMENTATION, TaskKind.DENSE})

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task, *, finest: int = 4) -> None:
        super().__init__(in_channels, reductions, task)
        self.read, self.kind = maps_from(reductions, finest), task.kind
        first, *others = self.read
        self.output = nn.Conv2d(in_channels[first], task.channels, 1)
        self.others = nn.ModuleList(nn.Conv2d(in_channels[i], task.channels, 1, bias=False) for i in others)
        for layer in (self.output, *self.others):
            initialise_output(layer, task.kind)

    def linear(self, features: list[Tensor]) -> Tensor:
        """The convolution's output (B, channels, h, w) at the finest map that is read.

        Args:
            features: Maps (B, C, h, w), one per entry of ``in_channels``.
        """
        values: Tensor = self.output(features[self.read[0]])
        for index, layer in zip(self.read[1:], self.others, strict=True):
            values = values + resize(layer(features[index]), values.shape[-2:])
        return values

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels, *size)."""
        values = self.linear(features)
        if self.kind is not TaskKind.SEGMENTATION:
            return resize(values, size)
        chances = resize(values.float().softmax(1), size)
        return chances.clamp(min=torch.finfo(chances.dtype).tiny).log()


class LinearDepthHead(LinearHead):
    """One 1 x 1 convolution, softplus, then a bilinear enlargement (A.5): always positive, 721 weights on HRNetV2-W48.

    The task's shift and scale are taken out of the output again, so that a depth is softplus of the convolution, as in
    the paper, and positive whatever they are. At the start all depths are near the task's shift.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out: positive values of one channel.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is not one value per pixel.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.DENSE})

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task, *, finest: int = 4) -> None:
        super().__init__(in_channels, reductions, task, finest=finest)
        if task.channels != 1:
            raise InputError(
                f"LinearDepthHead does not fit task {task.name!r} of {task.channels} channels; a depth has one"
            )
        self.shift, self.scale = task.shift, task.scale
        if task.shift > 0:
            nn.init.constant_(self.output.bias, task.shift + math.log(-math.expm1(-task.shift)))  # type: ignore[arg-type]

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, 1, *size)."""
        return (resize(F.softplus(self.linear(features).float()), size) - self.shift) / self.scale
