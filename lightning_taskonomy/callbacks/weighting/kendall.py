"""Weighting by homoscedastic uncertainty (Kendall et al. 2018) of few parallel labels among many others.

As section 4.3 of "Task Meta-Transfer from Limited Parallel Labels" has it: weighted on parallel labels, else standard.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation import (
    BifurcationCallback,
    adam,
    hook_losses,
    loss_scale,
    mean_over_processes,
    primary_and_auxiliary,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import UncertaintyWeighting
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["KendallWeighting"]


class KendallWeighting(BifurcationCallback):
    """Weights each task's loss by its learnt uncertainty: Σ_t c_t·exp(-s_t)·L_t + s_t/2 on parallel labels.

    A loss keeps its value, so that the log shows the losses themselves; its gradient is that of the weighted term. A
    task's fixed weight, by which ``training_step`` multiplies its loss, applies to the whole term.

    Args:
        primary: The task with few labels, by the name of its head.
        auxiliary: The tasks with many labels; the module has no other heads.
        regressions: The tasks with c = 1/2 instead of 1; None: those that are neither segmentation nor classification
            by the module's ``tasks``.
        optimizer: Called with the log-variances s; Adam at 1e-3 by default.
        is_meta: Whether a batch has parallel labels, where neither its loader nor its labels say so.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: No auxiliary task, or a task named twice; at the start of a fit whatever it cannot work with.
    """

    def __init__(
        self,
        primary: str,
        auxiliary: list[str],
        *,
        regressions: list[str] | None = None,
        optimizer: OptimizerCallable = adam,
        is_meta: Callable[[Any], bool] | None = None,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        self.names = primary_and_auxiliary(primary, auxiliary)
        super().__init__(self.names, backbone, heads, primary, is_meta)
        UncertaintyWeighting(self.names, regressions or ())
        self.regressions, self.make_optimizer = regressions, optimizer
        self._learnt: tuple[UncertaintyWeighting, torch.optim.Optimizer] | None = None
        self._restored: Mapping[str, Any] = {}
        self._remove_hook: Callable[[], None] | None = None
        self._parallel: bool | None = None  # while training_step runs: the batch has parallel labels
        self._weighed: set[str] = set()  # tasks since the last optimizer step

    @property
    def weights(self) -> dict[str, float]:
        """The present weight c_t·exp(-s_t) of each task; empty before the first fit."""
        return {} if self._learnt is None else {name: float(w) for name, w in self._learnt[0].weights().items()}

    def state_dict(self) -> dict[str, Any]:
        """The log-variances and their optimizer: tensors and numbers."""
        if self._learnt is None:
            return dict(self._restored)
        weighting, optimizer = self._learnt
        return {"log_variances": weighting.log_variances.detach().clone(), "optimizer": optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes effect at the start of the fit."""
        self._learnt, self._restored = None, state_dict

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work, makes the log-variances, and hooks the tasks' losses."""
        super().on_fit_start(trainer, pl_module)
        regressions = _regressions(pl_module) if self.regressions is None else self.regressions
        weighting = UncertaintyWeighting(self.names, [name for name in regressions if name in self.names])
        optimizer = self.make_optimizer(weighting.to(pl_module.device).parameters())
        if state := self.state_dict():
            with torch.no_grad():
                weighting.log_variances.copy_(state["log_variances"])
            optimizer.load_state_dict(state["optimizer"])
        self._learnt, self._weighed = (weighting, optimizer), set()
        self._remove_hook = hook_losses(pl_module, self._weigh)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the module as it was."""
        if self._remove_hook is not None:
            self._remove_hook()
        self._remove_hook = self._parallel = None
        super().on_fit_end(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Decides whether the losses of this batch are weighted."""
        self._parallel = self.has_parallel(trainer, batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """The end of ``training_step``."""
        if self._parallel and not self._weighed:
            raise InputError(
                f"training_step took no task's loss that {type(self).__name__} could weight; take it by "
                "self.losses(batch) of MultiTaskModule, or by self.task_loss(name, predictions, batch) in your module"
            )
        self._parallel = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """One step of the log-variances with the gradient of the whole batch."""
        if not self._weighed or self._learnt is None:
            return
        (weighting, weighting_optimizer), self._weighed = self._learnt, set()
        gradient = weighting.log_variances.grad
        if gradient is None:
            gradient = torch.zeros_like(weighting.log_variances)
        (mean,) = mean_over_processes(trainer, [gradient / (loss_scale(trainer) or 1.0)])
        if loss_scale(trainer) is None or bool(mean.isfinite().all()):  # fp16: a step that overflowed is left out
            weighting.log_variances.grad = mean
            weighting_optimizer.step()
        weighting_optimizer.zero_grad()
        pl_module.log_dict({f"weighting/{name}/weight": value for name, value in weighting.weights().items()})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch without a loss ends here."""
        self._parallel = None

    def _weigh(self, name: str, loss: Tensor) -> Tensor:
        """The loss's value with the gradient that the batch asks for."""
        if self._parallel is None or self._learnt is None:
            return loss
        if self._parallel:
            self._weighed.add(name)
            term: Tensor = self._learnt[0]({name: loss})
            return loss.detach() + (term - term.detach())
        return loss.detach() if name == self.primary else loss


def _regressions(module: LightningModule) -> list[str]:
    """The module's tasks that are not classifications, where it has any."""
    tasks = getattr(module, "tasks", None)
    classes = (TaskKind.SEGMENTATION, TaskKind.CLASSIFICATION)
    values = tasks.values() if isinstance(tasks, Mapping) else ()
    return [task.name for task in values if isinstance(task, Task) and task.kind not in classes]
