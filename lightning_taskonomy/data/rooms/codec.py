"""How compactly each label is stored. What comes back is the same whether it was stored or not."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = ["decode", "encode"]

_SCALES: Mapping[str, tuple[str, float]] = {
    "image": ("uint8", 255),
    "pair_fixated": ("uint8", 255),
    "pair_nonfixated": ("uint8", 255),
    "pair_matching": ("uint8", 255),
    "triplet": ("uint8", 255),
    "depth_z": ("uint16", 4096),
    "depth_euclidean": ("uint16", 4096),
    "normals": ("int16", 32767),
    "curvature": ("int16", 1024),
    "reshading": ("uint16", 65535),
    "edges_occlusion": ("uint8", 255),
    "keypoints_3d": ("uint8", 255),
    "edges_2d": ("uint8", 255),
    "keypoints_2d": ("uint8", 255),
}
"""Stored type and steps per unit: a depth is good to 0.12 mm, a curvature to 0.0005 / m, a normal to 0.002 degrees."""

_LENGTHS = ("depth_z", "depth_euclidean")
"""In metres, as shares of what an appearance can store; 0 where there is none."""
_CLASSES = ("semantic", "segments_2d", "segments_25d", "object_class")
_UNSEEN = 255
"""What the renderer and its cache have where there is no class."""


def encode(key: str, value: NDArray[np.generic], reach: float = 16.0) -> NDArray[np.generic]:
    """A label as it is stored: whole numbers of its key's steps, class maps as uint8, anything else as it is.

    Args:
        key: Its key.
        value: The label as it is rendered.
        reach: Metres of depth that can be stored.
    """
    if key in _CLASSES:
        return value.astype(np.uint8)
    if key in _SCALES:
        kind, steps = _SCALES[key]
        if value.dtype == np.dtype(kind):
            return value
        limits = np.iinfo(kind)
        if key in _LENGTHS:
            value, steps = np.nan_to_num(value, nan=0.0), 65536 / reach
        return np.clip(np.rint(value.astype(np.float64) * steps), limits.min, limits.max).astype(kind)
    return value


def decode(key: str, value: NDArray[np.generic], reach: float = 16.0) -> Tensor:
    """A stored label as a batch has it: float32, or int64 for classes; a depth in metres, NaN where there is none."""
    if key in _LENGTHS:
        depth = value.astype(np.float32) * np.float32(reach / 65536)
        return torch.from_numpy(np.where(value == 0, np.float32(np.nan), depth))
    if key in _SCALES:
        return torch.from_numpy(np.asarray(value.astype(np.float32) * np.float32(1 / _SCALES[key][1])))
    if np.issubdtype(value.dtype, np.integer):
        numbers = torch.from_numpy(np.array(value, np.int64))
        return torch.where(numbers == _UNSEEN, IGNORE_INDEX, numbers) if key in _CLASSES else numbers
    return torch.from_numpy(np.array(value, np.float32))
