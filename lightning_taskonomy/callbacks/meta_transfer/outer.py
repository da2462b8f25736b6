"""The meta step of a callback: over the batches that one optimizer step accumulates, on as many processes as train."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import Bifurcation, MetaPass, mean_over_processes
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import Branch, GradientStep, MetaBatch, MetaGradient, MetaOptions, MetaStep
from lightning_taskonomy.optim.features import Features

__all__ = ["OuterStep", "backbone_lr"]


class OuterStep:
    """Takes up the passes of ``training_step`` and leaves the primary gradient where the network's optimizer looks.

    Args:
        split: The module's parts.
        primary: The primary task.
        projections: Per auxiliary task one φ for each learnable map.
        options: How the meta-gradient is taken.
    """

    def __init__(
        self,
        split: Bifurcation,
        primary: str,
        projections: Mapping[str, Sequence[nn.Module]],
        options: MetaOptions,
    ) -> None:
        self.split, self.primary, self.options = split, primary, options
        self.count = 0
        self._step = MetaStep(split.backbone, projections, 0.0, options)

    def add(self, meta_pass: MetaPass, batch: Any, accumulated: int) -> None:
        """One batch after its backward.

        Args:
            meta_pass: The backbone's pass over it.
            batch: The batch.
            accumulated: Batches per optimizer step, by which Lightning has divided the loss.
        """
        split, primary = self.split, self.primary  # not self: a cycle of references would keep a step's memory

        def loss(features: Features) -> Tensor:
            return split.loss(primary, features, batch)

        self._step.add(
            MetaBatch(meta_pass.args, {}, Branch(loss, split.heads[primary]), meta_pass.kwargs),
            features=meta_pass.features,
            state=meta_pass.state,
            gradients=meta_pass.gradients(accumulated),
        )
        self.count += 1

    def finish(self, alpha: float, accumulated: int, trainer: Trainer) -> MetaGradient:
        """The meta-gradient; the primary gradient is added to the parameters', scaled as the trainer expects.

        Args:
            alpha: Length α of the virtual step.
            accumulated: Batches per optimizer step; at an epoch's end there may be fewer, whose gradient Lightning
                divides by this number all the same.
            trainer: The trainer.
        """
        share = self.count / accumulated
        self._step.step = GradientStep(alpha)
        result = self._step.finish(partial(mean_over_processes, trainer), share)
        factor = share * self.options.loss_scale
        for parameter, gradient in result.network.items():
            gradient = gradient if factor == 1 else factor * gradient
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return replace(result, projections={p: share * gradient for p, gradient in result.projections.items()})


def backbone_lr(trainer: Trainer, split: Bifurcation) -> float:
    """The learning rate that the backbone has now.

    Raises:
        InputError: It has several.
    """
    shared = {id(parameter) for parameter in split.backbone.parameters() if parameter.requires_grad}
    groups = trainer.optimizers[0].param_groups
    rates = {float(group["lr"]) for group in groups if any(id(parameter) in shared for parameter in group["params"])}
    if len(rates) != 1:
        raise InputError(f"the backbone has the learning rates {sorted(rates)}; give the virtual step its inner_lr")
    return rates.pop()
