"""Batches that several runs read: each is loaded once, with what any of them asks for, and looks to each as its own.

Runs whose data are described alike, but for the keys, read from one source. It has few batches of a loader at a time,
those that its slowest reader is at, so that its memory does not grow with the number of readers.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_taskonomy.batch import Batch
from lightning_taskonomy.data import TaskDataModule
from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.tasks import VIEWS, Label, Task, presence

__all__ = ["LOADERS", "WINDOW", "Kind", "SharedLoader", "Sources", "is_shareable"]

_LOG = logging.getLogger(__name__)

Kind = Literal["train", "val", "test"]
LOADERS: tuple[Kind, ...] = ("train", "val", "test")
"""The loaders of a data module that are shared."""

WINDOW = 4
"""Batches in a row that a run takes before the others take them; so many of a loader are kept."""

Ask = Callable[["SharedLoader", int], Batch | None]


def is_shareable(loader: Any) -> bool:
    """Whether what a loader gives depends on its description alone, and on no random numbers of the run.

    Args:
        loader: What a data module gives for a loader.
    """
    return (
        isinstance(loader, DataLoader)
        and isinstance(loader.dataset, Pipeline)
        and isinstance(loader.sampler, SequentialSampler | DistributedSampler)
        and loader.generator is not None
    )


class SharedLoader:
    """What a Trainer iterates in place of a run's loader: the same batches in the same order, loaded elsewhere.

    Args:
        kind: Which loader of the data module it stands for.
        loader: That loader; it is not kept.
        again: Makes that loader once more.
        ask: Gives a batch of an epoch by its number, when it is the run's turn; None behind the last one.
        device: Where its batches are to be.
        fits: Whether it belongs to a fit, whose dry pass looks at the first sample.
    """

    def __init__(
        self,
        kind: Kind,
        loader: DataLoader[Sample],
        again: Callable[[], Any],
        ask: Ask,
        device: torch.device,
        fits: bool,
    ) -> None:
        samples = loader.dataset
        assert isinstance(samples, Pipeline)
        self.kind, self.again, self.ask = kind, again, ask
        self.keys = samples.keys
        self.labels: Mapping[str, Label] = {key: samples.targets[key] for key in samples.keys & samples.targets.keys()}
        self.length, self.signature = len(loader), _signature(loader)
        self.dataset: Pipeline | None = _First(samples) if fits else None
        self.epoch, self.device, self.fits = 0, device, fits
        self.source: _Source | None = None
        self.batch_sampler = SimpleNamespace(sampler=self)  # where Lightning looks for what wants to know the epoch

    def set_epoch(self, epoch: int) -> None:
        """Notes the epoch, as a ``DistributedSampler`` does.

        Args:
            epoch: Its number.
        """
        self.epoch = epoch

    def leave(self) -> None:
        """Reads no more."""
        if self.source is not None:
            self.source.remove(self)
            self.source = None

    def is_like(self, other: "SharedLoader") -> bool:
        """Whether another one is read from the same source."""
        return self.source is other.source and self.kind == other.kind

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch, each when it is the run's turn."""
        for index in range(len(self)):
            batch = self.ask(self, index)
            if batch is None:
                return
            yield batch


class Sources:
    """Where runs read from: one source for all whose data are described alike and may be loaded together."""

    def __init__(self) -> None:
        self._shared: dict[Any, list[_Source]] = {}
        self._readers: dict[Any, list[SharedLoader]] = {}

    def join(self, run: Any, data: TaskDataModule, description: str, reader: SharedLoader) -> None:
        """Lets a loader read from the source of its like.

        Args:
            run: Whose loader it is.
            data: The run's data module; it is copied.
            description: What the data are made from, but for the keys.
            reader: The loader.
        """
        sets = frozenset(key for key, label in reader.labels.items() if label.is_set)
        views = frozenset(reader.keys & VIEWS.keys()) if data.transforms else frozenset()
        like = description, sets, views  # as many objects in a set, as many pictures to augment
        sources = self._shared.setdefault(like, [])
        source = next((source for source in sources if source.agrees(reader)), None)
        if source is None:
            sources.append(source := _Source(data))
        readers = self._readers.setdefault(run, [])
        for earlier in [one for one in readers if one.kind == reader.kind]:
            earlier.leave()
            readers.remove(earlier)
        readers.append(reader)
        source.add(reader, data)

    def take(self, reader: SharedLoader, index: int) -> Batch | None:
        """A batch as the reader would have loaded it alone.

        Args:
            reader: Whose.
            index: The number of the batch in the reader's epoch.

        Returns:
            None where the epoch has no such batch.
        """
        assert reader.source is not None
        if reader.source.is_shared:
            try:
                return reader.source.take(reader, index)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whose it is shows when each loads alone
                _LOG.warning("batches of %s are loaded for each run alone: %s", reader.kind, error)
                reader.leave()
                reader.source = _Source(None)
                reader.source.readers.append(reader)
        return reader.source.take(reader, index)

    def at_hand(self, reader: SharedLoader, index: int) -> Batch | None:
        """As :meth:`take`, but None where something must be loaded or moved.

        Args:
            reader: Whose.
            index: As there.
        """
        assert reader.source is not None
        return reader.source.at_hand(reader, index)

    def leave(self, run: Any) -> None:
        """Forgets the loaders of a run that has ended.

        Args:
            run: As it joined.
        """
        for reader in self._readers.pop(run, []):
            reader.leave()

    def sharers(self, reader: SharedLoader) -> list[Any]:
        """The runs that read what a loader reads, its own among them."""
        return [run for run, readers in self._readers.items() if any(reader.is_like(other) for other in readers)]


