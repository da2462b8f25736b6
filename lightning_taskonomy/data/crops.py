"""Crops of images with objects to train on, and whole images to evaluate on.

"Factors of Influence for Transfer Learning", section 4.1: images are mirrored, rescaled and cropped at random, nothing
else; for detection and keypoints a crop contains at least one object in full; and evaluation is on whole images at one
scale, one side of which matches the resolution of the training. Mirror and rescaling are torchvision's
``RandomHorizontalFlip`` and ``ScaleJitter`` (whose ``target_size`` is width and height where they differ).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lightning_taskonomy.errors import InputError

__all__ = ["WholeImage", "WholeObjectCrop"]


class WholeObjectCrop(v2.RandomCrop):  # type: ignore[misc]  # torchvision has no types
    """A random crop that contains at least one whole object, all such crops being equally likely.

    An image smaller than the crop is padded first, labels with what is missing. Where the image has no object, is not
    labelled, or no object fits into the crop, it is a random crop like any other: an object that reaches over its edge
    is cut off there, as ``data.transforms`` does it, and an image without objects remains a training image.

    Args:
        size: Height and width of the crop, or one number for both.
        key: Whose objects: the key of their boxes, masks or points. Of points an object has those that are marked.

    Raises:
        InputError: A size is not positive.
    """

    def __init__(self, size: int | list[int], key: str = "boxes") -> None:
        sides = [size, size] if isinstance(size, int) else list(size)
        if len(sides) != 2 or min(sides) < 1:
            raise InputError(f"WholeObjectCrop has the size {size}; give a height and a width of at least 1 pixel")
        super().__init__(sides, pad_if_needed=True)
        self.key = key

    def forward(self, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Crops all entries of a sample alike.

        Args:
            sample: Entries with their types, as ``data.transforms.Joint`` gives them.
        """
        params: dict[str, Any] = self.make_params(list(sample.values()))
        boxes = _extents(sample[self.key]) if self.key in sample else torch.zeros(0, 4)
        left, top, right, bottom = params["padding"]
        height, width = functional.get_size(sample["image"])
        padded, crop = (height + top + bottom, width + left + right), (self.size[0], self.size[1])
        allowed = _places(boxes + boxes.new_tensor([left, top, left, top]), padded, crop)
        if allowed.any():
            params["top"], params["left"] = _draw(allowed)
        return {key: self.transform(entry, params) for key, entry in sample.items()}


def _extents(objects: Tensor) -> Tensor:
    """Left, top, right and bottom of objects (n, 4), from their boxes, points or masks; those without any left out."""
    plain = objects.as_subclass(Tensor)
    if isinstance(objects, tv_tensors.BoundingBoxes):
        return plain
    if isinstance(objects, tv_tensors.KeyPoints):
        marked = plain[~plain.isnan().any(-1).all(1)]
        least = torch.where(marked.isnan(), math.inf, marked).amin(1)
        return torch.cat([least, torch.where(marked.isnan(), -math.inf, marked).amax(1)], 1)
    if isinstance(objects, tv_tensors.Mask) and plain.ndim == 3 and plain.dtype == torch.bool:
        columns, rows = (plain[plain.flatten(1).any(1)].any(axis).int() for axis in (1, 2))
        first = [side.argmax(1) for side in (columns, rows)]
        last = [side.shape[1] - side.flip(1).argmax(1) for side in (columns, rows)]
        return torch.stack([*first, *last], 1).float()
    raise InputError(f"WholeObjectCrop goes by boxes, points or masks of objects; a {type(objects).__name__} is none")


def _places(boxes: Tensor, size: tuple[int, int], crop: tuple[int, int]) -> Tensor:
    """Whether a crop contains a whole box, by its top and left: (rows, columns) bool."""
    free = [side - part for side, part in zip(size, crop, strict=True)]
    allowed = torch.zeros(free[0] + 1, free[1] + 1, dtype=torch.bool)
    for left, top, right, bottom in boxes.tolist():
        rows, columns = (
            slice(max(0, math.ceil(last - part)), max(0, min(rest, math.floor(first)) + 1))
            for first, last, part, rest in ((top, bottom, crop[0], free[0]), (left, right, crop[1], free[1]))
        )
        allowed[rows, columns] = True
    return allowed


def _draw(allowed: Tensor) -> tuple[int, int]:
    """Row and column of one of the true entries, all being equally likely."""
    ends = allowed.sum(1).cumsum(0)
    number = int(torch.randint(int(ends[-1]), ()))
    row = int(torch.searchsorted(ends, number, right=True))
    before = int(ends[row - 1]) if row else 0
    return row, int(allowed[row].nonzero()[number - before])


class WholeImage(nn.Module):
    """Resizes an image with its labels to fit into a height and width, its shape kept, so that one side matches.

    Args:
        size: Height and width.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Resizes all entries of a sample alike.

        Args:
            sample: Entries with their types, as ``data.transforms.Joint`` gives them.
        """
        height, width = functional.get_size(next(iter(sample.values())) if "image" not in sample else sample["image"])
        scale = min(self.size[0] / height, self.size[1] / width)
        sides = [max(1, round(height * scale)), max(1, round(width * scale))]
        resize = v2.Resize(sides)
        return {key: resize(entry) for key, entry in sample.items()}
