"""What the numbers in a user's own label files mean, by the kind of the label.

Conventions, where :class:`Encoding` says nothing else: in a class map of 8 bits 255 is missing, if the task has at most
255 classes; normals stored as unsigned integers lie about the middle of their range (127.5 or 32767.5); all other
numbers mean themselves. NaN is missing, and of values also what is infinite.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.geometry import outside, unit_normals
from lightning_taskonomy.data.stored import is_missing, read_array, refuse_classes, whole_numbers
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Label, LabelKind, Task, TaskKind

__all__ = ["Encoding", "check_objects", "class_limit", "is_void", "read_label"]

_VOID = 255


@dataclass(frozen=True)
class Encoding:
    """How the numbers in a label file mean values: value = number x scale + offset, or a class by a table.

    Where a key has one, 255 is a number like any other unless ``missing`` names it.

    Args:
        scale: Units per number; 0.001 reads depth stored in millimetres as metres. 1 where it is not given, and for
            normals in unsigned integers what makes them unit vectors.
        offset: Added to it; -1 reads classes counted from 1. 0 where it is not given, and for such normals -1.
        missing: Numbers, as they stand in the file, that mean that there is no label. NaN always does. Of normals:
            where all three channels are one of them.
        classes: Number in the file to class, for class maps and classes; ``{0: 0, 255: 1}`` reads a mask of 0 and 255.
            Every number that occurs must be in it or in ``missing``.

    Raises:
        InputError: The scale is 0 or no number, or a table is given as well as scale or offset.
    """

    scale: float | None = None
    offset: float | None = None
    missing: tuple[float, ...] = ()
    classes: dict[int, int] | None = None

    def __post_init__(self) -> None:
        """Checks what can be checked without data."""
        if self.scale is not None and (self.scale == 0 or not math.isfinite(self.scale)):
            raise InputError(f"an encoding has scale {self.scale}; give a number other than 0")
        if self.offset is not None and not math.isfinite(self.offset):
            raise InputError(f"an encoding has offset {self.offset}; give a number")
        if self.classes is not None and (self.scale, self.offset) != (None, None):
            raise InputError("an encoding has a table of classes and scale or offset; give one or the other")

    def check(self, label: Label) -> None:
        """Refuses what cannot act on a label.

        Raises:
            InputError: Names it.
        """
        scaled = (self.scale, self.offset) != (None, None)
        wrong = {
            "classes": self.classes is not None and not label.is_classes,
            "scale and offset": scaled and label.kind is LabelKind.MASKS,
            "missing": bool(self.missing) and label.kind is LabelKind.BOXES,
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise InputError(f"encodings.{label.key} gives {name}, which cannot act on {label.kind}; leave it out")


def class_limit(task: Task, label: Label) -> int | None:
    """How many classes a label of a task has; None for segments, and where nothing says it.

    Args:
        task: The task.
        label: One of its labels.
    """
    if task.kind is TaskKind.GROUPING:
        return None
    return task.channels if label.key == task.target and task.is_classes else label.classes


def read_label(task: Task, label: Label, encoding: Encoding | None, file: Path) -> Tensor:
    """A label file's content.

    Args:
        task: A task that reads it.
        label: What it holds.
        encoding: What its numbers mean.
        file: A picture, ``.npy``, ``.txt`` or ``.csv`` file.

    Returns:
        What ``label`` says; in the size of the file where it is per pixel.

    Raises:
        FileProblem: The file is missing or damaged.
        InputError: It does not fit the task.
    """
    numbers = read_array(file)
    reader = _READERS.get(label.kind)
    if label.is_classes:
        return torch.from_numpy(_classes(task, label, encoding, _shaped(task, label, numbers, file), file))
    if label.kind is LabelKind.MASKS:
        return torch.from_numpy(_masks(numbers, encoding or Encoding(), file))
    values = _values(label, encoding, numbers)
    if reader is None:
        if values.size != label.channels:
            raise InputError(
                f"{file} holds {values.size} numbers, but task {task.name!r} has {label.channels} channels"
            )
        return torch.from_numpy(values.reshape(-1))
    return torch.from_numpy(np.ascontiguousarray(reader(task, label, values, file)))


def _values(label: Label, encoding: Encoding | None, numbers: NDArray[np.generic]) -> NDArray[np.float32]:
    encoding = encoding or Encoding()
    scale, offset = 1.0, 0.0
    missing = is_missing(numbers, encoding.missing)
    if label.kind is LabelKind.NORMALS:
        if numbers.dtype.kind == "u":
            scale, offset = 2 / (256.0**numbers.dtype.itemsize - 1), -1.0
        channels = tuple(axis for axis in (0, -1) if numbers.ndim == 3 and numbers.shape[axis] == 3)[-1:]
        missing = missing.all(channels, keepdims=True) & np.ones_like(missing)
    scale = scale if encoding.scale is None else encoding.scale
    offset = offset if encoding.offset is None else encoding.offset
    with np.errstate(over="ignore"):
        values: NDArray[np.float32] = (numbers.astype(np.float64) * scale + offset).astype(np.float32)
    values[missing | ~np.isfinite(values)] = np.nan
    return values


def _dense(task: Task, label: Label, values: NDArray[np.float32], file: Path) -> NDArray[np.float32]:
    if values.ndim == 2 and label.channels == 1:
        return values[None]
    is_array = file.suffix.lower() == ".npy"
    if values.ndim == 3 and values.shape[0] == label.channels and is_array:
        return values
    if values.ndim == 3 and (
        values.shape[-1] == label.channels or (values.shape[-1] > label.channels and not is_array)
    ):
        return values[..., : label.channels].transpose(2, 0, 1)
    raise InputError(f"{file} has shape {values.shape}, but task {task.name!r} has {label.channels} channels")


def _normals(task: Task, label: Label, values: NDArray[np.float32], file: Path) -> NDArray[np.float32]:
    return unit_normals(torch.from_numpy(_dense(task, label, values, file))).numpy()


def _boxes(task: Task, label: Label, values: NDArray[np.float32], file: Path) -> NDArray[np.float32]:
    boxes = _rows(values, 4, "boxes are left, top, right, bottom in pixels", file)
    for row, (left, top, right, bottom) in enumerate(boxes.tolist(), 1):
        if not (left < right and top < bottom):  # NaN is neither
            what = "has a number missing" if math.isnan(left + top + right + bottom) else "has no area"
            raise InputError(
                f"{file}, row {row}: the box {left:g}, {top:g}, {right:g}, {bottom:g} {what}; a row is left, top, "
                "right, bottom in pixels"
            )
    return boxes


def _points(task: Task, label: Label, values: NDArray[np.float32], file: Path) -> NDArray[np.float32]:
    flat = values.reshape(len(values), -1) if values.ndim == 3 else values
    points = _rows(flat, 2 * label.channels, f"{label.channels} points of an object are x, y of each in pixels", file)
    points = points.reshape(len(points), label.channels, 2)
    half = np.isnan(points).any(-1) & ~np.isnan(points).all(-1)
    if half.any():
        row, point = np.argwhere(half)[0]
        raise InputError(f"{file}, row {row + 1}: point {point + 1} has one coordinate of two; give both or neither")
    return points


def _rows(values: NDArray[np.float32], columns: int, meaning: str, file: Path) -> NDArray[np.float32]:
    if values.size == 0:
        return np.empty((0, columns), np.float32)
    if values.ndim != 2 or values.shape[1] != columns:
        raise InputError(f"{file} has shape {values.shape} instead of (objects, {columns}): {meaning}")
    return values


_READERS = {
    LabelKind.VALUES: _dense,
    LabelKind.NORMALS: _normals,
    LabelKind.BOXES: _boxes,
    LabelKind.POINTS: _points,
}


def _masks(numbers: NDArray[np.generic], encoding: Encoding, file: Path) -> NDArray[np.bool_]:
    """(n, H, W): from so many maps of 0 and 1, or from one of numbers, 0 where there is no object."""
    missing = is_missing(numbers, encoding.missing)
    stored = np.where(missing, 0, whole_numbers(numbers, file))
    if stored.ndim == 2:
        objects = np.setdiff1d(stored, [0, IGNORE_INDEX])
        return np.asarray(stored == objects[:, None, None])
    if stored.ndim != 3 or file.suffix.lower() != ".npy":
        raise InputError(f"{file} has shape {stored.shape}; masks are (objects, H, W) or numbers of objects (H, W)")
    if not np.isin(stored, [0, 1]).all():
        raise InputError(f"{file} holds {stored.max()} in masks of (objects, H, W), which are of 0 and 1")
    return stored.astype(np.bool_)


def _shaped(task: Task, label: Label, numbers: NDArray[np.generic], file: Path) -> NDArray[np.generic]:
    if label.is_set:
        if numbers.size and not (numbers.ndim == 1 or (numbers.ndim == 2 and numbers.shape[1] == 1)):
            raise InputError(f"{file} has shape {numbers.shape}, but task {task.name!r} wants one class per object")
        return numbers.reshape(-1)
    if not label.is_dense and numbers.size == 1:
        numbers = numbers.reshape(())
    if numbers.ndim != (2 if label.is_dense else 0):
        unit = "pixel" if label.is_dense else "image"
        raise InputError(f"{file} has shape {numbers.shape}, but task {task.name!r} wants one class per {unit}")
    return numbers


def is_void(numbers: NDArray[np.generic], limit: int | None, encoding: Encoding | None) -> bool:
    """Whether 255 is missing in a class map.

    Args:
        numbers: The map as stored.
        limit: How many classes the task has, None for segments.
        encoding: What its numbers mean.
    """
    return encoding is None and numbers.dtype == np.uint8 and limit is not None and limit <= _VOID


def _classes(
    task: Task, label: Label, encoding: Encoding | None, numbers: NDArray[np.generic], file: Path
) -> NDArray[np.int64]:
    limit = class_limit(task, label)
    void = label.is_dense and is_void(numbers, limit, encoding)
    encoding = encoding or Encoding(missing=(_VOID,) if void else ())
    missing = is_missing(numbers, encoding.missing)
    if (encoding.scale, encoding.offset) != (None, None):
        numbers = numbers.astype(np.float64) * (encoding.scale or 1) + (encoding.offset or 0)
    classes = whole_numbers(np.where(missing, 0, numbers), file)
    classes[missing] = IGNORE_INDEX
    if encoding.classes is not None:
        classes = _by_table(classes, encoding.classes, label.key, file)
    wrong = (classes != IGNORE_INDEX) & ((classes < 0) | (classes >= (limit or np.iinfo(np.int64).max)))
    allowed = "classes from 0" if limit is None else f"classes 0 to {limit - 1}"
    refuse_classes(
        classes, wrong, file,
        f"task {task.name!r} has {allowed}; if it means no label, name the file's number in "
        f"encodings.{label.key}.missing, if classes are counted otherwise, use its offset or classes",
        "pixels" if label.is_dense else "numbers",
    )  # fmt: skip
    return classes


def _by_table(numbers: NDArray[np.int64], table: Mapping[int, int], key: str, file: Path) -> NDArray[np.int64]:
    present, places = np.unique(numbers, return_inverse=True)
    for number in present[~np.isin(present, [*table, IGNORE_INDEX])][:1]:
        raise InputError(
            f"{file} holds {number} at {int((numbers == number).sum())} of {numbers.size} places, which is in neither "
            f"classes nor missing of encodings.{key}; add it to one"
        )
    classes = np.array([table.get(int(number), IGNORE_INDEX) for number in present], dtype=np.int64)
    return classes[places.reshape(numbers.shape)]


def check_objects(label: Label, file: Path, objects: Tensor, size: tuple[int, int]) -> None:
    """Refuses boxes and points that are not in the image; a pixel beyond its edge is taken for rounding.

    Args:
        label: What they are.
        file: Where they are from.
        objects: (n, 4) or (n, C, 2) pixels.
        size: Height and width of the image.

    Raises:
        InputError: Names the file and the row.
    """
    if label.kind not in (LabelKind.BOXES, LabelKind.POINTS):
        return
    places = objects.reshape(len(objects), math.prod(objects.shape[1:]) // 2, 2)
    for row in outside(places, size).any(1).nonzero().flatten().tolist()[:1]:
        numbers = ", ".join(f"{number:g}" for number in objects[row].flatten().tolist())
        raise InputError(
            f"{file}, row {row + 1}: {numbers} reaches beyond the image of {size[1]}x{size[0]} pixels; give pixels of "
            "the upright image, or cut it off at the edge"
        )
