"""The heads of tasks with one answer per sample."""

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import Head, initialise_output
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["ClassificationHead", "VectorHead"]


class VectorHead(Head):
    """Fully connected layers on the coarsest feature map, whose layout is kept on a small grid.

    Two or three layers are what Taskonomy uses for low-dimensional tasks (section 4); pairs, triplets and jigsaw
    tiles come with their views side by side in channels.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out.
        layers: Fully connected layers, at least 1.
        hidden: Features between two of them.
        grid: The map is averaged to ``grid`` x ``grid`` cells.
        width: Wider maps are first projected to so many channels.

    Raises:
        InputError: The task has a value per pixel, or a size is not positive.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.VECTOR, TaskKind.CLASSIFICATION})

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        layers: int = 2,
        hidden: int = 256,
        grid: int = 4,
        width: int = 128,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if min(layers, hidden, grid, width) < 1:
            raise InputError(
                f"{type(self).__name__} with layers={layers}, hidden={hidden}, grid={grid}, width={width}: "
                "all at least 1"
            )
        self.read, self.grid = max(range(len(reductions)), key=reductions.__getitem__), grid
        channels = in_channels[self.read]
        self.project = nn.Conv2d(channels, width, 1) if channels > width else nn.Identity()
        sizes = [min(channels, width) * grid**2] + [hidden] * (layers - 1)
        connected: list[nn.Module] = []
        for before, after in pairwise(sizes):
            connected += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.connected = nn.Sequential(*connected)
        self.output = nn.Linear(sizes[-1], task.channels)
        initialise_output(self.output, task.kind)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output (B, channels)."""
        cells = self.project(F.adaptive_avg_pool2d(features[self.read], self.grid))
        output: Tensor = self.output(self.connected(cells.flatten(1)))
        return output


class ClassificationHead(VectorHead):
    """The same layers for a class per sample: the output is logits (B, K)."""

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.CLASSIFICATION})
