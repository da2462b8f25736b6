"""Files of images and labels to tensors: what is missing, damaged or of another size is said, never guessed."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightning_taskonomy.batch import has_label
from lightning_taskonomy.data.batch import Sample, SkipSample, size_of
from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.data.stored import FileProblem, read_image
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, presence

__all__ = [
    "Entry",
    "Labelled",
    "Problem",
    "Problems",
    "stable_id",
]

_LOG = logging.getLogger(__name__)
_LISTED = 10


@dataclass(frozen=True)
class Problem:
    """A file that is missing or cannot be read.

    Args:
        file: Which.
        reason: ``missing``, or what is wrong with it.
    """

    file: Path
    reason: str


@dataclass
class Problems:
    """The files that could not be used, each once; the first few are logged one by one."""

    by_file: dict[Path, Problem] = field(default_factory=dict)

    def add(self, file: Path, reason: str, done: str = "skipped") -> None:
        """Counts and logs a file that is skipped, or of which a part is.

        Args:
            file: Which.
            reason: What is wrong with it.
            done: What that did to it, in the log.
        """
        if file in self.by_file:
            return
        self.by_file[file] = Problem(file, reason)
        if len(self.by_file) <= _LISTED:
            _LOG.warning("%s %s: %s", done, file, reason)
        if len(self.by_file) == _LISTED:
            _LOG.warning("more skipped files are counted but not logged; list them by: lightning-taskonomy data check")


def stable_id(*parts: object) -> int:
    """A 63-bit number that names a sample by where it is from, the same in every split, subset and process."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Entry:
    """How one key of a sample is read.

    Args:
        read: File to tensor; raises ``FileProblem``.
        blank: Height and width of the image to the entry of a sample that has none.
        dense: Whether its last two dimensions are those of the image.
        is_set: Whether it has as many rows as the image has objects, and a presence flag.
        check: Takes the file, what was read of it, and height and width of the image; raises ``InputError``.
    """

    read: Callable[[Path], Tensor]
    blank: Callable[[tuple[int, int]], Tensor]
    dense: bool = True
    is_set: bool = False
    check: Callable[[Path, Tensor, tuple[int, int]], None] | None = None


class Labelled:
    """Samples from files: one image each, and labels of which any may be missing.

    Args:
        images: The image files, in order.
        labels: Per key, one file for each image; None where there is no label.
        entries: How each key is read.
        ids: The stable id of each image.
        size: Height and width that images and labels are resized to together; None keeps theirs.
        buildings: The building (or sequence, or any unit that splits must not share) of each image.
        targets: What further keys hold, for ``data.transforms.Joint``.
        picture: How an image is read, (3, H, W) in [0, 1]; raises ``FileProblem``.
        lens: Height and width of an image to the camera that took all of them, if it is known.
    """

    def __init__(
        self,
        images: Sequence[Path],
        labels: Mapping[str, Sequence[Path | None]],
        entries: Mapping[str, Entry],
        *,
        ids: Sequence[int],
        size: tuple[int, int] | None = None,
        buildings: Sequence[str] | None = None,
        targets: Mapping[str, Label] | None = None,
        picture: Callable[[Path], Tensor] = read_image,
        lens: Callable[[tuple[int, int]], Intrinsics] | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.entries = entries
        self.ids = ids
        self.size = size
        self.buildings = buildings
        self.targets = targets
        self.picture = picture
        self.lens = lens
        self.log = Problems()

    @property
    def problems(self) -> Collection[Problem]:
        """The files found missing or damaged so far, in this process."""
        return self.log.by_file.values()

    def camera(self, index: int, size: tuple[int, int]) -> Intrinsics | None:
        """The camera that took an image of that height and width; None where it is not known."""
        return None if self.lens is None else self.lens(size)

    def __len__(self) -> int:
        """How many images, damaged ones among them."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """One image with its labels, missing ones NaN or -100.

        Raises:
            SkipSample: The image is missing or damaged.
            InputError: Image and label differ in size.
        """
        file = self.images[index]
        try:
            image = self.picture(file)
        except FileProblem as problem:
            self.log.add(problem.file, problem.reason)
            raise SkipSample(str(problem)) from problem
        sample = {"image": image, "id": torch.tensor(self.ids[index])}
        for key, files in self.labels.items():
            label = self.entry(key, files[index], file, image)
            if self.entries[key].is_set:
                sample[presence(key)] = torch.tensor(label is not None)
            sample[key] = self.entries[key].blank(size_of(image)) if label is None else label
        self.complete(index, sample)
        return self.resized(sample)

    def complete(self, index: int, sample: Sample) -> None:
        """Adds what needs more than one file, in the size of the files; nothing here."""

    def entry(self, key: str, file: Path | None, image_file: Path, image: Tensor) -> Tensor | None:
        """One label, None if it is missing or damaged.

        Raises:
            InputError: Image and label do not belong together.
        """
        entry, size = self.entries[key], size_of(image)
        if file is None:
            return None
        try:
            label = entry.read(file)
        except FileProblem as problem:
            self.log.add(problem.file, problem.reason)
            return None
        if entry.dense and label.shape[-2:] != size:
            pixels = f"{label.shape[-1]}x{label.shape[-2]}"
            raise InputError(
                f"{file} is {pixels} pixels but its image {image_file} is {size[1]}x{size[0]}; make them the same size"
            )
        if entry.check is not None:
            entry.check(file, label, size)
        return label

    def unlabelled(self, key: str, indices: Iterable[int]) -> str | None:
        """Why no image has a label at a key, or None where one has; labels are read until a valid one.

        Args:
            key: What no file is read for counts as there.
            indices: Among which images.

        Raises:
            InputError: A label does not fit its task.
        """
        if key not in self.labels:
            return None
        count, problems, blank = 0, [], None
        for index in indices:
            file = self.labels[key][index]
            if file is None:
                continue
            count += 1
            try:
                label = self.entries[key].read(file)
            except FileProblem as problem:
                self.log.add(problem.file, problem.reason)
                problems.append(problem)
                continue
            if self.entries[key].is_set or has_label(label):
                return None
            blank = blank or file
        if blank is not None:
            return f"nothing but missing values in {count - len(problems)} files, such as {blank}"
        return f"of {count} files none can be read, such as {problems[0]}" if problems else self.absence(key)

    def absence(self, key: str) -> str:
        """Why there is no file of a label at all."""
        return f"no file of {key!r} belongs to an image"

    def remarks(self) -> list[str]:
        """What the labels look as if they were meant otherwise than they are read; a few files are looked at."""
        return []

    def resized(self, sample: Sample) -> Sample:
        """The sample in ``size``, labels as ``data.transforms`` says."""
        if self.size is None or sample["image"].shape[-2:] == self.size:
            return sample
        from torchvision.transforms.v2 import Resize

        from lightning_taskonomy.data.transforms import Joint

        joint: Callable[[Sample], Sample] = Joint([Resize(self.size)], self.targets)
        return joint(sample)
