"""ImageNet (Russakovsky et al., 2015) or any folders of classes: one class per image, torchvision's ``ImageFolder``."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample, Samples
from lightning_taskonomy.data.formats.objects import halves
from lightning_taskonomy.data.reading import Labelled, stable_id
from lightning_taskonomy.data.stored import IMAGE_SUFFIXES, UnexpectedFiles, has_suffix, near, visible
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.imagenet import CLASSIFICATION

__all__ = ["ImageNetDataModule"]

_SPLITS: Mapping[str, tuple[str, slice]] = halves("train", "val")


class ImageNetDataModule(TaskDataModule):
    """Images with ``image_class`` by folder: ``train/n01440764/*.JPEG``, ``val/n01440764/*.JPEG``.

    A class is the place of its folder's name among the sorted ones of ``train``, as torchvision's ``ImageFolder``
    counts; with all 1000 that is ImageNet's usual order. Splits are ``train``, ``official_test``
    (``val``), and half of that each, every other image, ``validation`` and ``test``.

    Args:
        root: The folder of ``train`` and ``val``.
        size: Height and width to resize to; None keeps those of the files, which differ.
        **options: Those of ``TaskDataModule``.
    """

    def __init__(self, root: str, size: tuple[int, int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.size = None if size is None else (size[0], size[1])

    @property
    def keys_offered(self) -> Collection[str]:
        """The image and its class."""
        return ("image", CLASSIFICATION.target)

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its classification."""
        return (CLASSIFICATION,)

    def build(self, split: str, keys: Collection[str]) -> Samples:
        """The images of a split, class by class.

        Raises:
            InputError: No such split, no folder, more classes than the task has, or one that ``train`` has not.
        """
        if split not in _SPLITS:
            raise InputError(f"ImageNet has no split {split!r}{hint(split, _SPLITS)}")
        part, which = _SPLITS[split]
        names = [folder.name for folder in visible(self.root / "train") if folder.is_dir()]
        numbers = {name: number for number, name in enumerate(names)}
        folder = self.root / part
        folders = [one for one in visible(folder) if one.is_dir()]
        if not names or not folders:
            raise InputError(
                f"{folder if names else self.root / 'train'} has no folder of a class{near(folder.name, self.root)}; "
                "root must hold train/CLASS/*.JPEG and val/CLASS/*.JPEG"
            )
        if len(names) > CLASSIFICATION.channels:
            raise UnexpectedFiles(
                f"{self.root / 'train'} has {len(names)} folders, but there are {CLASSIFICATION.channels} classes"
            )
        strange = sorted({one.name for one in folders}.difference(numbers))
        if strange:
            raise UnexpectedFiles(
                f"{folder} has {len(strange)} classes that train has not, such as {strange[0]}; sort its images into "
                "the folders of their classes"
            )
        files = [
            (file, numbers[one.name])
            for one in folders
            for file in visible(one)
            if has_suffix(file, IMAGE_SUFFIXES)
        ]  # fmt: skip
        return _Classified(self, files[which], keys)


class _Classified(Labelled):
    """Images with the class of their folder."""

    def __init__(self, module: ImageNetDataModule, files: list[tuple[Path, int]], keys: Collection[str]) -> None:
        ids = [stable_id("imagenet", file.relative_to(module.root).as_posix()) for file, _ in files]
        super().__init__([file for file, _ in files], {}, {}, ids=ids, size=module.size, targets=module.targets)
        self.classes = torch.tensor([number for _, number in files])
        self.wanted = CLASSIFICATION.target in keys

    def complete(self, index: int, sample: Sample) -> None:
        """Adds the class."""
        if self.wanted:
            sample[CLASSIFICATION.target] = self.classes[index].clone()
