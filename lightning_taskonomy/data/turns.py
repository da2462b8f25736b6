"""Two loaders in turns: few batches with the labels of all tasks, many with those of the auxiliary tasks."""

from collections.abc import Iterable, Iterator
from typing import Any

from lightning_taskonomy.errors import InputError

__all__ = ["InTurns"]


class InTurns:
    """One batch of a loader with parallel labels, then k of another, over and over: a loader for ``trainer.fit``.

    An epoch is one pass over ``parallel``; ``auxiliary`` goes on where the last epoch left it, and starts anew when it
    is through. For a data module, whose order survives a resume, see
    :class:`~lightning_taskonomy.data.ParallelLabels`.

    Args:
        parallel: Batches with labels of the primary and the auxiliary tasks; has a length.
        auxiliary: Batches without labels of the primary task.
        auxiliary_steps: k, batches of ``auxiliary`` after each of ``parallel``.
        accumulate: The trainer's ``accumulate_grad_batches``: so many batches of a kind in a row are one step.

    Raises:
        InputError: A number below 1, or a pass over ``parallel`` that is shorter than a step; in the course of a fit a
            loader without batches.
    """

    def __init__(
        self, parallel: Iterable[Any], auxiliary: Iterable[Any], auxiliary_steps: int, accumulate: int = 1
    ) -> None:
        if auxiliary_steps < 1 or accumulate < 1:
            raise InputError(
                f"auxiliary_steps is {auxiliary_steps} and accumulate {accumulate}; both are 1 at the least"
            )
        self.auxiliary_steps, self.accumulate = auxiliary_steps, accumulate
        self._parallel, self._auxiliary = _Passes("parallel", parallel), _Passes("auxiliary", auxiliary)
        self._steps = len(parallel) // accumulate  # type: ignore[arg-type]  # iterables with a length have no type
        if self._steps < 1:
            raise InputError(f"the parallel loader has fewer than the {accumulate} batches of one step")

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._steps * (1 + self.auxiliary_steps) * self.accumulate

    def __iter__(self) -> Iterator[Any]:
        """The batches of an epoch."""
        for _ in range(self._steps):
            for loader, steps in ((self._parallel, 1), (self._auxiliary, self.auxiliary_steps)):
                for _ in range(steps * self.accumulate):
                    yield next(loader)


class _Passes(Iterator[Any]):
    """A loader's batches, one pass after the other."""

    def __init__(self, name: str, loader: Iterable[Any]) -> None:
        self.name, self.loader, self.count = name, loader, 0
        self.batches: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        for batch in self.batches:
            return batch
        sampler = getattr(self.loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.count)  # as Lightning does for a loader of its own
        self.batches, self.count = iter(self.loader), self.count + 1
        for batch in self.batches:
            return batch
        raise InputError(f"the {self.name} loader gives no batch; are its data there?")
