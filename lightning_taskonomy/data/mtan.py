"""The folders of arrays that the authors of MTAN (Liu et al., CVPR 2019) made of NYUv2 and Cityscapes.

``<root>/<train or val>/<kind>/<number>.npy``: pictures (H, W, 3) in [0, 1], classes (H, W) with -1 where unlabelled,
values (H, W, C) with 0 where there is none.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_taskonomy.data.batch import blank
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import FileProblem, by_stem, near, read_array, refuse_classes, whole_numbers
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, Task

__all__ = ["HALVES", "half_of", "is_mtan", "read_classes", "read_picture", "read_values", "samples"]

HALVES = {"train": ("train", slice(None)), "validation": ("val", slice(0, None, 2)), "test": ("val", slice(1, None, 2)),
          "official_test": ("val", slice(None))}  # fmt: skip
"""By split: the folder, and which of its images. Papers without a validation set of their own leave one part of the
evaluated images; here it is every other one, the first, third, ... for validation, the second, fourth, ... for test."""


def half_of(split: str, name: str) -> tuple[str, slice]:
    """The folder of a split and which of its images, in order.

    Raises:
        InputError: There is no such split.
    """
    if split not in HALVES:
        raise InputError(f"{name} has no split {split!r}{hint(split, HALVES)}")
    return HALVES[split]


def is_mtan(root: Path) -> bool:
    """Whether a folder has this layout."""
    return any((root / part / "image").is_dir() for part in ("train", "val"))


def read_picture(file: Path) -> Tensor:
    """A picture, (3, H, W) float32 in [0, 1].

    Raises:
        FileProblem: It is missing or damaged, or holds something else.
    """
    values = _dense(file, 3)
    if not (values.isfinite().all() and values.min() >= 0 and values.max() <= 1):
        raise FileProblem(file, "damaged (a picture has values in [0, 1])")
    return values


def read_classes(count: int, file: Path) -> Tensor:
    """Classes (H, W) int64, -100 where the file has -1.

    Args:
        count: How many classes there are.
        file: Which file.

    Raises:
        FileProblem: It is missing or damaged, or holds something else.
        InputError: It holds fractions, or classes that there are not.
    """
    stored = read_array(file)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2:
        raise FileProblem(file, f"damaged (one class per pixel, not shape {stored.shape})")
    numbers = whole_numbers(stored, file)
    refuse_classes(numbers, numbers >= count, file, f"there are 0 to {count - 1}, and -1 for none")
    classes = torch.from_numpy(numbers)
    return torch.where(classes >= 0, classes, IGNORE_INDEX)


def read_values(channels: int, file: Path) -> Tensor:
    """Values (channels, H, W) float32, NaN where all channels are 0.

    Args:
        channels: Values per pixel.
        file: Which file.

    Raises:
        FileProblem: It is missing or damaged, or holds something else.
    """
    values = _dense(file, channels)
    return torch.where((values == 0).all(0), torch.nan, values)


def _dense(file: Path, channels: int) -> Tensor:
    stored = read_array(file)
    if stored.ndim == 2:
        stored = stored[..., None]
    if stored.ndim != 3 or stored.shape[2] != channels:
        raise FileProblem(file, f"damaged (shape {stored.shape} instead of (height, width, {channels}))")
    return torch.from_numpy(np.ascontiguousarray(stored.transpose(2, 0, 1), dtype=np.float32))


def _by_number(folder: Path) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for stem, file in by_stem(folder, (".npy",)).items():
        if stem.isdecimal() and files.setdefault(int(stem), file) is not file:
            raise InputError(f"{files[int(stem)]} and {file} would both be number {int(stem)}; remove or rename one")
    return files


def samples(
    root: Path, split: str, name: str, labels: Mapping[str, tuple[str, Callable[[Path], Tensor], Task]], **options: Any
) -> Labelled:
    """The samples of a split.

    Args:
        root: The folder of ``train`` and ``val``.
        split: A key of ``HALVES``.
        name: The data set's name, in ids and messages.
        labels: By key: the folder, how a file of it is read, and whose label it is.
        **options: Those of ``Labelled``.

    Raises:
        InputError: No such split, no image, or no folder of a label.
    """
    part, half = half_of(split, name)
    for key, (folder, _, _) in labels.items():
        if not (root / part / folder).is_dir():
            raise InputError(
                f"{root / part} has no folder {folder!r}, where {key!r} is; add it or leave out the task"
                f"{near(folder, root / part)}"
            )
    images = _by_number(root / part / "image")
    files = {key: _by_number(root / part / folder) for key, (folder, _, _) in labels.items()}
    numbers = sorted(images)
    wanted = [n for n in numbers if n in range(*half.indices(numbers[-1] + 1))]
    if not wanted:
        raise InputError(f"{root / part}/image has no image NUMBER.npy of split {split!r}")
    return Labelled(
        [images[n] for n in wanted],
        {
            key: [files[key].get(n, root / part / folder / f"{n}.npy") for n in wanted]
            for key, (folder, _, _) in labels.items()
        },
        {key: Entry(read, partial(blank, task)) for key, (_, read, task) in labels.items()},
        ids=[stable_id(name, part, n) for n in wanted],
        picture=read_picture,
        **options,
    )
