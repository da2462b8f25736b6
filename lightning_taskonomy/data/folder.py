"""A user's own images and labels: one folder per split, in it one folder per key, in that one file per image."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples, SkipSample, blank_label, is_given
from lightning_taskonomy.data.encodings import Encoding, check_objects, class_limit, is_void, read_label
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import (
    IMAGE_SUFFIXES,
    FileProblem,
    UnexpectedFiles,
    by_stem,
    has_suffix,
    read_array,
    read_image,
    visible,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import VIEWS, Label, LabelKind, Task, keys_of, resolve

__all__ = ["LABEL_SUFFIXES", "Encoding", "FolderDataModule"]

LABEL_SUFFIXES = (".npy", ".txt", ".csv", ".png", ".bmp", ".tif", ".tiff")
"""Files that are read as labels; a JPEG file does not keep its numbers."""

_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_LOOKED_AT = 50


class FolderDataModule(TaskDataModule):
    """Images and labels at ``<root>/<split>/<key>/<name>.<suffix>``; the image's key is ``image``.

    A label belongs to the image of the same name; where there is no file the label is missing. Class maps are PNG files
    (1 to 16 bits, palette allowed) or ``.npy`` (H, W); dense values are PNG, TIFF or ``.npy`` (H, W), (C, H, W) or
    (H, W, C); normals are in the camera frame x right, y down, z forward; classes and vectors of a whole image are
    ``.txt``, ``.csv`` or ``.npy``. Objects are such files too, with a row for each: left, top, right, bottom of a box,
    or x and y of each point (nothing or NaN where one is not marked), in pixels from the image's upper left corner, or
    a class; an empty file says that there is no object, no file that it is not known. Masks of objects are ``.npy``
    (objects, H, W), or pictures of numbers: 0 is no object, objects come in the order of their numbers. Splits are
    ``train``, ``validation`` (or ``val``) and ``test``.

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
        self._tasks = None if tasks is None else resolve(tasks)
        self.size = None if size is None else (size[0], size[1])
        self.encodings: Mapping[str, Encoding] = encodings or {}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks whose labels there are.

        Raises:
            InputError: None given and no module to ask.
        """
        if self._tasks is not None:
            return self._tasks
        if self.trainer is None:
            raise InputError("FolderDataModule: no tasks given and no module to ask; pass tasks=['normals', ...]")
        return cast(Mapping[str, Task], self.trainer.lightning_module.tasks)

    @property
    def keys_offered(self) -> Collection[str]:
        """The image and the tasks' inputs and targets that are files, but no pairs or triplets."""
        made = {key for key, label in self.targets.items() if label.made_by is not None}
        return {"image", *keys_of(self.tasks.values())} - VIEWS.keys() - pretext.KEYS - made

    @property
    def keys_asked(self) -> Collection[str]:
        """All of them: they are what the tasks read."""
        return self.keys_offered

    @property
    def own_tasks(self) -> Collection[Task]:
        """Those given, or those of the module being trained."""
        return self.tasks.values()

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split, with labels where there are files.

        Raises:
            InputError: No such split, no image, a line of ``encodings`` that cannot act, two files of one name, or
                labels that belong to no image.
        """
        if split not in _FOLDERS:
            raise InputError(f"{self.root} has no split {split!r}{hint(split, _FOLDERS)}")
        readers = {key: (task, label) for task in self.tasks.values() for key, label in task.targets.items()}
        self._check_encodings(readers)
        folder = next((self.root / name for name in _FOLDERS[split] if (self.root / name).is_dir()), None)
        images = by_stem(folder / "image", IMAGE_SUFFIXES) if folder else {}
        if folder is None or not images:
            others = f" (there: {_endings(folder / 'image')})" if folder and visible(folder / "image") else ""
            raise InputError(
                f"{self.root} has no image of split {split!r}{others}; expected "
                f"{self.root}/{split}/image/NAME.png and labels at {self.root}/{split}/KEY/NAME.png or .npy"
            )
        pictures = {key: by_stem(folder / key, IMAGE_SUFFIXES) for key in keys if key not in {"image", *readers}}
        without = {stem: key for key, files in pictures.items() for stem in images.keys() - files.keys()}
        if len(without) == len(images):
            raise InputError(f"no image of {folder / 'image'} has its file in {folder} / {' and '.join(pictures)}")
        complete = {stem: file for stem, file in images.items() if stem not in without}
        labels: dict[str, list[Path | None]] = {}
        entries: dict[str, Entry] = {}
        for key in sorted({*keys} - {"image"}):
            files = pictures.get(key) or by_stem(folder / key, LABEL_SUFFIXES)
            if files and not files.keys() & images.keys():
                other, image = next(iter(files.values())).name, next(iter(images.values())).name
                raise UnexpectedFiles(
                    f"no file in {folder / key} has the name of an image in {folder / 'image'}; there is {other}, "
                    f"where {Path(image).stem}{Path(other).suffix} belongs to {image}; rename the files"
                )
            labels[key] = [files.get(stem) for stem in complete]
            entries[key] = Entry(read_image, _no_picture) if key in pictures else self._label_entry(*readers[key])
        samples = _Files(self, folder, readers, complete, labels, entries)
        for stem, key in sorted(without.items()):
            samples.log.add(folder / key / images[stem].name, "missing, so the image is left out")
        for key in labels.keys() - pictures.keys():
            unread = [file for file in visible(folder / key) if file.stem in images and _is_unread(file)]
            if unread:
                samples.log.add(folder / key, f"{len(unread)} files are not read, such as {unread[0].name}; {_READ}")
        return samples

    def _check_encodings(self, readers: Mapping[str, tuple[Task, Label]]) -> None:
        for key, encoding in self.encodings.items():
            if key not in self.keys_offered:
                raise InputError(f"encodings names {key!r}, which no task reads{hint(key, self.keys_offered)}")
            if key not in readers:
                raise InputError(f"encodings names {key!r}, which is a picture and not a label; leave it out")
            encoding.check(readers[key][1])

    def _label_entry(self, task: Task, label: Label) -> Entry:
        return Entry(
            partial(read_label, task, label, self.encodings.get(label.key)),
            partial(blank_label, label),
            dense=label.is_dense or label.kind is LabelKind.MASKS,
            is_set=label.is_set,
            check=partial(check_objects, label) if label.is_set else None,
        )


class _Files(Labelled):
    """The images of a split with the labels asked for."""

    def __init__(
        self,
        module: FolderDataModule,
        folder: Path,
        readers: Mapping[str, tuple[Task, Label]],
        images: Mapping[str, Path],
        labels: Mapping[str, list[Path | None]],
        entries: Mapping[str, Entry],
    ) -> None:
        super().__init__(
            list(images.values()),
            labels,
            entries,
            ids=[stable_id(folder.name, stem) for stem in images],
            size=module.size,
            targets=module.targets,
        )
        self.folder, self.readers, self.encodings = folder, readers, module.encodings

    def complete(self, index: int, sample: Sample) -> None:
        """Labels of the same objects must be of as many.

        Raises:
            InputError: They are not; names the files.
        """
        counts: dict[str, dict[int, Path | None]] = defaultdict(dict)
        for key, files in self.labels.items():
            if self.entries[key].is_set and is_given(sample, key):
                counts[self.readers[key][1].objects][len(sample[key])] = files[index]
        for rows in counts.values():
            if len(rows) > 1:
                (first, one), (second, other) = list(rows.items())[:2]
                raise InputError(
                    f"{one} has {first} objects and {other} has {second}; give each object a row in both, or labels of "
                    "other objects another name of objects"
                )

    def absence(self, key: str) -> str:
        """What is in the place of the files."""
        place = self.folder / key
        if not place.is_dir():
            return f"there is no folder {place}{hint(key, (file.name for file in visible(self.folder)))}"
        there = f"holds {_endings(place)}" if visible(place) else "is empty"
        return f"{place} {there}; {_READ}, by the names of the images"

    def remarks(self) -> list[str]:
        """Class maps of one class and 255 alone."""
        remarks = []
        for key, (task, label) in self.readers.items():
            files = [file for file in self.labels.get(key, ()) if file is not None]
            numbers: set[int] = set()
            if label.kind is LabelKind.CLASSES and files:
                limit = class_limit(task, label)
                for file in files[:: -(-len(files) // _LOOKED_AT)]:
                    try:
                        stored = read_array(file)
                    except FileProblem as problem:
                        self.log.add(problem.file, problem.reason)
                        continue
                    if not is_void(stored, limit, self.encodings.get(key)):
                        break
                    numbers |= {*np.unique(stored).tolist()}
                    if len(numbers - {255}) > 1:
                        break
                else:
                    if len(numbers) == 2 and 255 in numbers and limit != 1:
                        remarks.append(_masks_of_255(self.folder / key, key, min(numbers)))
        return remarks


_READ = f"labels end in {', '.join(LABEL_SUFFIXES)}"


def _masks_of_255(folder: Path, key: str, number: int) -> str:
    return (
        f"{folder} has no other numbers than {number} and 255, and 255 means that there is no label, so that there is "
        f"nothing but class {number} to learn; if 255 is a class, say so by "
        f"encodings: {{{key}: {{classes: {{{number}: 0, 255: 1}}}}}}"
    )


def _is_unread(file: Path) -> bool:
    return file.is_file() and not has_suffix(file, LABEL_SUFFIXES)


def _endings(folder: Path) -> str:
    """How many files of which suffix a folder has."""
    suffixes = [file.suffix or "no suffix" for file in visible(folder)]
    return ", ".join(f"{suffixes.count(suffix)} of {suffix}" for suffix in dict.fromkeys(suffixes))


def _no_picture(size: tuple[int, int]) -> Tensor:
    raise SkipSample(f"an input of {size[1]}x{size[0]} pixels is damaged")
