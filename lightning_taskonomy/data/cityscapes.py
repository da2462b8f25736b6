"""Cityscapes (Cordts et al., 2016): driving images with 19 classes, their 7 groups, all 33, and inverse depth."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_taskonomy.data import mtan
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples, blank
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import FileProblem, near, read_pixels, refuse_classes, visible
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.cityscapes import (
    GROUPS,
    IDS_32,
    INVERSE_DEPTH,
    SEMANTIC_7,
    SEMANTIC_19,
    SEMANTIC_33,
)

__all__ = ["CityscapesDataModule"]

_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The number, in ``labelIds`` files, of each of the 19 classes that are evaluated, in order (``helpers/labels.py`` of
cityscapesScripts)."""
_IDS = 34
"""How many numbers there are in ``labelIds`` files; that of number plates, -1, is 255 in one byte."""
_IMAGE = "_leftimg8bit.png"
_TASKS = {task.target: task for task in (SEMANTIC_7, SEMANTIC_19, SEMANTIC_33, INVERSE_DEPTH)}
_MTAN_FOLDERS = {SEMANTIC_7.target: "label_7", SEMANTIC_19.target: "label_19", INVERSE_DEPTH.target: "depth"}


class CityscapesDataModule(TaskDataModule):
    """Images, ``semantic_7``, ``_19``, ``_33`` and ``inverse_depth``; missing where there is no class or disparity.

    Splits are ``train`` (2975 images), and ``validation`` and ``test`` (250 each): the official validation images, all
    of which are ``official_test``, taken in turns by city and name (or number), the first for validation.

    Args:
        root: The folder of ``leftImg8bit``, ``gtFine`` and ``disparity`` as officially unpacked, or that of the MTAN
            authors with ``train/image/0.npy``, ``label_7``, ``label_19``, ``depth``.
        size: Height and width to resize to; None keeps 1024 x 2048, or the arrays' 128 x 256.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(self, root: str, size: tuple[int, int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])

    @property
    def keys_offered(self) -> Collection[str]:
        """Image and labels."""
        return ("image", *_TASKS)

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split.

        Raises:
            InputError: No such split, no image, or no folder of a label.
        """
        wanted = [key for key in keys if key in _TASKS]
        if mtan.is_mtan(self.root):
            if SEMANTIC_33.target in wanted:
                raise InputError(
                    f"{self.root} are arrays of 19 classes; {SEMANTIC_33.target!r} needs the official files"
                )
            arrays = {key: (_MTAN_FOLDERS[key], _array_reader(key), _TASKS[key]) for key in wanted}
            return mtan.samples(self.root, split, "cityscapes", arrays, size=self.size)
        part, half = mtan.half_of(split, "cityscapes")
        cities = filter(Path.is_dir, visible(self.root / "leftImg8bit" / part))
        images = [file for city in cities for file in visible(city) if file.name.lower().endswith(_IMAGE)][half]
        if not images:
            raise InputError(
                f"{self.root} has no image of split {split!r}; root must hold leftImg8bit/{part}/CITY/*_leftImg8bit.png"
                " with gtFine and disparity beside it, or the MTAN folder with train/image/0.npy and val/image/0.npy"
            )
        labels = {}
        for key in wanted:
            kind, end = ("disparity", "disparity") if key == INVERSE_DEPTH.target else ("gtFine", "gtFine_labelIds")
            if not (self.root / kind / part).is_dir():
                raise InputError(
                    f"{self.root} has no folder {kind}/{part}, where {key!r} is; unpack it there too"
                    f"{near(kind, self.root)}"
                )
            names = [image.name.replace("leftImg8bit", end) for image in images]
            labels[key] = [
                self.root / kind / part / image.parent.name / name for image, name in zip(images, names, strict=True)
            ]
        readers: dict[str, Callable[[Path], Tensor]] = {
            SEMANTIC_7.target: partial(_read_ids, _table(groups=True)),
            SEMANTIC_19.target: partial(_read_ids, _table(groups=False)),
            SEMANTIC_33.target: partial(_read_ids, _table_33()),
            INVERSE_DEPTH.target: _read_disparity,
        }
        return Labelled(
            images,
            labels,
            {key: Entry(readers[key], partial(blank, _TASKS[key])) for key in wanted},
            ids=[stable_id("cityscapes", image.name[: -len(_IMAGE)]) for image in images],
            size=self.size,
        )


def _array_reader(key: str) -> Callable[[Path], Tensor]:
    task = _TASKS[key]
    return partial(mtan.read_classes, task.channels) if task.is_classes else partial(mtan.read_values, 1)


def _table(*, groups: bool) -> Tensor:
    """By number in a file the class, or its group; -100 for what is not evaluated."""
    members = [list(GROUPS).index(group) for group, names in GROUPS.items() for _ in names]
    table = torch.full((256,), IGNORE_INDEX)
    table[list(_LABEL_IDS)] = torch.tensor(members) if groups else torch.arange(len(_LABEL_IDS))
    return table


def _table_33() -> Tensor:
    """By number in a file the class of 33; -100 for what is unlabelled, out of the region of interest, or a plate."""
    table = torch.full((256,), IGNORE_INDEX)
    table[list(IDS_32.values())] = torch.arange(1, 33)
    return table


def _read_ids(table: Tensor, file: Path) -> Tensor:
    pixels = read_pixels(file)
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise FileProblem(file, f"damaged (labelIds are one byte per pixel, not {pixels.dtype} of {pixels.shape})")
    numbers = pixels.astype(np.int64)
    wrong = (numbers >= _IDS) & (numbers != 255)
    refuse_classes(numbers, wrong, file, f"labelIds are 0 to {_IDS - 1}; unpack gtFine again")
    return table[torch.from_numpy(numbers)]


def _read_disparity(file: Path) -> Tensor:
    """(1, H, W) share of 65535, NaN where no disparity was found."""
    pixels = read_pixels(file)
    if pixels.ndim != 2:
        raise FileProblem(file, f"damaged (a disparity has one channel, not shape {pixels.shape})")
    stored = torch.from_numpy(pixels.astype(np.float32))[None]
    return torch.where(stored > 0, stored / 65535, torch.nan)
