"""COCO (Lin et al., 2014): consumer photographs with boxes of 80 classes, and with 17 points of persons."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.formats.annotations import Member, read_json, required
from lightning_taskonomy.data.formats.objects import Annotated, Marks, ObjectDataModule, halves
from lightning_taskonomy.data.stored import UnexpectedFiles
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.coco import CLASSES, DETECTION, KEYPOINTS, POINTS

__all__ = ["COCODataModule", "COCOKeypointsDataModule"]


class COCODataModule(ObjectDataModule):
    """Images of COCO 2017 with ``boxes`` and ``object_classes``; crowds are regions to ignore, of their class.

    Splits are ``train`` (train2017), ``official_test`` (val2017, which papers report on: COCO keeps the labels of
    its own test images), and half of it each, every other image, ``validation`` and ``test``. Boxes are as in the
    files, from the outer corner of the first pixel; those of crowds stand for their masks.

    Args:
        root: The folder of ``annotations``, ``train2017`` and ``val2017``.
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits = halves("train2017", "val2017")
    _file = "instances"
    _task = DETECTION

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection, or its keypoints."""
        return (self._task,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images that the file of annotations lists.

        Raises:
            InputError: It is missing or damaged, or images or annotations share an id.
        """
        file = required(
            self.root, [f"annotations/{self._file}_{part}.json"],
            f"annotations/{self._file}_{part}.json and the folder {part} of COCO 2017",
        )  # fmt: skip
        content = Member(file, "the file", read_json(file))
        categories = {
            one.whole("id"): one.text("name")
            for one in (Member(file, "a category", entry) for entry in content.list_of("categories"))
        }
        rows: dict[int, _Rows] = {}
        for entry in content.list_of("images"):
            image = Member(file, "an image", entry)
            number, name = image.whole("id"), image.text("file_name")
            if number in rows:
                raise UnexpectedFiles(f"{file}: images {rows[number].name} and {name} share id {number}; remove one")
            rows[number] = _Rows(name, (image.whole("height"), image.whole("width")))
        numbers: set[int] = set()
        lost: list[int] = []
        for entry in content.list_of("annotations"):
            annotation = Member(file, "an annotation", entry)
            number, image_id = annotation.whole("id"), annotation.whole("image_id")
            annotation.where = f"annotation {number}"
            if number in numbers:
                raise UnexpectedFiles(f"{file}: two annotations have id {number}; remove one")
            numbers.add(number)
            if image_id in rows:
                self._add(rows[image_id], annotation, categories)
            else:
                lost.append(number)
        remarks = []
        if lost:
            remarks.append(f"{file}: {len(lost)} annotations are of images that it does not list, such as {lost[0]}")
        return [rows[number].annotated(self.root / part, number) for number in rows], remarks

    def _add(self, rows: "_Rows", annotation: Member, categories: dict[int, str]) -> None:
        """Takes an annotation into account."""
        left, top, width, height = annotation.numbers("bbox", 4)
        box = [left, top, left + width, top + height]
        number = annotation.whole("category_id")
        name = categories.get(number)
        classes: Sequence[str] = self._task.class_names or CLASSES
        if name not in classes:
            called = f", {name!r}," if name else ""
            rows.refusal = (
                f"{annotation.file}: {annotation.where} is of category {number}{called} which is none of COCO's "
                f"{len(classes)}; use FolderDataModule for other classes"
            )
            return
        is_crowd = annotation.flag("iscrowd")
        rows.marks.add(box, classes.index(name), is_crowd=is_crowd)
        if not is_crowd:
            self._add_points(rows, annotation)

    def _add_points(self, rows: "_Rows", annotation: Member) -> None:
        """Takes its points into account, where there are any."""


class COCOKeypointsDataModule(COCODataModule):
    """Images of COCO 2017 with ``boxes`` and ``points`` (n, 17, 2) of persons; crowds are regions to ignore.

    A point that is not visible but marked (v = 1) counts as marked. The files name the pixel that a point is in, from
    0: it is taken to be in the middle of it. A person of whom no point is marked is an object without points.
    """

    _file = "person_keypoints"
    _task = KEYPOINTS

    def _add_points(self, rows: "_Rows", annotation: Member) -> None:
        points = np.array(annotation.numbers("keypoints", 3 * len(POINTS))).reshape(-1, 3)
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            rows.refusal = (
                f"{annotation.file}: {annotation.where} has a visibility other than 0 (not marked), 1 (hidden) and "
                "2 (visible)"
            )
        rows.points.append(np.where(points[:, 2:] > 0, points[:, :2] + 0.5, np.nan))


class _Rows:
    """What is annotated in one image, so far."""

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self.name, self.size = name, size
        self.marks = Marks()
        self.points: list[NDArray[Any]] = []
        self.refusal: str | None = None

    def annotated(self, folder: Path, number: int) -> Annotated:
        return self.marks.annotated(
            folder / self.name, number, points=self.points, size=self.size, refusal=self.refusal
        )
