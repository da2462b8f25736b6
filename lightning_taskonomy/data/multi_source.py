"""Several data sets that one network learns from, a batch of one after a batch of another.

"Factors of Influence for Transfer Learning", section 5.1: the data sets take turns batch by batch, and the head of each
learns from its own images alone.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_taskonomy.batch import Batch, origin_key
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.data.streams import StreamDraws, Streams
from lightning_taskonomy.data.turns import Turns
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task, keys_of

__all__ = ["MultiSourceData"]


class MultiSourceData(TaskDataModule):
    """Batches of several data sets in turn, for :class:`~lightning_taskonomy.modules.MultiSourceModule`.

    Each batch is of one data set and says of which by an entry ``from_<name>``. Images of different sets may differ in
    size. An epoch has as many batches as all of them together; which images a batch has follows from its number alone,
    so that it is the same after a resume. Validation and test go through one data set after the other.

    Args:
        sources: The data sets by name; splits, transforms and batch sizes for validation are theirs.
        batch_size: Images of a training batch; that of the first data set where not given.
        seed: Decides the order of batches.

    Raises:
        InputError: There are fewer than two.
    """

    def __init__(self, sources: dict[str, TaskDataModule], *, batch_size: int | None = None, seed: int = 0) -> None:
        if len(sources) < 2:
            raise InputError(f"MultiSourceData has the sources {sorted(sources)}; give two or more")
        first = next(iter(sources.values()))
        options = {name: getattr(first, name) for name in _OPTIONS}
        super().__init__(**{**options, "seed": seed, "batch_size": batch_size or first.batch_size})
        self.sources = sources

    def prepare_data(self) -> None:
        """As each data set does."""
        for data in self.sources.values():
            data.prepare_data()

    def train_dataloader(self) -> DataLoader[Sample]:
        """Whole batches of the sources in turn."""
        streams = []
        for data, tasks in self._read():
            samples = data.dataset(
                data.fit_split, keys=keys_of(tasks.values()), size=data.fit_size, part=data.fit_part, training=True
            )
            data.require_labels(samples)
            streams.append(samples)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        turns = _EachInTurn(0, self.trainer.accumulate_grad_batches if self.trainer else 1, len(streams))
        images = sum(map(len, streams))
        steps = max(1, images // (self.batch_size * world * len(turns.cycle))) * len(turns.cycle)
        samples = _Sources(streams, list(self.sources))
        sampler = StreamDraws(
            samples, turns, steps=steps, batch_size=self.batch_size, num_replicas=world, rank=rank, seed=self.seed,
            held_out=False,
        )  # fmt: skip
        return self.loader(samples, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> Any:
        """The validation batches of one source after the other."""
        return _OneAfterTheOther({name: data.val_dataloader() for name, data in self._named()})

    def test_dataloader(self) -> Any:
        """The test batches of one source after the other."""
        return _OneAfterTheOther({name: data.test_dataloader() for name, data in self._named()})

    def _named(self) -> Iterator[tuple[str, TaskDataModule]]:
        for name, (data, tasks) in zip(self.sources, self._read(), strict=True):
            data.keys = keys_of(tasks.values())
            yield name, data

    def _read(self) -> Iterator[tuple[TaskDataModule, Mapping[str, Task]]]:
        """Each data set with the task of the module being trained that reads it."""
        for name, data in self.sources.items():
            if name not in self._trained:
                raise InputError(f"the module being trained has no source {name!r}, only {sorted(self._trained)}")
            data.readers = {name: self._trained[name]}
            yield data, data.readers


@dataclass(frozen=True)
class _EachInTurn(Turns):
    """One step of each of several streams, over and over."""

    streams: int = 2

    @property
    def cycle(self) -> tuple[int, ...]:
        return tuple(stream for stream in range(self.streams) for _ in range(self.accumulate))


class _Sources(Streams):
    """Samples of several data sets, in whole batches of one each."""

    def __init__(self, streams: Sequence[Pipeline], names: Sequence[str]) -> None:
        super().__init__(streams, [False] * len(streams))
        self.names = names

    def __getitems__(self, draws: Sequence[Any]) -> Batch:
        (stream,) = {draw % len(self.streams) for draw in draws}
        return _marked(self.streams[stream].batch([draw // len(self.streams) for draw in draws]), self.names[stream])


def _marked(batch: Batch, source: str) -> Batch:
    """A batch that says of which source it is."""
    if batch:
        batch[origin_key(source)] = torch.ones(len(batch["id"]), dtype=torch.bool)
    return batch


class _OneAfterTheOther:
    """The batches of several loaders, each of which says of which source it is."""

    def __init__(self, loaders: Mapping[str, DataLoader[Sample]]) -> None:
        self.loaders = loaders

    def __len__(self) -> int:
        return sum(map(len, self.loaders.values()))

    def __iter__(self) -> Iterator[Batch]:
        for name, loader in self.loaders.items():
            for batch in loader:
                yield _marked(batch, name)


_OPTIONS = [name for name in inspect.signature(TaskDataModule.__init__).parameters if name not in ("self", "parts")]
