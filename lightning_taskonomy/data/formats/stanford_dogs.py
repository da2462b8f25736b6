"""Stanford Dogs (Khosla et al., 2011) with the points of StanfordExtra (Biggs et al., 2020): one dog per image."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_taskonomy.data.formats.annotations import Member, read_json, read_mat
from lightning_taskonomy.data.formats.objects import Annotated, ObjectDataModule, whole
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import FileProblem, read_array, visible
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.stanford_dogs import BREED, BREEDS, KEYPOINTS, POINTS

__all__ = ["StanfordDogsDataModule"]

_FOLDERS = ("Images", "images", "sample_imgs")
_STORED = 24
"""Points per dog in the files."""


class StanfordDogsDataModule(ObjectDataModule):
    """Images of dogs with ``boxes`` and ``points`` (n, 20, 2) of one dog, and ``breed``, of 120.

    Splits are those of Stanford Dogs' own lists (``train_list.mat``, ``test_list.mat``: ``train`` and ``test``, as in
    the paper), else of StanfordExtra's (``train_StanfordExtra_v12.npy`` and so on: ``train``, ``validation`` and
    ``test``); where neither is there, all images are ``train``. A point that is placed but hidden counts as marked; it
    lies as many pixels from the image's corner as the file says. Other dogs in an image are not annotated.

    Args:
        root: The folder of ``StanfordExtra*.json``, of the lists, and of ``Images`` (or ``sample_imgs``).
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits = whole(train="train", validation="val", test="test", official_test="test")
    class_key = BREED.target

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its keypoints and breeds."""
        return (KEYPOINTS, BREED)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images of a split that StanfordExtra annotates.

        Raises:
            InputError: There is no such file or split, or it is damaged.
        """
        files = [
            file for file in visible(self.root) if file.stem.startswith("StanfordExtra") and file.suffix == ".json"
        ]
        folder = next((self.root / name for name in _FOLDERS if (self.root / name).is_dir()), None)
        if not files or folder is None:
            raise InputError(
                f"{self.root} has no {'folder Images' if files else 'StanfordExtra*.json'}; root must hold both, and "
                "the lists of Stanford Dogs"
            )
        content = read_json(files[-1])
        if not isinstance(content, list):
            raise FileProblem(files[-1], "is no list of dogs")
        dogs = [Member(files[-1], f"dog {number}", entry) for number, entry in enumerate(content)]
        return [_read(dog, folder) for dog in self._of(part, dogs)], ()

    def _of(self, part: str, dogs: Sequence[Member]) -> Sequence[Member]:
        """Those of a split."""
        if (self.root / "train_list.mat").is_file():
            names = _listed(self.root / f"{part}_list.mat")
            return [dog for dog in dogs if dog.text("img_path") in names]
        lists = [file for file in visible(self.root) if file.suffix == ".npy" and "_StanfordExtra" in file.name]
        if lists:
            file = next((file for file in lists if file.name.startswith(f"{part}_")), None)
            if file is None:
                raise InputError(f"{self.root} has no {part}_StanfordExtra*.npy beside {lists[0].name}")
            numbers = read_array(file).astype(np.int64).reshape(-1)
            if ((numbers < 0) | (numbers >= len(dogs))).any():
                raise FileProblem(
                    file, f"names dogs beyond the {len(dogs)} of {dogs[0].file}; take both of one version"
                )
            return [dogs[number] for number in numbers.tolist()]
        if part == "train":
            return dogs
        raise InputError(
            f"{self.root} has no list {part!r}: without train_list.mat or *_StanfordExtra*.npy all images are 'train'"
        )


def _listed(file: Path) -> set[str]:
    """The images that a list of Stanford Dogs names."""
    if not file.is_file():
        raise InputError(f"there is no {file}; Stanford Dogs has lists train_list.mat and test_list.mat")
    names = np.atleast_1d(read_mat(file, "file_list")).tolist()
    if not all(isinstance(name, str) for name in names):
        raise FileProblem(file, "damaged (file_list is no list of names)")
    return {*names}


def _read(dog: Member, folder: Path) -> Annotated:
    name = dog.text("img_path")
    dog.where = name
    joints = dog.list_of("joints")
    if len(joints) != _STORED:
        raise FileProblem(dog.file, f"{name} has {len(joints)} points, not {_STORED}")
    numbers = np.array(
        [Member(dog.file, name, {"joint": joint}).numbers("joint", 3) for joint in joints[: len(POINTS)]]
    )
    left, top, width, height = dog.numbers("img_bbox", 4)
    breeds: Mapping[str, int] = {number: position for position, number in enumerate(BREEDS)}
    number = name.partition("-")[0]
    fields: dict[str, Any] = {}
    if number not in breeds:
        fields["refusal"] = f"{dog.file}: {name} is in the folder of no breed of Stanford Dogs"
    else:
        fields["image_class"] = breeds[number]
    return Annotated(
        folder / name, stable_id("stanford_dogs", name), [[left, top, left + width, top + height]], [0],
        [np.where(numbers[:, :2].any(1, keepdims=True), numbers[:, :2], np.nan)],
        size=(dog.whole("img_height"), dog.whole("img_width")), **fields,
    )  # fmt: skip
