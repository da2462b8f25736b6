"""The readout of a transfer: little enough that what it reads must be in the representations."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_taskonomy.models.heads.base import BatchNorm, Head
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task

__all__ = ["TransferReadout", "shared_convolutions", "side_by_side"]


class TransferReadout(Head):
    """Two convolutions over the side-by-side representations of k frozen sources, then the target's own kind of head.

    Taskonomy (CVPR 2018), section 4: the transfer networks are shallow, with two convolutional layers, their input the
    channel-wise concatenation of the representations. Maps of another size are resampled to the first one's.

    Args:
        in_channels: Channels of every source's maps, sources in order; for a target of V views, V times a source's.
        reductions: Image pixels per pixel of each map.
        task: The target.
        head: Builds the target's own kind of head on the second convolution's output.
        width: Channels of the two convolutions.

    Raises:
        InputError: The head does not fit the target, or there is no map.
    """

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        head: Callable[[list[int], list[int], Task], Head],
        width: int = 64,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        self.transfer = shared_convolutions(sum(in_channels), width)
        self.head = head([width], reductions[:1], task)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output of the target's head."""
        output: Tensor = self.head([self.transfer(side_by_side(features))], size)
        return output


def shared_convolutions(in_channels: int, width: int) -> nn.Sequential:
    """The readout's two convolutions."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        BatchNorm(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        BatchNorm(width),
        nn.ReLU(inplace=True),
    )


def side_by_side(features: list[Tensor]) -> Tensor:
    """Maps concatenated over channels, at the first one's size."""
    first = features[0]
    return torch.cat([first, *(resize(other, first.shape[-2:]).to(first.dtype) for other in features[1:])], dim=1)
