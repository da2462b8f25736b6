"""What the callbacks share that cut the network at its bifurcation while ``training_step`` runs."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation.base import BifurcationCallback
from lightning_taskonomy.callbacks.bifurcation.hooks import BatchKind, Cuts, MetaPass
from lightning_taskonomy.errors import InputError

__all__ = ["CuttingCallback"]


class CuttingCallback(BifurcationCallback):
    """Cuts the network on some batches, its ``meta`` batches, and may insert something there on the others.

    Its arguments are those of :class:`BifurcationCallback`.
    """

    _hooks: Cuts | None = None
    _meta_pass: MetaPass | None = None  # what training_step left of a meta batch
    _kind: BatchKind = "auxiliary"  # of the batch
    _step_kind: BatchKind | None = None  # of the batches of this optimizer step that had a loss; None before the first
    _batch_number = 0  # of the epoch, from 1

    # what a subclass may override

    def kind_of(self, trainer: Trainer, batch: Any) -> BatchKind:
        """``meta``, with parallel labels, where the loss's backward ends at the bifurcation; else ``auxiliary``."""
        return "meta" if self.has_parallel(trainer, batch) else "auxiliary"

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """What a head reads on an auxiliary batch.

        Args:
            name: The task.
            maps: The learnable feature maps.
        """
        return list(maps)

    def detached_task(self) -> str | None:
        """The task whose head's output is detached, if any."""
        return None

    def begin_step(self, kind: BatchKind) -> None:
        """Called before the first backward of each optimizer step.

        Args:
            kind: That of all its batches.
        """

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone and heads."""
        super().on_fit_start(trainer, pl_module)
        self._hooks = Cuts(self.split, self.insert, self.detached_task())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        if self._hooks is not None:
            self._hooks.remove()
        self._hooks = self._meta_pass = self._step_kind = None
        super().on_fit_end(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the bifurcation ready."""
        self._kind, self._batch_number = self.kind_of(trainer, batch), batch_idx + 1
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._step_kind = None
        self._cuts.begin(self._kind)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """From here on the network's passes are no longer those of ``training_step``.

        Raises:
            InputError: The batches that one optimizer step accumulates are of both kinds.
        """
        self._meta_pass = self._cuts.end()
        if self._step_kind is None:
            self._step_kind = self._kind
            self.begin_step(self._kind)
        elif self._step_kind != self._kind:
            raise InputError(
                f"accumulate_grad_batches={trainer.accumulate_grad_batches} puts batches with and without parallel "
                "labels into one optimizer step; let the loader give that many of a kind in a row"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch without a loss ends here."""
        self._meta_pass = None
        self._cuts.end()

    def closes_step(self, trainer: Trainer) -> bool:
        """Whether the optimizer steps after this batch."""
        number = self._batch_number
        is_last = trainer.is_last_batch or number == trainer.num_training_batches
        return is_last or number % trainer.accumulate_grad_batches == 0

    @property
    def _cuts(self) -> Cuts:
        assert self._hooks is not None  # from the start of a fit to its end
        return self._hooks
