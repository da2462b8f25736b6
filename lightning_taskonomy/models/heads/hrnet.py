"""The classification head of HRNet, for any backbone ("Factors of Influence", A.1)."""

from typing import ClassVar

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import BatchNorm, Head, initialise_output, maps_from
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["HRNetClassificationHead"]

_COARSEST = 32


class HRNetClassificationHead(Head):
    """Channels up, resolution down to /32, average pooling, a linear classifier.

    Wang et al. 2020, "Deep High-Resolution Representation Learning for Visual Recognition", section 4.4: each feature
    map passes a bottleneck to 128, 256, 512, 1024 channels (at /4, /8, /16, /32); the finest is halved by a 3 x 3
    convolution of stride 2 and added to the next, and so on; a 1 x 1 convolution leads to 2048. On the four branches
    of an HRNet it is theirs, weight by weight. ``HRNetV2`` gives its branches as one map at /4, which "Factors of
    Influence" calls the backbone's output: then only that one passes a bottleneck and is halved three times.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map, powers of two; coarser ones than 32 are not read.
        task: A class per image.
        width: Channels at /4; doubled by each halving.
        features: Channels of what is pooled.
        finest: Of several maps, those finer than this reduction are not read.

    Raises:
        InputError: The task is no classification, a reduction is not a power of two, or a size is not positive.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset({TaskKind.CLASSIFICATION})

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        width: int = 128,
        features: int = 2048,
        finest: int = 4,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if width < 4 or width % 4 or features < 1:
            raise InputError(
                f"{type(self).__name__} with width={width}, features={features}: a positive multiple of 4, and at "
                "least 1"
            )
        read = maps_from(reductions, finest)
        levels = {i: (reductions[i] // 4).bit_length() - 1 for i in read}
        if wrong := [reductions[i] for i, level in levels.items() if 4 * 2**level != reductions[i]]:
            raise InputError(
                f"{type(self).__name__} got maps at reductions {wrong}; it reads maps at powers of two, at least 4"
            )
        last = max(min(levels.values()), (_COARSEST // 4).bit_length() - 1)
        self.levels = {i: level for i, level in levels.items() if level <= last}
        self.start = min(self.levels.values())
        self.increase = nn.ModuleDict({str(i): _widened(in_channels[i], width * 2**k) for i, k in self.levels.items()})
        self.halve = nn.ModuleList(_layer(width * 2**k, width * 2 ** (k + 1), 3, 2) for k in range(self.start, last))
        self.final = _layer(width * 2**last, features, 1, 1)
        self.output = nn.Linear(features, task.channels)
        initialise_output(self.output, task.kind)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The logits (B, K)."""
        fused: Tensor | None = None
        for level in range(self.start, self.start + len(self.halve) + 1):
            if fused is not None:
                fused = self.halve[level - self.start - 1](fused)
            for index in (i for i, one in self.levels.items() if one == level):
                wide = self.increase[str(index)](features[index])
                fused = wide if fused is None else fused + resize(wide, fused.shape[-2:])
        output: Tensor = self.output(self.final(fused).mean((2, 3)))
        return output


def _widened(channels: int, width: int) -> nn.Module:
    """A residual bottleneck to ``width`` channels."""
    shortcut = None
    if channels != width:
        shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), BatchNorm(width))
    block: nn.Module = Bottleneck(channels, width // 4, downsample=shortcut, norm_layer=BatchNorm)
    return block


def _layer(channels: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2)
    return nn.Sequential(convolution, BatchNorm(width), nn.ReLU(inplace=True))
