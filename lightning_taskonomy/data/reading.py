"""Files of images and labels to tensors: what is missing, damaged or of another size is said, never guessed."""

import hashlib
import logging
import struct
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_taskonomy.data.batch import Sample, SkipSample
from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label

__all__ = [
    "Entry",
    "FileProblem",
    "Labelled",
    "Problem",
    "Problems",
    "UnexpectedNames",
    "read_array",
    "read_image",
    "read_pixels",
    "stable_id",
]

_LOG = logging.getLogger(__name__)
_BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, zlib.error)  # all that Pillow and NumPy raise
_LISTED = 10


class UnexpectedNames(InputError):
    """A folder of labels has files, but none of them is named as it must be."""


class FileProblem(Exception):
    """A file cannot be used; said and counted by whoever reads it."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file, self.reason = file, reason


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

    found: dict[Path, Problem] = field(default_factory=dict)

    def add(self, file: Path, reason: str) -> None:
        """Counts and logs a file that is skipped."""
        if file in self.found:
            return
        self.found[file] = Problem(file, reason)
        if len(self.found) <= _LISTED:
            _LOG.warning("skipped %s: %s", file, reason)
        if len(self.found) == _LISTED:
            _LOG.warning("more skipped files are counted but not logged; list them by: lightning-taskonomy data check")


def stable_id(*parts: object) -> int:
    """A 63-bit number that names a sample by where it is from, the same in every split, subset and process."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def read_pixels(file: Path) -> NDArray[np.generic]:
    """The stored numbers of an image file, (H, W) or (H, W, channels); a palette image gives its indices.

    Raises:
        FileProblem: It is missing, truncated or no image.
    """
    try:
        with Image.open(file) as image:
            if image.mode == "1":
                return np.asarray(image.convert("L"))
            return np.asarray(image)
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except _BROKEN as error:
        raise FileProblem(file, f"damaged ({error})") from error


def read_image(file: Path) -> Tensor:
    """A picture as (3, H, W) float32 RGB in [0, 1]; 8 or 16 bits, grey or with a palette or transparency.

    Raises:
        FileProblem: It is missing, truncated or no image.
    """
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I") or image.mode == "F":
                gray = np.asarray(image).astype(np.float32) / (65535 if image.mode.startswith("I") else 1)
                pixels = np.repeat(gray[..., None], 3, -1)
            else:
                pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except _BROKEN as error:
        raise FileProblem(file, f"damaged ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_array(file: Path) -> NDArray[np.generic]:
    """The array of a ``.npy`` file, or the pixels of an image file.

    Raises:
        FileProblem: It is missing, truncated, or holds Python objects.
    """
    if file.suffix != ".npy":
        return read_pixels(file)
    try:
        array: NDArray[np.generic] = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except _BROKEN as error:
        raise FileProblem(file, f"damaged ({error})") from error
    return array


@dataclass(frozen=True)
class Entry:
    """How one key of a sample is read.

    Args:
        read: File to tensor; raises ``FileProblem``.
        blank: Height and width of the image to the entry of a sample that has none.
        dense: Whether its last two dimensions are those of the image.
    """

    read: Callable[[Path], Tensor]
    blank: Callable[[tuple[int, int]], Tensor]
    dense: bool = True


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
        return self.log.found.values()

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
            sample[key] = self.entry(key, files[index], file, image)
        self.complete(index, sample)
        return self.resized(sample)

    def complete(self, index: int, sample: Sample) -> None:
        """Adds what needs more than one file, in the size of the files; nothing here."""

    def entry(self, key: str, file: Path | None, image_file: Path, image: Tensor) -> Tensor:
        """One label, blank if it is missing or damaged.

        Raises:
            InputError: Image and label differ in size.
        """
        entry, size = self.entries[key], (image.shape[-2], image.shape[-1])
        if file is None:
            return entry.blank(size)
        try:
            label = entry.read(file)
        except FileProblem as problem:
            self.log.add(problem.file, problem.reason)
            return entry.blank(size)
        if entry.dense and label.shape[-2:] != size:
            given = f"{label.shape[-1]}x{label.shape[-2]}"
            raise InputError(
                f"{file} is {given} pixels but its image {image_file} is {size[1]}x{size[0]}; make them the same size"
            )
        return label

    def resized(self, sample: Sample) -> Sample:
        """The sample in ``size``, labels as ``data.transforms`` says."""
        if self.size is None or sample["image"].shape[-2:] == self.size:
            return sample
        from torchvision.transforms.v2 import Resize

        from lightning_taskonomy.data.transforms import Joint

        joint: Callable[[Sample], Sample] = Joint([Resize(self.size)], self.targets)
        return joint(sample)
