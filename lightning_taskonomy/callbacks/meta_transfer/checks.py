"""What a Task Meta-Transfer callback refuses at the start of a fit."""

from collections.abc import Collection

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_taskonomy.callbacks.bifurcation import Bifurcation
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError, hint

__all__ = ["check_tasks", "check_trainer"]


def check_tasks(
    split: Bifurcation, primary: str, auxiliary: Collection[str], steps: int | None, trainer: Trainer
) -> None:
    """The tasks are the module's heads, and those of the data.

    Args:
        split: The module's parts.
        primary: The primary task.
        auxiliary: The auxiliary tasks.
        steps: k, if asked for.
        trainer: The trainer.

    Raises:
        InputError: Names what does not fit.
    """
    named = {primary, *auxiliary}
    for name in named - split.heads.keys():
        raise InputError(f"the module has no head of task {name!r}{hint(name, split.heads)}")
    if others := sorted(split.heads.keys() - named):
        raise InputError(
            f"the heads {', '.join(others)} are neither primary nor auxiliary; name them as auxiliary, or train a "
            "module without them"
        )
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ParallelLabels):
        return
    if data.primary.name != primary or set(data.auxiliary) != set(auxiliary):
        raise InputError(
            f"ParallelLabels has primary {data.primary.name!r} and auxiliary {sorted(data.auxiliary)}, "
            f"TaskMetaTransfer {primary!r} and {sorted(auxiliary)}; give both the same tasks"
        )
    if data.streams != "both":
        raise InputError(f"ParallelLabels has streams={data.streams!r}; Task Meta-Transfer needs 'both'")
    if steps not in (None, data.auxiliary_steps):
        raise InputError(
            f"ParallelLabels gives auxiliary_steps={data.auxiliary_steps}, and TaskMetaTransfer has "
            f"auxiliary_steps={steps}; change either, or leave it to the loader"
        )


def check_trainer(trainer: Trainer, module: LightningModule, split: Bifurcation) -> None:
    """The trainer runs one optimizer and its processes in a way that a meta step can use.

    Args:
        trainer: The trainer.
        module: The module.
        split: Its parts.

    Raises:
        InputError: Says what is needed.
    """
    if not module.automatic_optimization:
        raise InputError("Task Meta-Transfer needs automatic optimization; the module optimizes manually")
    if len(trainer.optimizers) != 1 or isinstance(trainer.optimizers[0], torch.optim.LBFGS):
        kinds = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "none"
        raise InputError(f"Task Meta-Transfer needs one optimizer that takes one gradient per step; here: {kinds}")
    trained = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    if not any(id(p) in trained for p in split.backbone.parameters()):
        raise InputError("the optimizer holds no parameter of the backbone; Task Meta-Transfer trains it")
    if any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        raise InputError("Task Meta-Transfer knows no SyncBatchNorm; use BatchNorm and sync_batchnorm=False")
    model, strategy = trainer.strategy.model, trainer.strategy
    spread = trainer.world_size > 1 or isinstance(strategy, ParallelStrategy)  # sharded even on one device
    if spread and not isinstance(model, DistributedDataParallel):
        raise InputError(f"Task Meta-Transfer knows no {type(strategy).__name__}; use DDP or one device")
    if isinstance(model, DistributedDataParallel) and (model.static_graph or not model.find_unused_parameters):
        raise InputError(
            "meta and auxiliary steps train different heads; use strategy='ddp_find_unused_parameters_true'"
        )
