"""How files say a class or a depth per pixel: by number, by colour, in steps of so many metres."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, ImageOps
from torch import Tensor

from lightning_taskonomy.data.stored import FileProblem, opened, read_pixels, refuse_classes
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = [
    "Code",
    "Colour",
    "Colours",
    "Depth",
    "Numbers",
    "lookup",
    "numbered",
    "packed",
    "picture_size",
    "read_colours",
]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_WITHOUT_CLASS = np.iinfo(np.int64).min
_TURNED = (5, 6, 7, 8)
"""EXIF orientations in which rows and columns are exchanged."""


def read_colours(file: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """The colours of a picture of 8 bits, (H, W, 3); those of a palette are looked up, transparency is left out.

    Args:
        file: Which file.
        upright: Whether to turn it as its EXIF orientation says; labels are read as they are stored.

    Raises:
        FileProblem: It is missing, damaged, or has more than 8 bits.
    """
    with opened(file) as image:
        if image.mode.startswith(("I", "F")):
            raise FileProblem(file, f"damaged (colours have 8 bits, not {image.mode})")
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGB"))


def picture_size(file: Path, *, upright: bool = False) -> tuple[int, int]:
    """Height and width of a picture, from its header alone.

    Args:
        file: Which file.
        upright: Whether to turn it as its EXIF orientation says.

    Raises:
        FileProblem: It is missing or no picture.
    """
    with opened(file) as image:
        turned = upright and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def packed(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Colours (H, W, 3) as one number each: red + 256 green + 65536 blue, as COCO's panoptic ids are."""
    values = colours.astype(np.int32)
    return np.asarray(values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2], dtype=np.int32)


def lookup(numbers: NDArray[np.integer[Any]], table: Mapping[int, int], otherwise: int) -> NDArray[np.int64]:
    """What a table has for each number.

    Args:
        numbers: Any shape.
        table: By number; not empty.
        otherwise: For numbers that it does not have.
    """
    keys = np.array(sorted(table))
    values = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    if keys[0] >= 0 and keys[-1] < 65536:  # much faster
        by_number = np.full(keys[-1] + 2, otherwise)
        by_number[keys] = values
        return np.asarray(by_number[numbers.clip(-1 if numbers.dtype.kind == "i" else 0, keys[-1] + 1)])
    places = np.searchsorted(keys, numbers).clip(max=len(keys) - 1)
    return np.where(keys[places] == numbers, values[places], otherwise)


class Code(Protocol):
    """What the pixels of a label file mean."""

    def load(self, file: Path) -> NDArray[Any]:
        """The file's pixels, (H, W) or (H, W, 3).

        Raises:
            FileProblem: It is missing or damaged.
        """

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Pixels, all of a file's or a part of them, to classes (H, W) int64 or values (1, H, W).

        Raises:
            FileProblem: They are not what such a file has.
            InputError: They hold a class that there is not.
        """

    def __call__(self, file: Path) -> Tensor:
        """All of a file, decoded."""
        return self.decode(self.load(file), file)


@dataclass(frozen=True)
class Numbers(Code):
    """One number per pixel, in grey or as index of a palette, 8 or 16 bits.

    Args:
        classes: Class by number; -100 for what has none. Other numbers are refused.
        allowed: What numbers there are and what to do about others, in words that follow "but".
    """

    classes: Mapping[int, int]
    allowed: str

    def load(self, file: Path) -> NDArray[Any]:
        """Numbers (H, W)."""
        return read_pixels(file)

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Classes (H, W) int64."""
        if pixels.ndim != 2 or pixels.dtype.kind not in "ui":
            raise FileProblem(
                file, f"damaged (a label has one whole number per pixel, not {pixels.dtype} of shape {pixels.shape})"
            )
        classes = lookup(pixels, self.classes, _WITHOUT_CLASS)
        refuse_classes(pixels.astype(np.int64), classes == _WITHOUT_CLASS, file, self.allowed)
        return torch.from_numpy(classes)


@dataclass(frozen=True)
class Colours(Code):
    """One colour per class.

    Args:
        classes: Class by colour; -100 for what has none. Other colours are refused.
        bits: Whether each channel is one bit, 0 below 128, else 1, so that every colour means the nearest of 8.
    """

    classes: Mapping[Colour, int]
    bits: bool = False

    def load(self, file: Path) -> NDArray[Any]:
        """Colours (H, W, 3)."""
        return read_colours(file)

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Classes (H, W) int64."""
        colours = np.where(pixels < 128, 0, 255).astype(np.uint8) if self.bits else pixels
        table = {red + 256 * green + 65536 * blue: number for (red, green, blue), number in self.classes.items()}
        classes = lookup(packed(colours), table, _WITHOUT_CLASS)
        wrong = classes == _WITHOUT_CLASS
        if wrong.any():
            first = tuple(colours[wrong][0].tolist())
            count = int(wrong.sum())
            raise InputError(
                f"{file} holds colour {first}, which is of no class, among {count} such of {wrong.size} pixels; a "
                "label must be stored without loss, in the data set's own colours"
            )
        return torch.from_numpy(classes)


@dataclass(frozen=True)
class Depth(Code):
    """Distance along the camera's axis in whole steps, 16 bits; 0 where nothing was measured.

    Args:
        step: Metres per step.
        farthest: Beyond so many metres there is no label; None keeps all.
        turned: Turn the 16 bits to the right by so many first.
    """

    step: float
    farthest: float | None = None
    turned: int = 0

    def load(self, file: Path) -> NDArray[Any]:
        """Steps (H, W)."""
        return read_pixels(file)

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Metres (1, H, W) float32, NaN where missing."""
        if pixels.ndim != 2 or pixels.dtype.kind not in "ui" or pixels.itemsize < 2:
            raise FileProblem(
                file, f"damaged (a depth has one number of 16 bits per pixel, not {pixels.dtype} of {pixels.shape})"
            )
        steps = pixels.astype(np.int64)
        if self.turned:
            steps = (steps >> self.turned) | (steps << (16 - self.turned) & 0xFFFF)
        metres = steps * self.step
        missing = steps == 0
        if self.farthest is not None:
            missing |= metres > self.farthest
        return torch.from_numpy(np.where(missing, np.nan, metres).astype(np.float32))[None]


def numbered(count: int, *, first: int = 0, missing: tuple[int, ...] = ()) -> dict[int, int]:
    """Classes of numbers that lie side by side.

    Args:
        count: How many classes.
        first: The number of class 0.
        missing: Numbers of what has no class.
    """
    return {**{first + number: number for number in range(count)}, **dict.fromkeys(missing, IGNORE_INDEX)}
