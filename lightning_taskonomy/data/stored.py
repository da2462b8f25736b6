"""What files hold, whole and as it is stored: pixels, arrays, numbers, text; and which files of a folder count."""

import math
import struct
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX

__all__ = [
    "IMAGE_SUFFIXES",
    "FileProblem",
    "UnexpectedFiles",
    "by_stem",
    "colours_as_image",
    "has_suffix",
    "is_missing",
    "listed_path",
    "near",
    "opened",
    "read_array",
    "read_image",
    "read_numbers",
    "read_pixels",
    "read_text",
    "refuse_classes",
    "visible",
    "whole_numbers",
]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files that are read as pictures."""

_BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error)  # all that Pillow and NumPy raise
_LEFT_BY_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")


class UnexpectedFiles(InputError):
    """There are files, but not as they must be: another name, another version, two of one name."""


class FileProblem(InputError):
    """A file cannot be used; said and counted by whoever reads several, and else the end."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


# Names


def has_suffix(file: Path, suffixes: Collection[str]) -> bool:
    """Whether a file's name ends in one of some suffixes, such as ``.png``, in capitals or not."""
    return file.suffix.lower() in suffixes


def visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files (``._a.png``) and what systems leave (``Thumbs.db``).

    Args:
        folder: Where; one that is not there holds nothing.
    """
    if not folder.is_dir():
        return []
    return sorted(
        file for file in folder.iterdir() if file.name[0] != "." and file.name.lower() not in _LEFT_BY_SYSTEMS
    )


def by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """The files of some suffixes in a folder, by name without suffix.

    Raises:
        UnexpectedFiles: Two have the same one.
    """
    files: dict[str, Path] = {}
    for file in visible(folder):
        if has_suffix(file, suffixes):
            if file.stem in files:
                raise UnexpectedFiles(
                    f"{files[file.stem]} and {file} would both be {file.stem!r}; remove or rename one"
                )
            files[file.stem] = file
    return files


def near(name: str, folder: Path) -> str:
    """The folders in a folder whose names are near to one that is not there, as the end of an error message."""
    return hint(name, get_close_matches(name, [file.name for file in visible(folder) if file.is_dir()]))


def listed_path(text: str) -> str:
    """A path as a list names it, perhaps with the backslashes of Windows, with slashes."""
    return text.replace("\\", "/")


# Text


def read_text(file: Path) -> str:
    """A text file without byte-order mark: UTF-8, or UTF-16 with one.

    Raises:
        FileProblem: It is missing or no text.
    """
    try:
        content = file.read_bytes()
        return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FileProblem(file, f"damaged ({error})") from error


def read_numbers(file: Path) -> NDArray[np.float64]:
    """The numbers of a text file, (rows, columns), separated by blanks, tabs, commas or semicolons.

    Between separators that are not blanks nothing at all is NaN. What follows ``#`` and empty lines are passed over; a
    file of nothing else is (0, 0).

    Raises:
        FileProblem: It is missing, something in it is not a number, or its rows differ in length.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        marks = [mark for mark in ",;" if mark in content] or ["\t"] * ("\t" in content.strip())
        if len(marks) > 1:
            raise FileProblem(file, f"line {number} has commas and semicolons; separate numbers by one of them")
        try:
            rows.append([*map(_number, content.split(marks[0]))] if marks else [*map(float, content.split())])
        except ValueError as error:
            raise FileProblem(file, f"line {number} holds more than numbers ({error})") from error
        if len(rows[-1]) != len(rows[0]):
            raise FileProblem(file, f"line {number} has {len(rows[-1])} numbers, those before have {len(rows[0])}")
    return np.array(rows, dtype=np.float64) if rows else np.empty((0, 0))


def _number(text: str) -> float:
    return float(text) if text.strip() else math.nan


