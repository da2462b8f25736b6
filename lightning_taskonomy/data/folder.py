"""A user's own images and labels: one folder per split, in it one folder per key, in that one file per image."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples, SkipSample, blank
from lightning_taskonomy.data.reading import Entry, FileProblem, Labelled, read_array, read_image, stable_id
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, VIEWS, Label, Task, TaskKind, keys_of, resolve, targets_of

__all__ = ["IMAGE_SUFFIXES", "Encoding", "FolderDataModule"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files that are read as pictures."""

_LABEL_SUFFIXES = (".npy", ".txt", ".png", ".bmp", ".tif", ".tiff")
_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


@dataclass(frozen=True)
class Encoding:
    """How the numbers in a label file mean values: value = number x scale + offset.

    Args:
        scale: Units per number; 0.001 reads depth stored in millimetres as metres.
        offset: Added to it.
        missing: Numbers that mean that there is no label. NaN always does.
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()


class FolderDataModule(TaskDataModule):
    """Images and labels at ``<root>/<split>/<key>/<name>.<suffix>``; the image's key is ``image``.

    A label belongs to the image of the same name; where there is no file the label is missing. Class maps are PNG files
    (8 or 16 bits, palette allowed) or ``.npy`` (H, W); dense values are PNG or ``.npy`` (H, W), (C, H, W) or (H, W, C);
    normals in a PNG file are 127.5-centred, in the camera frame x right, y down, z forward; classes and vectors of a
    whole image are ``.txt`` or ``.npy``. Splits are ``train``, ``validation`` (or ``val``) and ``test``.

    Args:
        root: The folder of the splits.
        tasks: The tasks whose labels there are, by name or dotted path; None: those of the module being trained.
        size: Height and width to resize to; None keeps those of the files.
        encodings: By key, how numbers mean values.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(
        self,
        root: str,
        tasks: list[str | Task] | None = None,
        size: tuple[int, int] | None = None,
        encodings: dict[str, Encoding] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.given_tasks = None if tasks is None else resolve(tasks)
        self.size = None if size is None else (size[0], size[1])
        self.encodings: Mapping[str, Encoding] = encodings or {}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks whose labels there are.

        Raises:
            InputError: None given and no module to ask.
        """
        if self.given_tasks is not None:
            return self.given_tasks
        if self.trainer is None:
            raise InputError("FolderDataModule: no tasks given and no module to ask; pass tasks=['normals', ...]")
        return cast(Mapping[str, Task], self.trainer.lightning_module.tasks)

    @property
    def keys_offered(self) -> Collection[str]:
        """The image and the tasks' inputs and targets, but no pairs or triplets."""
        return {"image", *keys_of(self.tasks.values())} - VIEWS.keys()

    @property
    def targets(self) -> Mapping[str, Label]:
        """What each key holds: as the tasks say."""
        return {**super().targets, **targets_of(self.tasks.values())}

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split, with labels where there are files.

        Raises:
            InputError: No such split, no image, an unknown key in ``encodings``, or labels that belong to no image.
        """
        if split not in _FOLDERS:
            raise InputError(f"{self.root} has no split {split!r}{hint(split, _FOLDERS)}")
        for key in self.encodings:
            if key not in self.keys_offered:
                raise InputError(f"encodings names {key!r}, which no task reads{hint(key, self.keys_offered)}")
        folder = next((self.root / name for name in _FOLDERS[split] if (self.root / name).is_dir()), None)
        images = _by_stem(folder / "image", IMAGE_SUFFIXES) if folder else {}
        if folder is None or not images:
            raise InputError(
                f"{self.root} has no image of split {split!r}; expected "
                f"{self.root}/{split}/image/NAME.png and labels at {self.root}/{split}/KEY/NAME.png or .npy"
            )
        targets = {task.target: task for task in self.tasks.values()}
        pictures = {
            key: _by_stem(folder / key, IMAGE_SUFFIXES) for key in keys if key != "image" and key not in targets
        }
        without = {stem: key for key, files in pictures.items() for stem in images.keys() - files.keys()}
        if len(without) == len(images):
            raise InputError(f"no image of {folder / 'image'} has its file in {folder} / {' and '.join(pictures)}")
        complete = {stem: file for stem, file in images.items() if stem not in without}
        labels: dict[str, list[Path | None]] = {}
        entries: dict[str, Entry] = {}
        for key in sorted({*keys} - {"image"}):
            files = pictures.get(key) or _by_stem(folder / key, _LABEL_SUFFIXES)
            if files and not files.keys() & images.keys():
                raise InputError(f"no file in {folder / key} has the name of an image in {folder / 'image'}")
            labels[key] = [files.get(stem) for stem in complete]
            entries[key] = Entry(read_image, _no_picture) if key in pictures else self._label_entry(targets[key])
        samples = Labelled(
            list(complete.values()),
            labels,
            entries,
            ids=[stable_id(folder.name, stem) for stem in complete],
            size=self.size,
            targets=self.targets,
        )
        for stem, key in sorted(without.items()):
            samples.log.add(folder / key / images[stem].name, "missing, so the image is left out")
        return samples

    def _label_entry(self, task: Task) -> Entry:
        encoding = self.encodings.get(task.target)
        return Entry(partial(_read_label, task, encoding), partial(blank, task), task.is_dense)


def _by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.name[0] != ".")
    return {file.stem: file for file in found}


def _no_picture(size: tuple[int, int]) -> Tensor:
    raise SkipSample(f"an input of {size[1]}x{size[0]} pixels is damaged")


def _read_label(task: Task, encoding: Encoding | None, file: Path) -> Tensor:
    try:
        numbers = np.loadtxt(file, ndmin=1) if file.suffix == ".txt" else read_array(file)
    except ValueError as error:
        raise FileProblem(file, f"damaged ({error})") from error
    if task.is_classes:
        return _classes(task, encoding or Encoding(), numbers, file)
    stored = numbers.astype(np.float32)
    if encoding is None and task.kind is TaskKind.NORMALS and file.suffix != ".npy":
        encoding = Encoding(1 / 127.5, -1.0)
    elif encoding is None:
        encoding = Encoding()
    values = stored * encoding.scale + encoding.offset
    values[np.isin(stored, encoding.missing)] = np.nan
    if not task.is_dense:
        if values.size != task.channels:
            raise InputError(f"{file} holds {values.size} numbers, but task {task.name!r} has {task.channels} channels")
        return torch.from_numpy(values.reshape(-1))
    dense = torch.from_numpy(np.ascontiguousarray(_channels_first(values, task, file)))
    if task.kind is not TaskKind.NORMALS:
        return dense
    length = dense.norm(dim=0)
    return torch.where(length > 0.5, dense / length, float("nan"))


def _channels_first(values: NDArray[np.float32], task: Task, file: Path) -> NDArray[np.float32]:
    if values.ndim == 2 and task.channels == 1:
        return values[None]
    if values.ndim == 3 and values.shape[0] == task.channels and file.suffix == ".npy":
        return values
    if (
        values.ndim == 3
        and values.shape[-1] >= task.channels
        and (values.shape[-1] == task.channels or file.suffix != ".npy")
    ):
        return values[..., : task.channels].transpose(2, 0, 1)
    raise InputError(f"{file} has shape {values.shape}, but task {task.name!r} has {task.channels} channels")


def _classes(task: Task, encoding: Encoding, numbers: NDArray[np.generic], file: Path) -> Tensor:
    wanted = 2 if task.is_dense else 0
    if not task.is_dense and numbers.size == 1:
        numbers = numbers.reshape(())
    if numbers.ndim != wanted:
        unit = "pixel" if wanted else "image"
        raise InputError(f"{file} has shape {numbers.shape}, but task {task.name!r} wants one class per {unit}")
    classes = torch.from_numpy(np.where(np.isin(numbers, encoding.missing), IGNORE_INDEX, numbers).astype(np.int64))
    limit = np.iinfo(np.int64).max if task.kind is TaskKind.GROUPING else task.channels
    wrong = classes[(classes != IGNORE_INDEX) & ((classes < 0) | (classes >= limit))]
    if wrong.numel():
        raise InputError(
            f"{file} holds class {int(wrong[0])}, but task {task.name!r} has classes 0 to {limit - 1}; "
            f"if it means no label, name it in encodings.{task.target}.missing"
        )
    return classes