class _Source:
    """Loads batches for its readers.

    Args:
        data: The data module of the first of them, which is copied; None where a single one reads by its own loader.
    """

    def __init__(self, data: TaskDataModule | None) -> None:
        self.data = None if data is None else copy(data)
        self.is_shared = data is not None
        self.readers: list[SharedLoader] = []
        self._tasks: dict[str, Task] = {}
        self._trainer = SimpleNamespace(world_size=1, global_rank=0)
        if data is not None:
            self._trainer.accumulate_grad_batches = getattr(data.trainer, "accumulate_grad_batches", 1)
            for loader in LOADERS:  # those of the run that the copy is from
                vars(self.data).pop(f"{loader}_dataloader", None)
        self._passes: dict[Kind, _Pass] = {}
        self._copies = False

    def agrees(self, reader: SharedLoader) -> bool:
        """Whether a reader's keys mean to it what they mean to the others, and it has batches of the same images."""
        alike = [other for other in self.readers if other.kind == reader.kind]
        return all(other.signature == reader.signature for other in alike) and all(
            reader.labels[key] == other.labels[key]
            for other in self.readers
            for key in reader.labels.keys() & other.labels.keys()
        )

    def add(self, reader: SharedLoader, data: LightningDataModule) -> None:
        """Takes a reader in."""
        reader.source = self
        self.readers.append(reader)
        tasks = getattr(getattr(data.trainer, "lightning_module", None), "tasks", None)
        for name, task in tasks.items() if isinstance(tasks, Mapping) else ():
            if isinstance(task, Task) and task not in self._tasks.values():
                self._tasks[f"{len(self._tasks)} {name}"] = task

    def remove(self, reader: SharedLoader) -> None:
        """Lets a reader go, and what nobody reads any more."""
        self.readers.remove(reader)
        if not self.of(reader.kind):
            self._passes.pop(reader.kind, None)

    def of(self, kind: Kind) -> list[SharedLoader]:
        """The readers of one loader."""
        return [reader for reader in self.readers if reader.kind == kind]

    def take(self, reader: SharedLoader, index: int) -> Batch | None:
        """As :meth:`Sources.take`.

        Raises:
            Exception: What went wrong as the batch was loaded.
        """
        kind, epoch = reader.kind, reader.epoch if reader.kind == "train" else 0
        keys = frozenset[str]().union(*(other.keys for other in self.of(kind)))
        current = self._passes.get(kind)
        starts = current is not None and index == 0 and not current.has(epoch, 0)
        if current is None or not reader.keys <= current.keys or (starts and keys != current.keys):
            current = self._passes[kind] = _Pass(self._loader(reader, keys), keys)
        try:
            if current.has(epoch, index) and current.is_changed(index):
                self._copies = True  # a run works on its batches in place; nobody else may see that
                current.restart()
            current.seek(epoch, index)
            return current.batch_of(index, reader, self._copies)
        except BaseException:
            self._passes.pop(kind, None)
            raise

    def at_hand(self, reader: SharedLoader, index: int) -> Batch | None:
        """As :meth:`Sources.at_hand`."""
        epoch, current = reader.epoch if reader.kind == "train" else 0, self._passes.get(reader.kind)
        is_there = current is not None and reader.keys <= current.keys and current.has(epoch, index, reader.device)
        if current is None or not is_there or current.is_changed(index):
            return None
        return current.batch_of(index, reader, self._copies)

    def _loader(self, reader: SharedLoader, keys: frozenset[str]) -> DataLoader[Sample]:
        """The loader of all images that a reader reads, with keys of other readers too."""
        if self.data is None:
            alone: DataLoader[Sample] = reader.again()
            return alone
        data = copy(self.data)
        data.keys = sorted(keys - {"id"})
        self._trainer.lightning_module = SimpleNamespace(tasks=dict(self._tasks), batch_keys=data.keys)
        data.trainer = self._trainer  # type: ignore[assignment]  # what data modules ask of a trainer
        loader: DataLoader[Sample] = getattr(data, f"{reader.kind}_dataloader")()
        if _signature(loader) != reader.signature:
            raise ValueError("with the labels of other runs it has other images")
        return loader


