"""The heads that see objects as centre points: boxes and keypoints of "Factors of Influence" (A.3 and A.4)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import BatchNorm, Head, initialise_output, maps_from
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import LabelKind, Task, TaskKind

__all__ = ["CenterHead", "KeypointHead"]

_PRIOR = -2.19
"""Bias of a heat map at the start: a chance of 0.1, as in CenterNet, so that the many empty cells do not drown it."""


class CenterHead(Head):
    """Detection by centre points: heat (K), offset (2) and size (2), each by a 3 x 3 convolution, ReLU, 3 x 3.

    Before them stands the neck: a 1 x 1 and a 3 x 3 convolution, batch normalisation, ReLU (A.3). The paper prints no
    widths but the sum, 2.4 M weights at 20 classes on 720 channels: a neck of 240 (a third of the 720) and 256 within
    the heads, as CenterNet has it, give 2.41 M. Of several feature maps those from ``finest`` on are read, enlarged to
    the size of the output and put side by side.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: A task of sets; K is its ``channels``, and the maps have its ``stride``.
        neck: Channels of the neck.
        hidden: Channels between the two convolutions of each map.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is no set, or a size is not positive.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.SET})

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        neck: int = 240,
        hidden: int = 256,
        finest: int = 4,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if min(neck, hidden) < 1:
            raise InputError(f"{type(self).__name__} with neck={neck}, hidden={hidden}: both at least 1")
        self.read = maps_from(reductions, finest)
        self.neck = nn.Sequential(
            nn.Conv2d(sum(in_channels[i] for i in self.read), neck, 1),
            nn.Conv2d(neck, neck, 3, padding=1, bias=False),
            BatchNorm(neck),
            nn.ReLU(inplace=True),
        )
        self.maps = _maps(neck, hidden, {"heat": task.channels, "offset": 2, "size": 2})

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The maps side by side (B, K + 4, *size): logits of the classes, offset and size in cells."""
        shared = self.neck(_side_by_side(features, self.read, size))
        return torch.cat([branch(shared) for branch in self.maps.values()], 1)


class KeypointHead(Head):
    """Keypoints by centre points: six maps M1 to M6 of a 3 x 3 convolution, ReLU, 3 x 3 each, without a neck (A.4).

    Heat, offset and size of the one kind of object, then heat of P points, their offset, and the displacement of each
    point from the middle of its object. About 10 M weights at 17 points on 720 channels.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: A task of sets with points; P is the ``channels`` of their label, and the maps have the task's ``stride``.
        hidden: Channels between the two convolutions of each map.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is no set or has no points, or ``hidden`` is not positive.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.SET})

    def __init__(
        self, in_channels: list[int], reductions: list[int], task: Task, *, hidden: int = 256, finest: int = 4
    ) -> None:
        super().__init__(in_channels, reductions, task)
        points = next((label.channels for label in task.targets.values() if label.kind is LabelKind.POINTS), None)
        if points is None or hidden < 1:
            raise InputError(
                f"KeypointHead with hidden={hidden} for task {task.name!r} with labels {list(task.targets)}: hidden is "
                "at least 1, and one label holds points"
            )
        self.read = maps_from(reductions, finest)
        outputs = {"heat": 1, "offset": 2, "size": 2}
        outputs |= {"point_heat": points, "point_offset": 2, "displacement": 2 * points}
        self.maps = _maps(sum(in_channels[i] for i in self.read), hidden, outputs)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The maps side by side (B, 7 + 3 P, *size); offsets, sizes and displacements in cells."""
        shared = _side_by_side(features, self.read, size)
        return torch.cat([branch(shared) for branch in self.maps.values()], 1)


def _maps(channels: int, hidden: int, outputs: dict[str, int]) -> nn.ModuleDict:
    branches = nn.ModuleDict()
    for name, count in outputs.items():
        first, last = nn.Conv2d(channels, hidden, 3, padding=1), nn.Conv2d(hidden, count, 3, padding=1)
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        initialise_output(last, TaskKind.SET)
        if name.endswith("heat"):
            nn.init.constant_(last.bias, _PRIOR)  # type: ignore[arg-type]
        branches[name] = nn.Sequential(first, nn.ReLU(inplace=True), last)
    return branches


def _side_by_side(features: list[Tensor], read: list[int], size: tuple[int, int]) -> Tensor:
    return torch.cat([resize(features[i], size) for i in read], 1)
