"""Weightings of the tasks' gradients in the shared parameters.

The loss's own backward ends at the bifurcation, on leaves that belong to one head each; from there every task's
gradient goes through the backbone alone. What the weighting makes of them stands in ``.grad`` before clipping.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.callbacks.bifurcation import CuttingCallback, loss_scale, mean_over_processes
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import LateFlags
from lightning_taskonomy.optim.features import entries, learnable
from lightning_taskonomy.optim.sums import GradientSum

__all__ = [
    "ALL_TASKS",
    "GradientWeighting",
    "TaskGradients",
    "gradient_norms",
    "positive",
    "pulled_back",
    "several",
    "weighted_sum",
]

ALL_TASKS = ""
"""In the place of a task's name: the gradient of all of them together."""
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
                zero. Of ``ALL_TASKS`` instead, where it came by :meth:`collect_sum`.
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
        """Takes from the bifurcation what the loss's backward has left there."""
        meta_pass, self._meta_pass = self._meta_pass, None
        if meta_pass is not None:
            maps = [entry for entry in entries(meta_pass.features) if learnable(entry)]
            self.collect(trainer, maps, meta_pass.gradients(1.0))

    def collect(self, trainer: Trainer, maps: Sequence[Tensor], at_maps: TaskGradients) -> None:
        """Takes each task's gradient through the backbone.

        Args:
            trainer: The trainer.
            maps: The feature maps at the bifurcation, as the backbone made them.
            at_maps: The gradient in these maps of each task whose head ran.
        """
        shared = self._shared()
        last = [name for name in self.split.heads if any(entry is not None for entry in at_maps.get(name, ()))][-1:]
        for name in self.split.heads:  # one order on all processes
            in_shared = pulled_back(maps, at_maps.get(name, [None] * len(maps)), shared, keep=[name] != last)
            self._sums.setdefault(name, GradientSum()).add(shared, in_shared)

    def collect_sum(self, maps: Sequence[Tensor], at_maps: Sequence[Tensor | None]) -> None:
        """Takes one gradient of all tasks through the backbone, in place of :meth:`collect`; ``combine`` gets it.

        Args:
            maps: The feature maps at the bifurcation, as the backbone made them.
            at_maps: The gradient in each of them.
        """
        shared = self._shared()
        in_shared = pulled_back(maps, at_maps, shared, keep=False)
        self._sums.setdefault(ALL_TASKS, GradientSum()).add(shared, in_shared)

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


def several(tasks: list[str] | None, reader: str) -> list[str] | None:
    """The names of tasks, of which there must be two; None stands for all of a module's.

    Args:
        tasks: The names.
        reader: Who asks.

    Raises:
        InputError: Fewer than two names, a name twice, or a single name in place of a list.
    """
    names: Any = tasks  # may be a single name where the type is not checked
    if names is not None and (isinstance(names, str) or len(set(names)) < max(len(names), 2)):
        raise InputError(f"{reader} has tasks {names!r}; give a list of two names or more, each once")
    return tasks


def positive(factor: float, reader: str) -> float:
    """The factor itself.

    Args:
        factor: What a gradient is multiplied by.
        reader: Who asks.

    Raises:
        InputError: It is not a number above 0.
    """
    if not (isfinite(factor) and factor > 0):
        raise InputError(f"{reader} has factor={factor}; give a number above 0, such as the number of tasks")
    return factor


def pulled_back(
    maps: Sequence[Tensor], gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], *, keep: bool
) -> Sequence[Tensor | None]:
    """A gradient in the feature maps, taken back into parameters; None in those that play no part.

    Args:
        maps: The maps, as the backbone made them.
        gradients: The gradient in each; None where there is none.
        parameters: Parameters of the backbone.
        keep: Whether another pass back will follow.
    """
    pairs = [(entry, gradient) for entry, gradient in zip(maps, gradients, strict=True) if gradient is not None]
    if not pairs:
        return [None] * len(parameters)
    outputs, at_outputs = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, parameters, at_outputs, retain_graph=keep, allow_unused=True)


def weighted_sum(gradients: TaskGradients, weights: Mapping[str, float]) -> list[Tensor | None]:
    """The weighted sum of the tasks' gradients.

    Args:
        gradients: Per task one gradient for each of the same tensors; None counts as zero.
        weights: Weights of tasks, one at least of those that have gradients; a task without counts as zero.

    Returns:
        One per tensor; None where no task has any.
    """
    names = [name for name in weights if name in gradients]
    sums: list[Tensor | None] = []
    for column in zip(*(gradients[name] for name in names), strict=True):
        terms = [weights[name] * entry for name, entry in zip(names, column, strict=True) if entry is not None]
        sums.append(sum(terms[1:], terms[0]) if terms else None)
    return sums


def gradient_norms(gradients: TaskGradients) -> dict[str, Tensor]:
    """The length of each task's gradient, a scalar.

    Args:
        gradients: Per task, in the backbone's parameters; None counts as zero.
    """
    return {name: get_total_norm([g for g in of_task if g is not None]) for name, of_task in gradients.items()}