class _Pass:
    """An epoch of a loader, of which a few batches are there.

    Args:
        loader: The loader.
        keys: What its samples hold.
    """

    def __init__(self, loader: DataLoader[Sample], keys: frozenset[str]) -> None:
        self.loader, self.keys = loader, keys
        self.restart()

    def restart(self) -> None:
        """Forgets where it is."""
        self.epoch, self.index = -1, -1
        self._batches: Iterator[Any] = iter(())
        self._there: dict[int, _Loaded] = {}

    def has(self, epoch: int, index: int, device: torch.device | None = None) -> bool:
        """Whether a batch is there, on a device if one is named."""
        batch = self._there.get(index) if epoch == self.epoch else None
        return batch is not None and (device is None or device in batch.on)

    def is_changed(self, index: int) -> bool:
        """Whether a reader has changed a batch in place."""
        batch = self._there[index]
        return any(_versions(batch.on[device]) != versions for device, versions in batch.versions.items())

    def seek(self, epoch: int, index: int) -> None:
        """Loads a batch, unless it is there, and lets go of those before its window."""
        if self.has(epoch, index):
            return
        if epoch != self.epoch or index <= self.index:
            self.restart()
            self.epoch = epoch
            sampler: Any = getattr(self.loader.batch_sampler, "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
            self._batches = iter(self.loader)
        while self.index < index:
            first = (self.index + 1) // WINDOW * WINDOW
            self._there = {number: batch for number, batch in self._there.items() if number >= first}
            self.index += 1
            self._there[self.index] = _Loaded(next(self._batches, None))

    def batch_of(self, index: int, reader: SharedLoader, copies: bool) -> Batch | None:
        """A batch that is there, with the reader's keys on its device; None behind the last one.

        Args:
            index: Its number.
            reader: Whose.
            copies: Whether it gets tensors of its own.
        """
        loaded = self._there[index]
        if loaded.batch is None:
            return None
        if reader.device not in loaded.on:
            loaded.on[reader.device] = loaded.batch.to(reader.device)
            loaded.versions[reader.device] = _versions(loaded.on[reader.device])
        batch = loaded.on[reader.device]
        others = self.keys - reader.keys
        others = (others | {presence(key) for key in others}) - reader.keys - {presence(key) for key in reader.keys}
        return Batch(_without(batch, others, copies), batch.labelled)


@dataclass
class _Loaded:
    """A batch, and what it is on the devices of its readers.

    Args:
        batch: As it was loaded; None behind the last one.
    """

    batch: Any
    on: dict[torch.device, Batch] = field(default_factory=dict)
    versions: dict[torch.device, list[int]] = field(default_factory=dict)


class _First(Pipeline):
    """The first sample of a pipeline, without the rest.

    Args:
        samples: The pipeline.
    """

    def __init__(self, samples: Pipeline) -> None:
        self._first = samples[0]
        self.normalisation = samples.normalisation
        self.streams = [_First(stream) for stream in getattr(samples, "streams", [])] or [self]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, draw: int) -> Sample:
        return self._first


def _without(batch: Mapping[str, Any], keys: Collection[str], copies: bool) -> Mapping[str, Any]:
    return {
        key: Batch(_without(entry, keys, copies), entry.labelled)
        if isinstance(entry, Batch)
        else (entry.clone() if copies else entry)
        for key, entry in batch.items()
        if key not in keys
    }


def _versions(batch: Mapping[str, Any]) -> list[int]:
    """How often each tensor was changed, those of a batch within it too."""
    versions: list[int] = []
    for entry in batch.values():
        versions += _versions(entry) if isinstance(entry, Batch) else [entry._version]
    return versions


def _signature(loader: DataLoader[Any]) -> tuple[int, ...]:
    """What tells batches of other images, or in another order, apart."""
    samples = loader.dataset
    assert isinstance(samples, Pipeline)
    ids = getattr(samples.samples, "ids", ())
    draws = tuple(map(tuple, loader.batch_sampler or ()))
    return hash(tuple(samples.indices)), hash(tuple(ids)), hash(draws)
