"""What a sample is, which of its entries are missing, and how samples become a batch."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind

__all__ = ["Sample", "Samples", "SkipSample", "blank", "collate", "keys_of", "missing_like", "target_shape"]

Sample = dict[str, Tensor]
"""One image with its labels, without the batch dimension."""


class Samples(Protocol):
    """What every data set here is: a sequence of samples."""

    def __len__(self) -> int:
        """How many samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """One sample; always has ``id``."""


class SkipSample(Exception):
    """The image of a sample is missing or damaged; whoever asked goes on without it. The file is already reported."""


def keys_of(tasks: Mapping[str, Task]) -> list[str]:
    """The batch keys that tasks read and are scored on, sorted."""
    return sorted({key for task in tasks.values() for key in (task.input, task.target)})


def target_shape(task: Task, size: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one sample's target.

    Args:
        task: Whose target.
        size: Height and width of the image.
    """
    height, width = size[0] // task.stride, size[1] // task.stride
    if task.kind in (TaskKind.SEGMENTATION, TaskKind.GROUPING):
        return (height, width)
    if task.is_dense:
        return (task.channels, height, width)
    return () if task.kind is TaskKind.CLASSIFICATION else (task.channels,)


def blank(task: Task, size: tuple[int, int]) -> Tensor:
    """The target of a sample that has none: 255 for classes, NaN for values.

    Args:
        task: Whose target.
        size: Height and width of the image.
    """
    if task.is_classes:
        return torch.full(target_shape(task, size), IGNORE_INDEX, dtype=torch.int64)
    return torch.full(target_shape(task, size), float("nan"))


def missing_like(entry: Tensor) -> Tensor:
    """A missing label of the shape and type of another one: NaN, or 255 for whole numbers."""
    return torch.full_like(entry, float("nan") if entry.is_floating_point() else IGNORE_INDEX)


def collate(samples: Sequence[Sample]) -> Sample:
    """Stacks samples; an entry that only some of them have is missing in the others, an empty sample is left out.

    Args:
        samples: Entries of one key have one shape and type.

    Returns:
        The batch; empty where every image of it is missing or damaged, and then the loader passes it over.

    Raises:
        InputError: They differ in size.
    """
    samples = [sample for sample in samples if sample]
    batch = {}
    for key in dict.fromkeys(key for sample in samples for key in sample):
        present = next(sample[key] for sample in samples if key in sample)
        entries = [sample[key] if key in sample else missing_like(present) for sample in samples]
        shapes = sorted({tuple(entry.shape) for entry in entries})
        if len(shapes) > 1:
            raise InputError(f"one batch has {key!r} of shapes {shapes[0]} and {shapes[1]}; give the data a size")
        batch[key] = torch.stack(entries)
    return batch
