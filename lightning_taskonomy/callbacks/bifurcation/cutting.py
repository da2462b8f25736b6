"""What the callbacks share that cut the network at its bifurcation while ``training_step`` runs."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation.callback import BifurcationCallback
from lightning_taskonomy.callbacks.bifurcation.cuts import Cuts, Kind, Passed
from lightning_taskonomy.errors import InputError

__all__ = ["CuttingCallback"]


class CuttingCallback(BifurcationCallback):
    """Cuts the network on some batches, its ``meta`` batches, and may insert something there on the others.

    Its arguments are those of :class:`BifurcationCallback`.
    """

    _hooks: Cuts | None = None
    _passed: Passed | None = None  # what training_step left of a meta batch
    _kind: Kind = "auxiliary"

    # a subclass's own

    def kind_of(self, trainer: Trainer, batch: Any) -> Kind:
        """``meta``, with parallel labels, where the loss's backward ends at the bifurcation; else ``auxiliary``."""
        return "meta" if self.has_parallel(trainer, batch) else "auxiliary"

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """What a head reads on an auxiliary batch.

        Args:
            name: The task.
            maps: The learnable feature maps.
        """
        return list(maps)

    def held(self) -> str | None:
        """The task whose head is held, if any."""
        return None

    def begin_step(self, kind: Kind) -> None:
        """Called before the first batch of each optimizer step.

        Args:
            kind: That of all its batches.
        """

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone and heads."""
        super().on_fit_start(trainer, pl_module)
        self._hooks = Cuts(self.split, self.insert, self.held())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        if self._hooks is not None:
            self._hooks.remove()
        self._hooks = self._passed = None
        super().on_fit_end(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the bifurcation ready.

        Raises:
            InputError: The batches that one optimizer step accumulates are of both kinds.
        """
        kind = self.kind_of(trainer, batch)
        if not trainer.fit_loop._skip_backward:  # StochasticWeightAveraging's last epoch has statistics, but no step
            accumulated = trainer.accumulate_grad_batches
            if batch_idx % accumulated == 0:
                self.begin_step(kind)
            elif kind != self._kind:
                raise InputError(
                    f"accumulate_grad_batches={accumulated} puts batches with and without parallel labels into one "
                    "optimizer step; let the loader give that many of a kind in a row"
                )
        self._kind = kind
        self._cuts.begin(kind)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """From here on the network's passes are no longer those of ``training_step``."""
        self._passed = self._cuts.end()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch without a loss ends here."""
        self._passed = None
        self._cuts.end()

    @property
    def _cuts(self) -> Cuts:
        assert self._hooks is not None  # from the start of a fit to its end
        return self._hooks
