"""COCO panoptic (Kirillov et al., CVPR 2019): photos with the classes of 80 things and 53 kinds of stuff."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.formats.annotations import Member, read_json
from lightning_taskonomy.data.formats.codes import Code, lookup, read_packed
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, halves
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Task
from lightning_taskonomy.tasks.catalog.coco_panoptic import CATEGORIES, SEMANTIC_SEGMENTATION

__all__ = ["COCOPanopticDataModule"]


class Segments(Code):
    """Ids of segments as colours; the annotations say the class of each.

    Args:
        classes: By name of file and then by id the class.
    """

    def __init__(self, classes: Mapping[str, Mapping[int, int]]) -> None:
        self.classes = classes

    def load(self, file: Path) -> NDArray[np.int32]:
        """Ids (H, W)."""
        return read_packed(file)

    def decode(self, pixels: NDArray[Any], file: Path) -> Tensor:
        """Classes (H, W) int64, -100 where there is no segment.

        Raises:
            InputError: A segment is not in the annotations.
        """
        classes = lookup(pixels, {0: IGNORE_INDEX, **self.classes[file.name]}, -1)
        if (classes == -1).any():
            raise InputError(
                f"{file} has a segment {int(pixels[classes == -1][0])}, which its annotations do not; unpack both again"
            )
        return torch.from_numpy(classes)


class COCOPanopticDataModule(PixelDataModule):
    """Photos with 134 classes, of which the background is no pixel's; what is in no segment is missing.

    ``root`` holds ``train2017`` (118,287 images) and ``val2017`` (5,000), perhaps in a folder ``images``, and
    ``annotations`` with ``panoptic_train2017.json``, ``panoptic_val2017.json`` and folders of pictures of these names.
    """

    title = "COCO panoptic"
    layout = (
        "train2017/*.jpg (or images/train2017), annotations/panoptic_train2017.json and "
        "annotations/panoptic_train2017/*.png, val2017 likewise"
    )
    codes = ((SEMANTIC_SEGMENTATION, Segments({})),)
    splits = halves("train2017", "val2017")

    def images(self, part: str) -> list[Path]:
        """Those that are annotated."""
        self._segments = self._annotations(part)
        folder = first_of(self.root / part, self.root / "images" / part)
        return [folder / f"{Path(name).stem}.jpg" for name in sorted(self._segments)]

    def label(self, key: str, image: Path) -> Path:
        """The segments of the image."""
        return self.root / "annotations" / f"panoptic_{image.parent.name}" / f"{image.stem}.png"

    def reader(self, task: Task, code: Code) -> Code:
        """By the annotations of the part that was listed last."""
        return Segments(self._segments)

    def _annotations(self, part: str) -> dict[str, dict[int, int]]:
        """By name of file and then by id of segment the class."""
        listing = self.root / "annotations" / f"panoptic_{part}.json"
        if not listing.is_file():
            raise InputError(f"{listing} is missing; root must hold {self.layout}")
        content = Member(listing, "the file", read_json(listing))
        names = {
            category.whole("id"): category.text("name")
            for category in (Member(listing, "a category", entry) for entry in content.list_of("categories"))
        }
        if tuple(names[id] for id in sorted(names)) != CATEGORIES:
            raise InputError(
                f"{listing} has other categories than the {len(CATEGORIES)} of COCO panoptic; unpack it again"
            )
        numbers = {id: number for number, id in enumerate(sorted(names), 1)}
        files: dict[str, dict[int, int]] = {}
        for entry in content.list_of("annotations"):
            annotation = Member(listing, "an annotation", entry)
            name = annotation.text("file_name")
            if name in files:
                raise InputError(f"{listing} has {name} twice; leave one of them out")
            segments = [Member(listing, f"a segment of {name}", one) for one in annotation.list_of("segments_info")]
            files[name] = {one.whole("id"): numbers.get(one.whole("category_id"), 0) for one in segments}
            if 0 in files[name].values():
                raise InputError(f"{listing}: a segment of {name} is of none of the categories; unpack it again")
        return files
