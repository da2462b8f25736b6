"""The tasks' losses as ``training_step`` takes them: replaced by a callback, and their means over an optimizer step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation.trainer import mean_over_processes
from lightning_taskonomy.modules.bifurcation import Bifurcated, LossHook
from lightning_taskonomy.tasks import Task

__all__ = ["StepLosses", "hook_losses"]


def hook_losses(module: LightningModule, hook: LossHook) -> Callable[[], None]:
    """Lets the tasks' losses pass through a hook, before they are weighted and summed.

    Args:
        module: A ``Bifurcated`` module, or one whose ``task_loss`` or ``head_loss`` is replaced meanwhile.
        hook: Called with the task's name and its loss.

    Returns:
        What ends that.
    """

    def function(name: str, loss: Tensor) -> Tensor:  # not a method: a copy of the module shares it
        return hook(name, loss)

    if isinstance(module, Bifurcated):
        return module.register_loss_hook(function).remove
    return _patch(module, "task_loss" if hasattr(module, "task_loss") else "head_loss", function)


def _patch(module: LightningModule, method: str, hook: LossHook) -> Callable[[], None]:
    """Lets a hook replace what a method returns of a module that registers none; returns what undoes it."""
    unhooked, attributes = getattr(module, method), vars(module)  # there it hides even a submodule of that name
    before = {method: attributes[method]} if method in attributes else {}

    def hooked(task: Task | str, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = unhooked(task, *args, **kwargs)
        return hook(task if isinstance(task, str) else task.name, loss)

    def undo() -> None:
        del attributes[method]
        attributes.update(before)

    attributes[method] = hooked
    return undo


class StepLosses:
    """The losses of one optimizer step, without their gradients.

    Args:
        names: The tasks.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._by_task: dict[str, list[Tensor]] = {}

    def add(self, name: str, loss: Tensor) -> None:
        """Takes a task's loss of one batch.

        Args:
            name: The task.
            loss: A scalar.
        """
        self._by_task.setdefault(name, []).append(loss.detach())

    def means(self, trainer: Trainer, like: Tensor) -> Tensor:
        """The mean of each task over the batches and processes that had its loss, (T,), NaN without any; begins anew.

        Args:
            trainer: The trainer.
            like: A tensor on the device, of the type of the means.
        """
        zero = like.new_zeros(())
        lists = [self._by_task.get(name, []) for name in self.names]
        sums = [torch.stack([loss.to(like) for loss in losses]).sum() if losses else zero for losses in lists]
        counts = [torch.full_like(zero, len(losses)) for losses in lists]
        self._by_task = {}
        (means,) = mean_over_processes(trainer, [torch.stack([torch.stack(sums), torch.stack(counts)])])
        return means[0] / means[1]
