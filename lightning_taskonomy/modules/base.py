"""What every module of the library shares: optimizers by callables and nothing else."""

import logging
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from lightning_taskonomy.errors import InputError

__all__ = ["EPOCH_LOSS", "BaseModule", "adamw", "allow_unused_parameters", "is_monitored"]

EPOCH_LOSS = "train/loss_epoch"
"""The mean of ``train/loss`` over an epoch's steps, logged where a schedule or a callback goes by it."""

_log = logging.getLogger(__name__)


def adamw(params: Any) -> torch.optim.Optimizer:
    """AdamW at the learning rate 1e-3: the default optimizer."""
    return torch.optim.AdamW(params, lr=1e-3)


def allow_unused_parameters(trainer: Trainer) -> None:
    """Lets plain DDP train on batches that give some parameters no gradient, where the recipe does not say otherwise.

    Plain DDP dies at the step after such a batch. ``find_unused_parameters`` or ``static_graph`` stay as they are set.

    Args:
        trainer: The trainer, before its strategy wraps the module.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy) or trainer.world_size == 1:
        return
    options = strategy._ddp_kwargs  # private: after the strategy is made it offers no other way in
    if not options.keys() & {"find_unused_parameters", "static_graph"}:
        options["find_unused_parameters"] = True
        if trainer.is_global_zero:
            _log.info(
                "DDP: a batch may lack labels of a task, so find_unused_parameters is set; where each batch has labels "
                "of all tasks, strategy ddp_find_unused_parameters_false is faster"
            )


def is_monitored(trainer: Trainer, name: str) -> bool:
    """Whether a schedule or a callback of a fit goes by a logged value.

    Args:
        trainer: The trainer, once its optimizers are there.
        name: The value's name.
    """
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets them
    return any(getattr(one, "monitor", None) == name for one in [*trainer.lr_scheduler_configs, *callbacks])


class BaseModule(LightningModule):
    """A LightningModule whose optimizer and schedule are callables, as LightningCLI gives them.

    Args:
        optimizer: Called with the parameters.
        scheduler: Called with the optimizer; none keeps the learning rate.
        scheduler_interval: Whether the schedule counts epochs or optimizer steps.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.optimizer, self.scheduler, self.scheduler_interval = optimizer, scheduler, scheduler_interval

    def log_loss(self, mean: Tensor, batch_size: int) -> None:
        """Logs the loss of a training step, and its mean over the epoch where a schedule or a callback goes by it.

        Args:
            mean: The loss over all processes.
            batch_size: Samples of the batch.
        """
        self.log("train/loss", mean, prog_bar=True, batch_size=batch_size)
        if is_monitored(self.trainer, EPOCH_LOSS):
            self.log(EPOCH_LOSS, mean, on_step=False, on_epoch=True, sync_dist=True, batch_size=batch_size)

    def configure_optimizers(self) -> Any:
        """The optimizer over everything that asks for a gradient, and the schedule if there is one.

        Raises:
            InputError: The schedule goes by a metric and does not say which.
        """
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self.scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = scheduler.monitor
        elif isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise InputError(
                "scheduler: torch's ReduceLROnPlateau does not say which metric it goes by; use "
                "lightning.pytorch.cli.ReduceLROnPlateau with monitor: val/loss"
            )
        return {"optimizer": optimizer, "lr_scheduler": config}
