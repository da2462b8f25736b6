"""Weightings of the tasks' gradients in the shared parameters.

The loss's own backward ends at the bifurcation, on leaves that belong to one head each; from there every task's
gradient goes through the backbone alone. What the weighting makes of them stands in ``.grad`` before clipping.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.callbacks.bifurcation import CuttingCallback, loss_scale, mean_over_processes
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import LateFlags
from lightning_taskonomy.optim.features import entries, learnable
from lightning_taskonomy.optim.sums import GradientSum

__all__ = ["GradientWeighting", "TaskGradients", "gradient_norms"]

TaskGradients = Mapping[str, Sequence[Tensor | None]]


class GradientWeighting(CuttingCallback):
    """Makes one gradient of the backbone out of one per task; heads learn as ever.

    A subclass says which, by :meth:`combine`, and may leave some batches as they are, by :meth:`kind_of`. Under
    accumulation and on several processes the tasks' gradients are those of the whole batch.

    Its arguments are those of :class:`~lightning_taskonomy.callbacks.bifurcation.BifurcationCallback`.
    """

    _sums: dict[str, GradientSum]  # of this optimizer step

    # what a subclass defines

    def combine(self, trainer: Trainer, gradients: TaskGradients) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """The backbone's gradient, and what to log.

        Args:
            trainer: The trainer.
            gradients: Of each task that has any, and of one at least, in the backbone's parameters; None counts as
                zero.
        """
        raise NotImplementedError(f"{type(self).__name__} must define combine(trainer, gradients)")

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone and heads."""
        super().on_fit_start(trainer, pl_module)
        if loss_scale(trainer) is not None:
            raise InputError(f"{type(self).__name__} combines unscaled gradients; use precision='bf16-mixed', not fp16")
        self._sums, self.late = {}, LateFlags(list(self.split.heads))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        self._sums = {}
        super().on_fit_end(trainer, pl_module)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes each task's gradient through the backbone."""
        meta_pass, self._meta_pass = self._meta_pass, None
        if meta_pass is None:
            return
        shared, at_maps = self._shared(), meta_pass.gradients(1.0)
        maps = [entry for entry in entries(meta_pass.features) if learnable(entry)]
        pairs = {
            name: [(entry, gradient) for entry, gradient in zip(maps, of_task, strict=True) if gradient is not None]
            for name, of_task in at_maps.items()
        }
        left = sum(map(bool, pairs.values()))
        for name in self.split.heads:  # one order on all processes
            in_shared: Sequence[Tensor | None] = [None] * len(shared)
            if pairs.get(name):
                left -= 1
                outputs, gradients = zip(*pairs[name], strict=True)
                in_shared = torch.autograd.grad(outputs, shared, gradients, retain_graph=left > 0, allow_unused=True)
            self._sums.setdefault(name, GradientSum()).add(shared, in_shared)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Combines what the batches of this step have left."""
        self.answer(self.late.arrived())
        if not self._sums:
            return
        shared, gradients = self._shared(), dict[str, list[Tensor | None]]()
        for name, total in self._sums.items():
            if by_parameter := total.reduced(1.0, partial(mean_over_processes, trainer)):
                gradients[name] = [by_parameter.get(parameter) for parameter in shared]
        self._sums = {}
        if not gradients:
            return
        self._flag(trainer, gradients)
        combined, figures = self.combine(trainer, gradients)
        for parameter, gradient in zip(shared, combined, strict=True):
            if gradient is not None:  # a term of the loss on the parameters themselves stays
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        pl_module.log_dict({f"weighting/{name}": value for name, value in figures.items()})

    def _flag(self, trainer: Trainer, gradients: TaskGradients) -> None:
        """Raises the flags of gradients that are not finite."""
        norms = gradient_norms(gradients)
        fine = torch.zeros((), device=next(iter(norms.values())).device)
        norm = torch.stack([norms.get(name, fine) for name in self.late.names])
        self.late.add(~norm.isfinite(), trainer.global_step)

    def answer(self, raised: Mapping[str, int]) -> None:
        """Stops the run where a task's gradient was not finite."""
        if raised:
            name, step = min(raised.items(), key=lambda flag: flag[1])
            raise InputError(
                f"the gradient of {name!r} is NaN or infinite at step {step}; the last checkpoint is kept; lower the "
                "learning rate, or look at the labels"
            )

    def _shared(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.split.backbone.parameters() if parameter.requires_grad]


def gradient_norms(gradients: TaskGradients) -> dict[str, Tensor]:
    """The length of each task's gradient, a scalar.

    Args:
        gradients: Per task, in the backbone's parameters; None counts as zero.
    """
    return {name: get_total_norm([g for g in of_task if g is not None]) for name, of_task in gradients.items()}
