"""How files say a class or a depth per pixel: by number, by colour, in steps of so many metres."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
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
    "read_packed",
]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_WITHOUT_CLASS = np.iinfo(np.int64).min
_LARGEST = np.iinfo(np.uint16).max
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
        _refuse_more_bits(file, image)
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGB"))


def _refuse_more_bits(file: Path, image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise FileProblem(file, f"damaged (colours have 8 bits, not {image.mode})")


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


def read_packed(file: Path) -> NDArray[np.int32]:
    """The colours of a label as one number each, (H, W): red + 256 green + 65536 blue, as COCO's panoptic ids are.

    Raises:
        FileProblem: It is missing, damaged, or has more than 8 bits.
    """
    with opened(file) as image:
        _refuse_more_bits(file, image)
        colours = image if image.mode == "RGB" else image.convert("RGB")
        numbers = np.frombuffer(colours.tobytes("raw", "RGBX"), "<i4")
        return np.asarray(numbers & 0xFFFFFF).reshape(colours.height, colours.width)


def packed(colour: Colour) -> int:
    """One colour as the number that ``read_packed`` has for it."""
    return colour[0] + 256 * colour[1] + 65536 * colour[2]


def lookup(numbers: NDArray[np.integer[Any]], table: Mapping[int, int], otherwise: int) -> NDArray[np.int64]:
    """What a table has for each number; as labels are, most are like their left neighbour, which makes it fast.

    Args:
        numbers: Any shape.
        table: By number; not empty.
        otherwise: For numbers that it does not have.
    """
    keys = np.array(sorted(table))
    values = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    flat = numbers.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    firsts = flat[starts]
    places = np.searchsorted(keys, firsts).clip(max=len(keys) - 1)
    classes = np.where(keys[places] == firsts, values[places], otherwise)
    return np.repeat(classes, np.diff(starts, append=len(flat))).reshape(numbers.shape)


class Code(Protocol):
    """What the pixels of a label file mean."""

    def load(self, file: Path) -> NDArray[Any]:
        """The file's pixels, one number each, (H, W).

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

    def load(self, file: Path) -> NDArray[np.int32]:
        """Colours as one number each (H, W)."""
        return read_packed(file)

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Classes (H, W) int64."""
        mask = 0x808080 if self.bits else 0xFFFFFF
        classes = lookup(
            pixels & mask, {packed(colour) & mask: n for colour, n in self.classes.items()}, _WITHOUT_CLASS
        )
        wrong = classes == _WITHOUT_CLASS
        if wrong.any():
            number, count = int(pixels[wrong][0]), int(wrong.sum())
            colour = (number & 0xFF, number >> 8 & 0xFF, number >> 16)
            raise InputError(
                f"{file} holds colour {colour}, which is of no class, among {count} such of {wrong.size} pixels; a "
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
        clips: Whether what is farther is taken to be as far as ``farthest`` instead.
        is_cut: Whether the largest number, 65535, stands for all that is farther, and is no distance.
    """

    step: float
    farthest: float | None = None
    turned: int = 0
    clips: bool = False
    is_cut: bool = False

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
        missing = (steps == 0) | (self.is_cut & (steps == _LARGEST))
        if self.farthest is not None and self.clips:
            metres = metres.clip(max=self.farthest)
        elif self.farthest is not None:
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
