"""The meta step of a callback: over the batches that one optimizer step accumulates, on as many processes as train."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isclose
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import Bifurcation, MetaPass, mean_over_processes
from lightning_taskonomy.optim import (
    Branch,
    HeldOut,
    MetaBatch,
    MetaGradient,
    MetaOptions,
    MetaStep,
    PassState,
    VirtualStep,
)
from lightning_taskonomy.optim.features import Features

__all__ = ["HeldOutPass", "OuterStep", "lost_weights"]

HeldOutPass = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""Another batch, and the backbone's positional and keyword inputs for it."""
_SAME_LOSS = 1e-2  # rounding of bfloat16


class OuterStep:
    """Takes up the passes of ``training_step`` and leaves the primary gradient where the network's optimizer looks.

    Args:
        split: The module's parts.
        primary: The primary task.
        projections: Per auxiliary task one φ for each learnable map.
        step: The virtual step.
        options: How the meta-gradient is taken.
    """

    def __init__(
        self,
        split: Bifurcation,
        primary: str,
        projections: Mapping[str, Sequence[nn.Module]],
        step: VirtualStep,
        options: MetaOptions,
    ) -> None:
        self.split, self.primary, self.options = split, primary, options
        self.count = 0
        self._step = MetaStep(split.backbone, projections, step, options)

    def add(self, meta_pass: MetaPass, batch: Any, accumulated: int, held_out: HeldOutPass | None = None) -> None:
        """One batch after its backward.

        Args:
            meta_pass: The backbone's pass over it.
            batch: The batch.
            accumulated: Batches per optimizer step, by which Lightning has divided the loss.
            held_out: What the primary loss at Θ⁺ is taken on; None: on the batch.
        """
        split, primary = self.split, self.primary  # not self: a cycle of references would keep a step's memory

        def branch(labels: Any) -> Branch:
            def loss(features: Features) -> Tensor:
                return split.loss(primary, features, labels)

            return Branch(loss, split.heads[primary])

        others = None
        if held_out is not None:
            other, args, kwargs = held_out
            others = HeldOut(args, kwargs, branch(other))
        self._step.add(
            MetaBatch(meta_pass.args, {}, branch(batch), meta_pass.kwargs, others),
            features=meta_pass.features,
            state=meta_pass.state,
            gradients=meta_pass.gradients(accumulated),
        )
        self.count += 1

    def finish(self, accumulated: int, trainer: Trainer) -> MetaGradient:
        """The meta-gradient; the network's gradient is added to the parameters', scaled as the trainer expects.

        Args:
            accumulated: Batches per optimizer step; at an epoch's end there may be fewer, whose gradient Lightning
                divides by this number all the same.
            trainer: The trainer.
        """
        share = self.count / accumulated
        result = self._step.finish(partial(mean_over_processes, trainer), share)
        factor = share * self.options.loss_scale
        for parameter, gradient in result.network.items():
            gradient = gradient if factor == 1 else factor * gradient
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return replace(result, projections={p: share * gradient for p, gradient in result.projections.items()})


def lost_weights(split: Bifurcation, primary: str, meta_pass: MetaPass, batch: Any, loss: float) -> str | None:
    """Says so if ``training_step`` weights the tasks otherwise than the losses from which a meta step learns.

    Args:
        split: The module's parts.
        primary: The primary task.
        meta_pass: The backbone's pass over a meta batch, before the backward.
        batch: The batch.
        loss: What ``training_step`` gave for it.
    """
    tasks = [*meta_pass.leaves, *[primary] * meta_pass.detached_ran]
    with PassState.of(split.backbone).replayed():
        once, again = (
            sum(float(split.loss(name, meta_pass.features, batch).detach()) for name in tasks)
            for _ in range(2)  # heads with dropout differ from one time to the next, and cannot be compared
        )
    if once != again or isclose(once, loss, rel_tol=_SAME_LOSS):
        return None
    return (
        f"training_step's loss is {loss:.4g}, but the tasks' losses add up to {once:.4g}: the primary task learns from "
        "its loss without the weight that training_step gives it; apply the weights in task_loss"
    )
