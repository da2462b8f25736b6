"""A batch: entries by key, and which labels it has, known without asking the device."""

from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lightning_taskonomy.tasks import IGNORE_INDEX, Label, presence

__all__ = [
    "HELD_OUT",
    "PARALLEL",
    "Batch",
    "has_label",
    "is_labelled",
    "is_parallel",
    "labelled_keys",
    "missing_label",
    "missing_value",
    "origin_key",
]

PARALLEL = "parallel"
"""The key that tells two streams of batches apart: (B,) bool, all true in a batch of the images with primary labels."""

HELD_OUT = "held_out"
"""The key under which a batch carries another one, a mapping too: as many other images with the same labels."""


def origin_key(source: str) -> str:
    """The key that tells the batches of several sources apart: (B,) bool, all true in a batch of that source.

    Args:
        source: The source's name.
    """
    return f"from_{source}"


class Batch(UserDict[str, Tensor]):
    """What a loader of this library gives: tensors by key, the batch as leading dimension.

    Any mapping serves as a batch; of this one it is known on the host which labels it has, so that a training step
    never waits for the device to ask. Lightning moves it by :meth:`to`. It is not a ``dict``, which
    ``DistributedDataParallel`` would rebuild from its entries.

    Args:
        entries: Tensors by key; under ``held_out`` another batch, which moves with it.
        labelled: The keys of entries with at least one valid value; what is not known is looked at when first asked.
    """

    def __init__(self, entries: Mapping[str, Tensor] | None = None, labelled: Collection[str] | None = None) -> None:
        self._has_label: dict[str, bool] = {}
        super().__init__(entries)
        if labelled is not None:
            self._has_label = {key: key in labelled for key in self.data}

    def __setitem__(self, key: str, entry: Tensor) -> None:
        self.data[key] = entry
        self._has_label = {name: flag for name, flag in self._has_label.items() if name != key}  # copies share the old

    @property
    def labelled(self) -> frozenset[str]:
        """The keys of entries with at least one valid value."""
        if new := self.data.keys() - self._has_label.keys():
            self._has_label = self._has_label | {key: is_labelled(self.data, key) for key in new}
        return frozenset(key for key in self.data if self._has_label[key])

    @property
    def is_parallel(self) -> bool | None:
        """Whether its images have the labels of all tasks in parallel; None if the loader does not say; no wait."""
        return is_parallel(self)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch on a device; from pinned memory without waiting.

        Args:
            device: Where to.
            non_blocking: Not to wait where the memory is not pinned either.
        """
        entries = {k: v.to(device, non_blocking=non_blocking or v.is_pinned()) for k, v in self.data.items()}
        return type(self)(entries, self.labelled)

    def is_pinned(self) -> bool:
        """Whether all of it lies in pinned memory; asked of a batch that another one carries."""
        return all(entry.is_pinned() for entry in self.data.values())

    def pin_memory(self) -> Self:
        """The batch in pinned memory; loaders call it."""
        return type(self)({key: entry.pin_memory() for key, entry in self.data.items()}, self.labelled)


def is_labelled(entries: Mapping[str, Any], key: str) -> bool:
    """Whether a mapping has a label with at least one valid value at a key; of a ``Batch`` without looking at it.

    Args:
        entries: A batch or a sample. Of a set its presence flags count: an image without objects is labelled. A label
            that is not a tensor is valid unless it is None.
        key: The key.
    """
    if isinstance(entries, Batch):
        return key in entries.labelled
    entry = entries.get(presence(key), entries.get(key))
    return has_label(entry) if isinstance(entry, Tensor) else entry is not None


def is_parallel(batch: object) -> bool | None:
    """Whether a batch is one of the images with labels of all tasks (a meta step); None if its loader does not say.

    Args:
        batch: Any batch; a mapping says so by its entry ``parallel``, (B,) bool, as those of
            :class:`~lightning_taskonomy.data.ParallelLabels` do.
    """
    if not isinstance(batch, Mapping) or PARALLEL not in batch:
        return None
    return is_labelled(batch, PARALLEL)


def labelled_keys(entries: Mapping[str, Any]) -> frozenset[str]:
    """The keys for which :func:`is_labelled`.

    Args:
        entries: A batch or a sample.
    """
    return frozenset(key for key in entries if is_labelled(entries, key))


def missing_value(dtype: torch.dtype) -> float | int | bool:
    """What stands where there is no label, by type: NaN, -100, or False."""
    return False if dtype == torch.bool else float("nan") if dtype.is_floating_point else IGNORE_INDEX


def missing_label(label: Label, shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """A label that is missing everywhere.

    Args:
        label: What it holds.
        shape: Of one sample (``label.shape``) or of a batch.
        device: Where it is to be.
    """
    dtype: torch.dtype = getattr(torch, label.kind.dtype)
    return torch.full(tuple(shape), label.kind.missing, dtype=dtype, device=device)


def has_label(entry: Tensor) -> bool:
    """Whether an entry has any valid value: finite, a class that is not negative, or true. Waits for its device.

    Args:
        entry: Of a sample or a batch.
    """
    if entry.dtype == torch.bool:
        return bool(entry.any())
    return bool((entry.isfinite() if entry.is_floating_point() else entry >= 0).any())
