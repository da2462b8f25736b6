"""What a sample is, which of its entries are missing, and how samples become a batch."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_taskonomy.batch import Batch, labelled_keys, missing_label, missing_value
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import VIEWS, Label, Task, presence

__all__ = [
    "Sample",
    "Samples",
    "SkipSample",
    "blank",
    "blank_label",
    "collate",
    "is_given",
    "is_picture",
    "missing_like",
    "size_of",
]

Sample = dict[str, Tensor]
"""One image with its labels, without the batch dimension."""


class Samples(Protocol):
    """What every data set here is: a sequence of samples.

    One that knows the camera of its images also has ``camera(index, size)``, which returns ``data.geometry.Intrinsics``
    for an image of that height and width, or None.
    """

    def __len__(self) -> int:
        """How many samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """One sample; always has ``id``."""


class SkipSample(Exception):
    """The image of a sample is missing or damaged; whoever asked goes on without it. The file is already reported."""


def blank(task: Task, size: tuple[int, int]) -> Tensor:
    """The target of a sample that has none: -100 for classes, NaN for values, nothing for a set.

    Args:
        task: Whose target.
        size: Height and width of the image.
    """
    return blank_label(task.label, size)


def blank_label(label: Label, size: tuple[int, int]) -> Tensor:
    """The label of a sample that has none.

    Args:
        label: What it holds.
        size: Height and width of the image.
    """
    return missing_label(label, label.shape(size))


def size_of(entry: Tensor) -> tuple[int, int]:
    """Height and width of an entry per pixel: its last two dimensions."""
    return int(entry.shape[-2]), int(entry.shape[-1])


def is_picture(key: str) -> bool:
    """Whether a key of a sample is a picture: the image, a variant of it, or several views."""
    return key == "image" or key.startswith("image_") or key in VIEWS


def is_given(sample: Sample, *keys: str) -> bool:
    """Whether a sample has all of some labels, missing values or not; of a set its presence flag says it.

    Args:
        sample: The sample.
        keys: The labels' keys.
    """
    return all(key in sample and bool(sample.get(presence(key), True)) for key in keys)


def missing_like(entry: Tensor) -> Tensor:
    """A missing label of the shape and type of another one: NaN, -100, or False."""
    return torch.full_like(entry, missing_value(entry.dtype))


def collate(samples: Sequence[Sample], labels: Mapping[str, Label] | None = None) -> Batch:
    """Stacks samples; an entry that only some of them have is missing in the others, an empty sample is left out.

    Sets are padded with their missing value to as many rows as the batch's largest of the same objects has, and
    ``presence(key)`` says of which images the set is labelled: one without objects is, one without the entry is not.

    Args:
        samples: Entries of one key have one shape and type, but for a set's number of objects.
        labels: What the entries hold; those that it does not name are stacked as they are.

    Returns:
        The batch; empty where every image of it is missing or damaged, and then the loader passes it over.

    Raises:
        InputError: They differ in size.
    """
    samples = [sample for sample in samples if sample]
    sets = {key: label.objects for key, label in (labels or {}).items() if label.is_set}
    flags = {key: [key in one and bool(one.get(presence(key), True)) for one in samples] for key in sets}
    rows: dict[str, int] = dict.fromkeys(sets.values(), 0)
    for key, objects in sets.items():
        counts = [len(sample[key]) for sample, labelled in zip(samples, flags[key], strict=True) if labelled]
        rows[objects] = max(rows[objects], *counts, 0)
    entries: dict[str, Tensor] = {}
    for key in dict.fromkeys(key for sample in samples for key in sample):
        present = next(sample[key] for sample in samples if key in sample)
        column = [sample[key] if key in sample else missing_like(present) for sample in samples]
        if key in sets:
            column = _padded(column, flags[key], rows[sets[key]])
            entries[presence(key)] = torch.tensor(flags[key])
        shapes = sorted({tuple(entry.shape) for entry in column})
        if len(shapes) > 1:
            advice = _SIZE if (labels and key in labels) or is_picture(key) else _UNDECLARED
            raise InputError(f"one batch has {key!r} of shapes {shapes[0]} and {shapes[1]}; {advice}")
        if key not in entries:
            entries[key] = torch.stack(column)
    return Batch(entries, labelled_keys(entries))


_SIZE = "give the data a size, and end transforms that change it with a Resize to one size"
_UNDECLARED = "give the data a size, or say what it holds by a label of the task that reads it"


def _padded(column: Sequence[Tensor], flags: Sequence[bool], rows: int) -> list[Tensor]:
    """Each set with so many rows, those that are added missing."""
    padded = []
    for entry, labelled in zip(column, flags, strict=True):
        count = len(entry) if labelled else 0
        filling = missing_like(entry.new_empty(rows - count, *entry.shape[1:]))
        padded.append(torch.cat([entry[:count], filling]))
    return padded
