"""Cached representations of frozen sources in place of images: a transfer then never runs an encoder."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_taskonomy.batch import Batch
from lightning_taskonomy.data.base import Part, TaskDataModule
from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.sources import representation_key
from lightning_taskonomy.tasks import Label

__all__ = ["RepresentationDataModule", "representation_file"]

_ROOM = 256 * 2**20
"""Bytes of labels that are kept in memory; the others are read again at each epoch."""


def representation_file(folder: str | Path, split: str, key: str) -> Path:
    """Where representations of one input of one split lie: ``id`` and ``map_0``, ``map_1``, ..., a row per image."""
    return Path(folder) / f"{split}-{key}.safetensors"


class _Table:
    """Representations of one input of one split, all sources side by side, found by the image's id."""

    def __init__(self, folders: Sequence[str | Path], split: str, key: str) -> None:
        self.maps: list[Tensor] = []
        self.rows: dict[int, int] = {}
        for folder in folders:
            file = representation_file(folder, split, key)
            if not file.is_file():
                raise InputError(f"{file} is missing; encode {key!r} of split {split!r} with that source first")
            try:
                with safe_open(file, "pt") as content:
                    ids = content.get_tensor("id").tolist()
                    names = sorted((n for n in content.keys() if n != "id"), key=lambda n: int(n.split("_")[1]))  # noqa: SIM118 (no dict)
                    maps = [content.get_tensor(name) for name in names]
            except SafetensorError as error:
                raise InputError(f"{file} is damaged ({error}); remove it and run the study again") from error
            rows = {image: row for row, image in enumerate(ids)}
            if self.rows and rows != self.rows:
                raise InputError(f"{file} holds other images than its neighbours; remove both and run the study again")
            self.rows = rows
            self.maps += maps
        self.folders = folders

    def take(self, ids: Tensor) -> Sample:
        rows = torch.tensor([self.rows[image] for image in ids.tolist()])
        return {representation_key(i): values[rows].float() for i, values in enumerate(self.maps)}


class _Joined(Pipeline):
    """Labels, as many as fit kept in memory, beside their representations; gives whole batches."""

    def __init__(self, labels: Pipeline, table: _Table) -> None:
        super().__init__(labels.samples, labels.indices, keys=labels.keys, seed=labels.seed, targets=labels.targets)
        self.labels, self.table = labels, table
        self._in_memory: dict[int, Sample] = {}
        self._room = _ROOM

    def __getitem__(self, draw: int) -> Sample:
        position = draw % len(self)
        if position in self._in_memory:
            return self._in_memory[position]
        sample = self.labels[position]
        if sample and int(sample["id"]) not in self.table.rows:
            sample = {}  # its image could not be read when it was encoded, and was listed then
        self._room -= sum(value.nbytes for value in sample.values())
        if self._room > 0:
            self._in_memory[position] = sample
        return sample

    def batch(self, draws: Sequence[int]) -> Batch:
        batch = super().batch(draws)
        if not batch:
            return batch
        maps = self.table.take(batch["id"])
        return Batch({**batch, **maps}, batch.labelled | maps.keys())

    def __getitems__(self, draws: Sequence[int]) -> Batch:
        return self.batch(draws)


class RepresentationDataModule(TaskDataModule):
    """The labels of a data set with the cached representations of k sources.

    Args:
        labels: Where the labels come from; its subsets and splits apply.
        sources: Folders of cached representations, in the transfer's order.
        input: The batch key whose representations are read: the target task's input.
    """

    def __init__(self, labels: TaskDataModule, sources: list[str], input: str = "image") -> None:
        super().__init__(
            batch_size=labels.batch_size, seed=labels.seed, validation_share=labels.validation_share, parts=labels.parts
        )
        self.labels, self.sources, self.input = labels, sources, input
        self.fit_split, self.fit_size = labels.fit_split, labels.fit_size
        self.validation_split, self.test_split, self.test_part = (
            labels.validation_split,
            labels.test_split,
            labels.test_part,
        )

    def prepare_data(self) -> None:
        """As the labels do."""
        self.labels.prepare_data()

    @property
    def keys_offered(self) -> Collection[str]:
        """The labels' keys."""
        return self.labels.keys_offered

    @property
    def targets(self) -> Mapping[str, Label]:
        """What the labels' keys hold."""
        return self.labels.targets

    def dataset(
        self,
        split: str,
        *,
        keys: Collection[str] | None = None,
        size: int | None = None,
        part: Part = "all",
        training: bool = False,
    ) -> Pipeline:
        """The labels of one split beside their representations, without augmentation."""
        wanted = self.batch_keys() if keys is None else sorted(keys)
        labels = self.labels.dataset(split, keys=wanted, size=size, part=part)
        return _Joined(labels, _Table(self.sources, split, self.input))
