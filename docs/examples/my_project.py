"""A project of one file: its own data, tasks, backbone and head, trained by the command line.

PYTHONPATH=. lightning-taskonomy fit --config my_project.yaml
"""

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_taskonomy import Backbone, Head, Task, TaskDataModule, TaskKind

# Tasks: what is read from a picture. Everything else follows from the kind, or is overridden in the recipe.
DISK = Task("disk", TaskKind.SEGMENTATION, target="disk", channels=2, class_names=("background", "disk"))
RADIUS = Task("radius", TaskKind.VECTOR, target="radius", units="px", shift=8.0, scale=3.0)


class SmallBackbone(Backbone):
    """Three convolutions; one map at /2 and one at /4."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.out_channels, self.reductions = [width, 2 * width], [2, 4]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())

    def features(self, image: Tensor) -> list[Tensor]:
        """Maps (B, width, H/2, W/2) and (B, 2 width, H/4, W/4)."""
        fine = self.fine(self.stem(image))
        return [fine, self.coarse(fine)]


class PixelHead(Head):
    """A 1x1 convolution on the finest map, enlarged."""

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.SEGMENTATION})

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task, hidden: int = 8) -> None:
        super().__init__(in_channels, reductions, task)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels[0], hidden, 1), nn.ReLU(), nn.Conv2d(hidden, task.channels, 1)
        )

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, *size)."""
        return nn.functional.interpolate(self.layers(features[0]), size=size, mode="bilinear")


class Disks:
    """Pictures of one disk on a noisy ground; every second picture has no label of the radius."""

    def __init__(self, first: int, count: int, size: int, keys: Collection[str]) -> None:
        self.first, self.count, self.size, self.keys = first, count, size, keys

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = self.first + index
        random = torch.Generator().manual_seed(number)
        across = torch.arange(self.size) + 0.5
        middle = self.size * (0.3 + 0.4 * torch.rand(2, generator=random))
        radius = self.size * (0.1 + 0.2 * torch.rand(1, generator=random))
        disk = (across - middle[0]) ** 2 + (across[:, None] - middle[1]) ** 2 < radius**2
        image = 0.3 + 0.4 * disk + 0.1 * torch.randn(3, self.size, self.size, generator=random)
        sample = {
            "image": image.clamp(0, 1),
            "disk": disk.long(),
            "radius": radius if index % 2 else torch.full((1,), float("nan")),
            "id": torch.tensor(number),
        }
        return {key: value for key, value in sample.items() if key in {*self.keys, "id"}}


class DiskDataModule(TaskDataModule):
    """Train, validation and test pictures of disks."""

    def __init__(self, size: int = 32, count: int = 128, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.count = size, count

    @property
    def keys_offered(self) -> Collection[str]:
        """Picture and both labels."""
        return ("image", "disk", "radius")

    def build(self, split: str, keys: Collection[str]) -> Disks:
        """The pictures of one split; splits share none."""
        first = {"train": 0, "validation": 1_000_000, "test": 2_000_000}[split]
        return Disks(first, self.count, self.size, keys)
