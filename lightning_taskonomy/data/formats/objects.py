"""What data sets of objects share: what is annotated in an image, checked, turned with the picture, as samples.

Inside, boxes are left, top, right, bottom and points x, y, in pixels from the outer corner of the upright image's
first pixel. A reader translates from what its files say; all else is here:

- an object whose box has no area, a side that is no finite number, its sides in the wrong order, or lies outside the
  image is left out, one that reaches beyond the edge is cut off there, and a point outside is not marked: each is
  reported, none stops a training;
- annotations are of the picture as it is stored, as the official readers take them, and turn with it where EXIF says
  that it is to be turned; where they give the size of the upright picture alone, they are of that one;
- an image of another size than its annotations say, or with a class that there is not, is refused;
- an image without objects is labelled, with none; one that nobody looked at is not.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, size_of
from lightning_taskonomy.data.geometry import outside
from lightning_taskonomy.data.mtan import HALVES
from lightning_taskonomy.data.reading import Labelled
from lightning_taskonomy.data.stored import has_suffix
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, presence, stored_keys_of

__all__ = ["Annotated", "Marks", "ObjectDataModule", "ObjectSamples", "halves", "upright", "whole"]

_OBJECTS = ("boxes", "object_classes", "points")
_CROWDS = ("crowd_boxes", "crowd_classes")
_SETS = (*_OBJECTS, *_CROWDS)
_HEAD = 65536
_METADATA = (b"Exif", b"http://ns.adobe.com/xap")
"""What stands in a JPEG file before its orientation, as EXIF or as XMP; the standard puts it first of all."""
_TURNED = (2, 3, 4, 5, 6, 7, 8)
_SIDES_EXCHANGED = (5, 6, 7, 8)
"""EXIF orientations of a picture that is as wide upright as it is stored high."""


def halves(train: str, evaluated: str) -> dict[str, tuple[str, slice]]:
    """The splits of a data set of two labelled parts, as those of Cityscapes.

    Args:
        train: The part that is trained on.
        evaluated: The part that papers report on: ``official_test``, and every other image of it ``validation`` or
            ``test``.
    """
    names = {"train": train, "val": evaluated}
    return {split: (names[part], which) for split, (part, which) in HALVES.items()}


def whole(**parts: str) -> dict[str, tuple[str, slice]]:
    """Splits that are whole parts of the files.

    Args:
        **parts: By split, the part.
    """
    return {split: (part, slice(None)) for split, part in parts.items()}


@dataclass(frozen=True)
class Annotated:
    """One image and what is annotated in it, as the files say, in pixels from the outer corner of the first one.

    Args:
        image: The image file.
        id: What names it for good.
        boxes: (n, 4) left, top, right, bottom.
        classes: (n,) counted from 0.
        points: (n, K, 2) x and y, NaN where not marked; None where none is.
        crowds: (m, 4) regions that are neither object nor background.
        crowd_classes: (m,) the class of what is in them, -100 for any.
        size: Height and width that the annotations say the image has; None where they do not.
        labelled: Whether anybody looked for objects.
        image_class: The class of the whole image, -100 where it has none.
        refusal: Why its annotations cannot be used, in one line; None where they can.
        problem: What was left out of them, for the report; None where nothing was.
    """

    image: Path
    id: int
    boxes: ArrayLike = ()
    classes: ArrayLike = ()
    points: ArrayLike | None = None
    crowds: ArrayLike = ()
    crowd_classes: ArrayLike = ()
    size: tuple[int, int] | None = None
    labelled: bool = True
    image_class: int = IGNORE_INDEX
    refusal: str | None = None
    problem: str | None = None


class Marks:
    """What is annotated in one image, entry by entry, while a file is read."""

    def __init__(self) -> None:
        self.boxes: list[Sequence[float]] = []
        self.classes: list[int] = []
        self.crowds: list[Sequence[float]] = []
        self.crowd_classes: list[int] = []

    def add(self, box: Sequence[float], number: int, *, is_crowd: bool = False) -> None:
        """Takes a box of a class into account, or a region to ignore.

        Args:
            box: Left, top, right, bottom.
            number: The class; of a region -100 where it is of any.
            is_crowd: Whether it is a region.
        """
        (self.crowds if is_crowd else self.boxes).append(box)
        (self.crowd_classes if is_crowd else self.classes).append(number)

    def annotated(
        self,
        image: Path,
        number: int,
        *,
        points: ArrayLike | None = None,
        size: tuple[int, int] | None = None,
        refusal: str | None = None,
    ) -> Annotated:
        """The image with what is annotated in it; arguments are those of ``Annotated``."""
        return Annotated(
            image, number, self.boxes, self.classes, points, self.crowds, self.crowd_classes, size, refusal=refusal
        )


@dataclass(frozen=True)
class _Column:
    """The rows of all images in one array, which loader processes share."""

    values: NDArray[Any]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[ArrayLike], shape: tuple[int, ...], dtype: type) -> "_Column":
        with np.errstate(over="ignore"):  # a number beyond those of float32 is infinite, and said to be
            arrays: list[NDArray[Any]] = [np.asarray(part, dtype=dtype).reshape(-1, *shape) for part in parts]
        return cls(np.concatenate([np.empty((0, *shape), dtype), *arrays]), np.cumsum([0, *map(len, arrays)]))

    def rows(self, index: int) -> Tensor:
        """Those of one image, free to change."""
        return torch.from_numpy(self.values[self.starts[index] : self.starts[index + 1]].copy())


class _Part:
    """The images of a part of the files and what is annotated in them."""

    def __init__(self, images: Sequence[Annotated], channels: int, remarks: Sequence[str]) -> None:
        self.images = [one.image for one in images]
        self.ids = [one.id for one in images]
        self.sizes = [one.size for one in images]
        self.labelled = [one.labelled for one in images]
        self.image_classes = [one.image_class for one in images]
        self.refusals = {index: one.refusal for index, one in enumerate(images) if one.refusal}
        self.left_out = {index: one.problem for index, one in enumerate(images) if one.problem}
        self.remarks = remarks
        self.columns = {
            "boxes": _Column.of([one.boxes for one in images], (4,), np.float32),
            "object_classes": _Column.of([one.classes for one in images], (), np.int64),
            "crowd_boxes": _Column.of([one.crowds for one in images], (4,), np.float32),
            "crowd_classes": _Column.of([one.crowd_classes for one in images], (), np.int64),
        }
        if channels:
            points = [
                np.full((len(np.atleast_1d(one.boxes)), channels, 2), np.nan) if one.points is None else one.points
                for one in images
            ]
            self.columns["points"] = _Column.of(points, (channels, 2), np.float32)


class ObjectDataModule(TaskDataModule):
    """Images with objects: a subclass has ``own_tasks`` and reads ``annotated(split)``.

    Keys are those of its tasks: ``boxes`` (n, 4), ``object_classes`` (n,), ``points`` (n, K, 2), and of regions to
    ignore ``crowd_boxes`` (m, 4) and ``crowd_classes`` (m,). The area that some data sets give an object is not
    carried: its box decides.

    Args:
        root: The data set's folder.
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits: ClassVar[Mapping[str, tuple[str, slice]]]
    """By split: the part of the files, and which of its images."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """By split that there is not, what to do instead."""
    class_key: ClassVar[str | None] = None
    """The key of the class of the whole image."""
    are_made: ClassVar[bool] = False
    """Whether the boxes were made here, with a margin that may reach beyond the image, which is then no fault."""

    def __init__(self, root: str, size: tuple[int, int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])
        self._parts: dict[str, _Part] = {}

    @property
    def keys_offered(self) -> Collection[str]:
        """The image and what its tasks are labelled with."""
        return {"image", *stored_keys_of(self.own_tasks)}

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images of a part with what is annotated in them, and what is wrong with the annotations as a whole.

        Args:
            part: One of those that ``splits`` names.

        Raises:
            InputError: The files are not there, or not as they must be.
        """
        raise NotImplementedError(f"{type(self).__name__} must read {part!r}")

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split; the annotations of a part are read once.

        Raises:
            InputError: There is no such split, or its files are not there or not as they must be.
        """
        name = type(self).__name__.removesuffix("DataModule")
        if split in self.lacks or split not in self.splits:
            instead = f"; {self.lacks[split]}" if split in self.lacks else hint(split, self.splits)
            raise InputError(f"{name} has no split {split!r}{instead}")
        part, which = self.splits[split]
        if part not in self._parts:
            of_its_own = {key: label for task in self.own_tasks for key, label in task.targets.items()}
            channels = of_its_own["points"].channels if "points" in of_its_own else 0
            images, remarks = self.annotated(part)
            self._parts[part] = _Part(images, channels, remarks)
        return ObjectSamples(self, self._parts[part], which, keys)


class ObjectSamples(Labelled):
    """Images with the labels asked for.

    Args:
        module: Whose images.
        part: What is annotated in them.
        which: Which of its images.
        keys: Which labels.
    """

    def __init__(self, module: ObjectDataModule, part: _Part, which: slice, keys: Collection[str]) -> None:
        super().__init__(part.images[which], {}, {}, ids=part.ids[which], size=module.size, targets=module.targets)
        self.part, self.rows = part, range(len(part.images))[which]
        self.keys = [key for key in part.columns if key in keys]
        self.class_key = module.class_key if module.class_key in keys else None
        self.are_made = module.are_made

    def complete(self, index: int, sample: Sample) -> None:
        """Adds the labels, upright and within the image.

        Raises:
            InputError: The image is of another size than its annotations say, or they cannot be used.
        """
        row = self.rows[index]
        if row in self.part.refusals:
            raise InputError(self.part.refusals[row])
        if self.class_key is not None:
            sample[self.class_key] = torch.tensor(self.part.image_classes[row])
        if not self.keys:
            return
        rows = {key: column.rows(row) for key, column in self.part.columns.items()}
        faults = [self.part.left_out[row]] if row in self.part.left_out else []
        orientation, stored = self._turn(index, size_of(sample["image"]))
        for keys, what in ((_OBJECTS, "objects"), (_CROWDS, "regions to ignore")):
            faults += _settle(rows, keys, orientation, stored, what, are_made=self.are_made)
        if faults:
            self.log.add(self.images[index], "; ".join(faults), "labels changed of")
        for key in self.keys:
            sample[key] = rows[key]
            sample[presence(key)] = torch.tensor(self.part.labelled[row])

    def _turn(self, index: int, upright_size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
        """How annotations are to be turned (an EXIF orientation), and the size of the picture that they are of."""
        said = self.part.sizes[self.rows[index]]
        orientation = _orientation(self.images[index])
        stored = upright_size[::-1] if orientation in _SIDES_EXCHANGED else upright_size
        if said is None or said == stored:
            return orientation, stored
        if said == upright_size:
            return 1, upright_size
        raise InputError(
            f"{self.images[index]} is {stored[1]}x{stored[0]} pixels but its annotations say {said[1]}x{said[0]}; "
            "take both from one release"
        )

    def unlabelled(self, key: str, indices: Any) -> str | None:
        """Why no image has a label at a key, or None where one has.

        Args:
            key: What is not of these annotations counts as there.
            indices: Among which images.
        """
        if key == self.class_key:
            labelled = any(self.part.image_classes[self.rows[index]] != IGNORE_INDEX for index in indices)
            return None if labelled else "no image has a class"
        if key not in self.keys or any(self.part.labelled[self.rows[index]] for index in indices):
            return None
        return "no image is annotated"

    def remarks(self) -> list[str]:
        """What is wrong with the annotations as a whole."""
        return [*self.part.remarks]


def _orientation(file: Path) -> int:
    """The EXIF orientation of a picture, 1 where there is none; most JPEG files say so in their first bytes."""
    if has_suffix(file, (".jpg", ".jpeg")):
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        if not any(mark in head for mark in _METADATA):
            return 1
    with Image.open(file) as image:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _is_sound(rows: Mapping[str, Tensor], keys: Sequence[str], stored: tuple[int, int]) -> bool:
    """Whether nothing of a set is to be changed: all lies in order and within the image."""
    boxes, limit = rows[keys[0]], torch.tensor([stored[1], stored[0]])
    sound = (boxes[:, :2] >= 0).all() & (boxes[:, 2:] <= limit).all() & (boxes[:, 2:] > boxes[:, :2]).all()
    if "points" in keys and "points" in rows:
        points = rows["points"]
        sound &= ~((points < 0) | (points > limit)).any()
    return bool(sound)


def _settle(
    rows: dict[str, Tensor],
    keys: Sequence[str],
    orientation: int,
    stored: tuple[int, int],
    what: str,
    *,
    are_made: bool,
) -> list[str]:
    """Turns the labels of one set of objects and leaves out what cannot be; says what."""
    boxes, faults = rows[keys[0]], []
    count = len(boxes)
    if not count or (orientation not in _TURNED and _is_sound(rows, keys, stored)):
        return []
    finite = boxes.isfinite().all(1)
    ordered = finite & (boxes[:, 2:] > boxes[:, :2]).all(1)
    height, width = stored
    beyond = ordered & outside(boxes.reshape(-1, 2, 2), stored).any(1)
    cut = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    keep = ordered & (cut[:, 2:] > cut[:, :2]).all(1)
    for which, reason in (
        (~finite, "left out, for a side of their boxes is not a finite number"),
        (finite & ~ordered, "left out, for their boxes have no area or their sides in the wrong order"),
        (ordered & ~keep, "left out, for they lie outside the image"),
        (beyond & keep & (not are_made), "cut off at the edge of the image"),
    ):
        if which.any():
            first = ", ".join(f"{number:g}" for number in boxes[which][0].tolist())
            faults.append(f"{int(which.sum())} of {count} {what} {reason} (such as {first})")
    corners = upright(cut.reshape(-1, 2, 2), orientation, stored)
    rows[keys[0]] = torch.cat([corners.amin(1), corners.amax(1)], 1)
    if "points" in keys and "points" in rows:
        away = outside(rows["points"], stored)
        if away.any():
            faults.append(f"{int(away.sum())} points outside the image are not marked")
        points = torch.where(away[..., None], torch.nan, rows["points"])
        points = torch.maximum(points, points.new_zeros(2)).minimum(points.new_tensor([width, height]))
        rows["points"] = upright(points, orientation, stored)
    for key in keys:
        if key in rows:
            rows[key] = rows[key][keep]
    return faults


def upright(points: Tensor, orientation: int, size: tuple[int, int]) -> Tensor:
    """Where points of a stored picture lie once it is turned upright.

    Args:
        points: (..., 2) x and y in pixels of the stored picture, from the outer corner of its first one.
        orientation: The EXIF orientation, 1 to 8; any other number counts as 1.
        size: Height and width of the stored picture.
    """
    x, y = points.unbind(-1)
    height, width = size
    turned = {
        2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y), 5: (y, x), 6: (height - y, x),
        7: (height - y, width - x), 8: (y, width - x),
    }  # fmt: skip
    return torch.stack(turned.get(orientation, (x, y)), -1)
