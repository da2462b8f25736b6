"""The data module that data sets with a class or a depth per pixel share: each says only what it alone has."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples, blank
from lightning_taskonomy.data.formats.codes import Code
from lightning_taskonomy.data.mtan import HALVES
from lightning_taskonomy.data.reading import Entry, Labelled, stable_id
from lightning_taskonomy.data.stored import IMAGE_SUFFIXES, has_suffix, read_image, read_text, visible
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import IGNORE_INDEX, Task
from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND

__all__ = ["ALL", "PixelDataModule", "below", "first_of", "halves", "listed", "pictures"]

ALL = slice(None)
"""Every image of a part."""


def halves(train: str, evaluated: str) -> dict[str, tuple[str, slice]]:
    """The four splits of a data set with two labelled parts, as those of Cityscapes.

    Args:
        train: The part that is trained on.
        evaluated: The part that papers report on: ``official_test``, and half of it each ``validation`` and ``test``.
    """
    names = {"train": train, "val": evaluated}
    return {split: (names[part], which) for split, (part, which) in HALVES.items()}


class PixelDataModule(TaskDataModule):
    """Images in [0, 1], and for each a class or a depth per pixel in the data set's own files.

    Most have two parts with public labels: ``train``, and ``official_test``, which papers report on, whatever it is
    called in the files. Half of the latter each, every other image, are ``validation`` and ``test``.

    Args:
        root: The data set's folder; what it must hold stands in the class's description.
        size: Height and width to resize to; None keeps the files'.
        background: Whether class 0, where a task calls it "background", counts as a class; if not, its pixels are
            missing, as in the loss of "Factors of Influence" (appendix A).
        **options: Those of ``TaskDataModule``.
    """

    title: ClassVar[str]
    """The data set's name, in messages and ids."""
    layout: ClassVar[str]
    """What ``root`` must hold, in messages."""
    codes: ClassVar[tuple[tuple[Task, Code], ...]]
    """Its tasks, and how a label file of each is read."""
    splits: ClassVar[Mapping[str, tuple[str, slice]]] = halves("train", "val")
    """By split: the part of the files, and which of its images."""

    def __init__(self, root: str, size: tuple[int, int] | None = None, background: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])
        self.background = background

    def images(self, part: str) -> list[Path]:
        """The images of a part of the files, in order.

        Raises:
            InputError: There is no list of them.
        """
        raise NotImplementedError(f"{type(self).__name__} must list the images of {part!r}")

    def label(self, key: str, image: Path) -> Path:
        """The label file of an image, whether it is there or not."""
        raise NotImplementedError(f"{type(self).__name__} must name the file of {key!r} of {image}")

    def reader(self, task: Task, code: Code) -> Callable[[Path], Tensor]:
        """How a label file of a task is read; a module that knows more of its files gives its own."""
        return code

    @property
    def keys_offered(self) -> Collection[str]:
        """Image and labels."""
        return ("image", *(task.target for task, _ in self.codes))

    @property
    def own_tasks(self) -> Collection[Task]:
        """The catalog's tasks of this data set."""
        return [task for task, _ in self.codes]

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split with their labels.

        Raises:
            InputError: No such split, no list, no image, or no label file at all.
        """
        images, labels = self.files(split, keys)
        return self.samples(images, labels, self.entries(labels))

    def files(self, split: str, keys: Collection[str]) -> tuple[list[Path], dict[str, list[Path]]]:
        """The images of a split, and by key the label file of each.

        Raises:
            InputError: No such split, no list, no image, or no label file at all.
        """
        if split not in self.splits:
            raise InputError(f"{self.title} has no split {split!r}{hint(split, self.splits)}")
        part, which = self.splits[split]
        images = self.images(part)[which]
        if not images:
            raise InputError(
                f"{self.root} has no image of split {split!r} of {self.title}; root must hold {self.layout}"
            )
        labels = {}
        for task, _ in self.codes:
            if task.target in keys:
                labels[task.target] = files = [self.label(task.target, image) for image in images]
                if not any(file.exists() for file in files):
                    raise InputError(
                        f"{self.title}: no file of {task.target!r} of split {split!r}, such as {files[0]}; root must "
                        f"hold {self.layout}"
                    )
        return images, labels

    def entries(self, keys: Collection[str]) -> dict[str, Entry]:
        """How each of some keys is read."""
        entries = {}
        for task, code in self.codes:
            if task.target in keys:
                read = self.reader(task, code)
                if not self.background and task.class_names is not None and task.class_names[0] == BACKGROUND:
                    read = partial(_without_background, read)
                entries[task.target] = Entry(read, partial(blank, task))
        return entries

    def samples(
        self,
        images: list[Path],
        labels: Mapping[str, list[Path]],
        entries: Mapping[str, Entry],
        picture: Callable[[Path], Tensor] = read_image,
    ) -> Labelled:
        """Samples of these files; ids come from their paths below ``root``."""
        ids = [stable_id(self.title, image.relative_to(self.root).with_suffix("").as_posix()) for image in images]
        return Labelled(images, labels, entries, ids=ids, size=self.size, picture=picture)


def _without_background(read: Callable[[Path], Tensor], file: Path) -> Tensor:
    classes = read(file)
    return torch.where(classes == 0, IGNORE_INDEX, classes)


def first_of(*paths: Path) -> Path:
    """The first of some paths that is there, or the first of all."""
    return next((path for path in paths if path.exists()), paths[0])


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted; none if it is not there."""
    return [file for file in visible(folder) if has_suffix(file, IMAGE_SUFFIXES)]


def below(folder: Path, *names: str) -> list[Path]:
    """The pictures in a folder's subfolders, sorted, perhaps further down.

    Args:
        folder: Where; one that is not there has none.
        *names: The way down from each subfolder.
    """
    return [file for inner in visible(folder) for file in pictures(inner.joinpath(*names))]


def listed(listing: Path, advice: str) -> list[str]:
    """The lines of a list, without empty ones.

    Args:
        listing: A text file.
        advice: What to do where it is missing, in words that follow a semicolon.

    Raises:
        InputError: It is missing.
    """
    if not listing.is_file():
        raise InputError(f"{listing} is missing; {advice}")
    return [line.strip() for line in read_text(listing).splitlines() if line.strip()]
