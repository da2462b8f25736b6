"""Feature maps to another size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["resize"]


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, h, w) enlarged or reduced bilinearly to (B, C, *size); untouched if they have that size."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=list(size), mode="bilinear", align_corners=False)