# Pictures and arrays


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """A picture with its header read, of up to twice ``PIL.Image.MAX_IMAGE_PIXELS`` (179 million) pixels.

    Raises:
        FileProblem: It is missing, damaged, no picture, or larger; also what the block finds damaged later.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # aerial pictures have 100 million pixels
            image = Image.open(file)
        with image:
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except Image.DecompressionBombError as error:
        raise FileProblem(file, f"too large ({error}); cut it into smaller pictures") from error
    except _BROKEN as error:
        raise FileProblem(file, f"damaged ({error})") from error


def _stored_mode(image: Image.Image) -> str:
    """How pixels lie in the file, in Pillow's words, such as ``RGB;16B``; known before it is loaded."""
    tiles = getattr(image, "tile", None)  # that of a file has them, not every image
    arguments = tiles[0].args if tiles else ""
    names: Sequence[object] = arguments if isinstance(arguments, tuple) else (arguments,)
    if image.format == "PPM" and any(isinstance(most, int) and most > 255 for most in names):
        return f"{image.mode};16"
    return next((name for name in names if isinstance(name, str)), "")


def _is_cut(image: Image.Image) -> bool:
    """Whether Pillow would hand over the upper 8 of 16 bits."""
    return ";16" in _stored_mode(image) and not image.mode.startswith("I")


def _whole(file: Path, image: Image.Image, *, upright: bool) -> NDArray[np.uint16]:
    """The 16 bits of three or four channels, (H, W, channels), as FFmpeg reads them; upright, or as stored."""
    import av

    orientation = image.getexif().get(ExifTags.Base.Orientation) if upright else None
    image.load()  # says what is damaged
    try:
        with av.open(str(file)) as container:
            frame = next(container.decode(video=0))
            if not frame.format.name.startswith(("rgb48", "rgba64")):
                raise ValueError(frame.format.name)
            pixels = cast(NDArray[np.uint16], frame.to_ndarray())
    except (av.FFmpegError, ValueError, StopIteration) as error:
        kind = f"{image.format} of {len(image.getbands())} channels with 16 bits"
        raise FileProblem(file, f"{kind} cannot be read whole ({error}); save it as .npy") from error
    turn = _TURNS.get(orientation)
    return pixels if turn is None else turn(pixels)


