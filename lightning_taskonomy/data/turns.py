"""Two loaders in turns: few batches with the labels of all tasks, many with those of the auxiliary tasks."""

import inspect
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import distributed
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_taskonomy.errors import InputError

__all__ = ["InTurns", "Turns"]


@dataclass(frozen=True)
class Turns:
    """Which of two streams each batch of a fit is from: those of one step of the first, then of k of the other.

    Attributes:
        auxiliary_steps: k, steps of stream 1 after each step of stream 0; 0 where there is one stream.
        accumulate: Batches of one stream in a row that are one step.
    """

    auxiliary_steps: int
    accumulate: int = 1

    @property
    def cycle(self) -> tuple[int, ...]:
        """The streams of the batches of one cycle."""
        return (0,) * self.accumulate + (1,) * (self.auxiliary_steps * self.accumulate)

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Streams of some batches, each with the number of batches of the same stream before it.

        Args:
            start: Number of the first batch, counted from the start of the fit.
            stop: Number of the first batch that is not asked for.
        """
        cycle = self.cycle
        for number in range(start, stop):
            cycles, turn = divmod(number, len(cycle))
            stream = cycle[turn]
            yield stream, cycles * cycle.count(stream) + cycle[:turn].count(stream)


class InTurns:
    """One batch of a loader with parallel labels, then k of another, over and over: a loader for ``trainer.fit``.

    An epoch is one pass over ``parallel``; ``auxiliary`` goes on where the last epoch left it, and starts anew when it
    is through. Several processes share the samples of a ``DataLoader``, as they would if Lightning had it alone; any
    other iterable must share them itself. For a data module, whose order survives a resume, see
    :class:`~lightning_taskonomy.data.ParallelLabels`.

    Args:
        parallel: Batches with labels of the primary and the auxiliary tasks; has a length.
        auxiliary: Batches without labels of the primary task.
        auxiliary_steps: k, batches of ``auxiliary`` after each of ``parallel``.
        accumulate: The trainer's ``accumulate_grad_batches``: so many batches of a kind in a row are one step.

    Raises:
        InputError: A number below 1, or a pass over ``parallel`` that is shorter than a step; in the course of a fit a
            loader without batches, or one of several processes whose samples cannot be shared.
    """

    def __init__(
        self, parallel: Iterable[Any], auxiliary: Iterable[Any], auxiliary_steps: int, accumulate: int = 1
    ) -> None:
        if auxiliary_steps < 1 or accumulate < 1:
            raise InputError(
                f"auxiliary_steps is {auxiliary_steps} and accumulate {accumulate}; both must be at least 1"
            )
        try:
            len(parallel)  # type: ignore[arg-type]  # a DataLoader has the method but not always a length
        except TypeError as error:
            raise InputError(
                f"the parallel loader, a {type(parallel).__name__}, has no length; give it or its data __len__"
            ) from error
        self.turns = Turns(auxiliary_steps, accumulate)
        self._streams = _Passes("parallel", parallel), _Passes("auxiliary", auxiliary)
        len(self)

    def __len__(self) -> int:
        """Batches of an epoch."""
        loader: Any = self._streams[0].shared()  # its length is final once the processes have met
        cycles = len(loader) // self.turns.accumulate
        if cycles < 1:
            raise InputError(f"the parallel loader has fewer than the {self.turns.accumulate} batches of one step")
        return cycles * len(self.turns.cycle)

    def __iter__(self) -> Iterator[Any]:
        """The batches of an epoch."""
        for stream, _ in self.turns.batches(0, len(self)):
            yield next(self._streams[stream])


class _Passes(Iterator[Any]):
    """A loader's batches, one pass after the other."""

    def __init__(self, name: str, loader: Iterable[Any]) -> None:
        self.name, self.loader, self.count = name, loader, 0
        self.batches: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        for batch in self.batches:
            return batch
        loader = self.shared()
        sampler = getattr(loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.count)  # as Lightning does for its loaders
        self.batches, self.count = iter(loader), self.count + 1
        for batch in self.batches:
            return batch
        raise InputError(f"the {self.name} loader gives no batch; are its data there?")

    def shared(self) -> Iterable[Any]:
        """The loader, of whose samples each of several processes has its share."""
        world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        if world > 1 and isinstance(self.loader, DataLoader) and not _is_shared(self.loader):
            self.loader = self._share(self.loader, world)
        return self.loader

    def _share(self, loader: DataLoader[Any], world: int) -> DataLoader[Any]:
        sampler, data = loader.sampler, loader.dataset
        is_plain = type(loader) is DataLoader and loader.batch_size is not None
        is_plain = is_plain and type(sampler) in (RandomSampler, SequentialSampler)
        if not is_plain or getattr(sampler, "replacement", False) or len(sampler) != len(loader.dataset):  # type: ignore[arg-type]  # has a length
            raise InputError(
                f"{world} processes would all read the same batches of the {self.name} loader; give it a "
                "DistributedSampler, in train_dataloader of the module"
            )
        options = {name: getattr(loader, name) for name in inspect.signature(DataLoader).parameters if name not in _NEW}
        share: DistributedSampler[Any] = DistributedSampler(
            data, world, distributed.get_rank(), shuffle=isinstance(sampler, RandomSampler),
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),  # that of seed_everything, as Lightning's own
        )  # fmt: skip
        return DataLoader(sampler=share, **options)


_NEW = ("shuffle", "sampler", "batch_sampler")


def _is_shared(loader: DataLoader[Any]) -> bool:
    """Whether something in a loader knows of several processes; an iterable data set has to."""
    parts = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    return isinstance(loader.dataset, IterableDataset) or any(hasattr(part, "num_replicas") for part in parts)
