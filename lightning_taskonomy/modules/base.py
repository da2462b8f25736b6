"""What every module of the library shares: optimizers by callables and nothing else."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau

__all__ = ["BaseModule", "adamw"]


def adamw(params: Any) -> torch.optim.Optimizer:
    """AdamW at the learning rate 1e-3: the optimizer where none is given."""
    return torch.optim.AdamW(params, lr=1e-3)


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

    def configure_optimizers(self) -> Any:
        """The optimizer over everything that asks for a gradient, and the schedule if there is one."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self.scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}