_TURNS: Mapping[object, Callable[[NDArray[np.uint16]], NDArray[np.uint16]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}
"""By EXIF orientation, how what is stored becomes upright."""


def read_pixels(file: Path) -> NDArray[np.generic]:
    """The stored numbers of an image file, (H, W) or (H, W, channels), as they lie in it.

    A palette image gives its indices, a picture of 1, 2 or 4 bits numbers from 0, 16 bits are 16 bits; EXIF is not
    heeded.

    Raises:
        FileProblem: It is missing, truncated, not an image, too large, or cannot be read with all its bits.
    """
    with opened(file) as image:
        stored = _stored_mode(image)
        if _is_cut(image):
            return _whole(file, image, upright=False)
        pixels = np.asarray(image)
        if image.mode == "1":
            return pixels.astype(np.uint8)
        spread = {"L;2": 85, "L;4": 17}.get(stored)  # over 0 to 255, by Pillow
        return pixels if spread is None else pixels // spread


def read_image(file: Path) -> Tensor:
    """A picture, upright as EXIF says, (3, H, W) float32 RGB in [0, 1].

    Any number of bits up to 16, grey or with a palette or transparency; floating-point numbers must be in [0, 1].

    Raises:
        FileProblem: It is missing, truncated, not an image, too large, or it is not known which number is white.
    """
    pixels: NDArray[np.floating[Any]]
    with opened(file) as image:
        stored = _stored_mode(image)
        if _is_cut(image):
            pixels = _whole(file, image, upright=True)[..., :3].astype(np.float32) / 65535
        else:
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):
                pixels = _share(
                    file, np.asarray(image), 4095 if ";12" in stored else 65535 if ";16" in stored else None
                )
            elif image.mode == "F":
                pixels = _share(file, np.asarray(image), 1)
            else:
                return colours_as_image(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))
    if pixels.shape[-1] != 3:
        pixels = np.repeat(pixels, 3, -1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def colours_as_image(colours: NDArray[np.uint8]) -> Tensor:
    """Colours (H, W, 3) of 8 bits as an image (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(colours.transpose(2, 0, 1), order="C")).float().div_(255)


def _share(file: Path, grey: NDArray[np.generic], white: int | None) -> NDArray[np.float32]:
    """A grey picture as share of white, (H, W, 1)."""
    if white is None:
        raise FileProblem(file, f"a picture of {grey.dtype} does not say which number is white; save it with 16 bits")
    share = grey.astype(np.float32)[..., None] / np.float32(white)
    low, high = float(share.min()), float(share.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise FileProblem(
            file, f"a picture of {grey.dtype} has numbers from 0 to {white}, not {low * white:g} to {high * white:g}; "
            "scale it, or save it with 8 or 16 bits"
        )  # fmt: skip
    return share


def read_array(file: Path) -> NDArray[np.generic]:
    """The array of a ``.npy`` file, the numbers of a ``.txt`` or ``.csv`` file, or the pixels of an image file.

    Raises:
        FileProblem: It is missing, truncated, or holds something other than real numbers.
    """
    if has_suffix(file, (".txt", ".csv")):
        return read_numbers(file)
    if not has_suffix(file, (".npy",)):
        return read_pixels(file)
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except _BROKEN as error:
        raise FileProblem(file, f"damaged ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise FileProblem(file, f"holds {getattr(array, 'dtype', 'several arrays')}; save real numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# Numbers


def is_missing(numbers: NDArray[np.generic], missing: Collection[float]) -> NDArray[np.bool_]:
    """Where an array holds one of some numbers, as near to them as its own type comes; NaN never is.

    Args:
        numbers: As stored: in float32, -9999.9 is the float32 nearest to it.
        missing: The numbers that mean that there is none.
    """
    if not missing:
        return np.zeros(numbers.shape, dtype=np.bool_)
    marks = np.asarray([*missing], dtype=np.float64)
    if numbers.dtype.kind == "f":
        with np.errstate(over="ignore"):
            marks = marks.astype(numbers.dtype)
    return np.isin(numbers, marks)


def whole_numbers(numbers: NDArray[np.generic], file: Path) -> NDArray[np.int64]:
    """Class or segment numbers as int64; NaN is a missing one, -100.

    Args:
        numbers: As they are after any scaling; what is within 0.0001 of a whole number is one.
        file: Where they are from.

    Raises:
        InputError: One of them is a fraction or infinite.
    """
    if numbers.dtype.kind != "f":
        return numbers.astype(np.int64)
    numbers = numbers.astype(np.float64)
    nearest = np.rint(numbers)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(numbers - nearest) <= 1e-4) | (np.abs(nearest) >= 2**53)
    wrong &= ~np.isnan(numbers)
    if wrong.any():
        raise InputError(
            f"{file} holds {numbers[wrong][0]:g}, which is not a class number ({int(wrong.sum())} such of "
            f"{wrong.size}); classes are whole numbers"
        )
    return np.where(np.isnan(numbers), IGNORE_INDEX, np.nan_to_num(nearest)).astype(np.int64)


def refuse_classes(
    numbers: NDArray[np.integer[Any]], wrong: NDArray[np.bool_], file: Path, allowed: str, unit: str = "pixels"
) -> None:
    """Refuses classes that there are not: which, how often, in which file.

    Args:
        numbers: Classes, as they are in the file or after any scaling.
        wrong: Where they are none.
        file: Where they are from.
        allowed: What is allowed and what to do, in words that follow "but".
        unit: What each number is of.

    Raises:
        InputError: There is a wrong one.
    """
    if wrong.any():
        kinds, counts = np.unique(numbers[wrong], return_counts=True)
        others = f" and {len(kinds) - 1} more classes" if len(kinds) > 1 else ""
        raise InputError(
            f"{file} holds class {kinds[0]} at {counts[0]} of {numbers.size} {unit}{others}, but {allowed}"
        )
