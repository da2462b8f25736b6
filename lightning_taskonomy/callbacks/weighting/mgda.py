"""MGDA-UB: Sener and Koltun 2018, "Multi-Task Learning as Multi-Objective Optimization", section 3.3."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation import BatchKind, StepLosses, hook_losses, mean_over_processes
from lightning_taskonomy.callbacks.weighting.gradients import (
    ALL_TASKS,
    GradientWeighting,
    TaskGradients,
    positive,
    several,
    weighted_sum,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import min_norm_weights

__all__ = ["MGDAUpperBound"]

Normalisation = Literal["none", "l2", "loss", "loss+"]
_NORMALISATIONS = ("none", "l2", "loss", "loss+")


class MGDAUpperBound(GradientWeighting):
    """Weights the tasks so that their gradients in the features at the bifurcation add up to the shortest sum.

    The weights are not negative and add up to 1. They are found exactly, from inner products of what the heads' own
    backward leaves at the bifurcation; one pass takes the weighted sum through the backbone, so that a step costs about
    as much as a plain one. Under accumulation the weights of the whole step are known only with its last batch, and
    each batch takes a pass per task. Heads learn from their own losses, unweighted, as in the paper's Algorithm 2 (its
    published code weights them too).

    A task without a label in the step has no part in it, and one whose gradient is zero has no say.

    Args:
        tasks: The tasks, by the names of their heads; None: all of the module's.
        normalisation: What each gradient is divided by for the weights alone, as in the published code: nothing
            (``none``, the paper's letter), its length (``l2``), the task's loss (``loss``), or both (``loss+``).
        factor: What the weighted sum is multiplied by. As the weights add up to 1, it is a mean of the tasks'
            gradients: where ``training_step`` takes the sum of T losses, T makes a step as long as a plain one. Where
            it takes their mean, T gives the paper's step, a mean of gradients that were not divided by T.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: Fewer than two tasks, another normalisation, or a factor that is not positive; at the start of a fit
            whatever it cannot work with; in a step a gradient that is not finite, or a loss that is not positive where
            gradients are divided by it.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        *,
        normalisation: Normalisation = "none",
        factor: float = 1.0,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(several(tasks, type(self).__name__), backbone, heads)
        if normalisation not in _NORMALISATIONS:
            raise InputError(
                f"{type(self).__name__} has no normalisation {normalisation!r}{hint(normalisation, _NORMALISATIONS)}"
            )
        self.normalisation, self.factor = normalisation, positive(factor, type(self).__name__)
        self.weights: dict[str, float] = {}  # of the last step
        self._products: Tensor | None = None  # of this step's gradients, (T, T)
        self._losses = StepLosses(())
        self._remove_hook: Callable[[], None] | None = None

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone, heads and, where they count, losses."""
        super().on_fit_start(trainer, pl_module)
        self._products, self._losses = None, StepLosses(list(self.split.heads))
        if "loss" in self.normalisation:
            self._remove_hook = hook_losses(pl_module, self._note)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        if self._remove_hook is not None:
            self._remove_hook()
        self._remove_hook = None
        super().on_fit_end(trainer, pl_module)

    def kind_of(self, trainer: Trainer, batch: object) -> BatchKind:
        """Every batch is cut; what has labels shows after its backward."""
        return "meta"

    def collect(self, trainer: Trainer, maps: Sequence[Tensor], at_maps: TaskGradients) -> None:
        """One pass through the backbone with the weighted sum; under accumulation one per task."""
        products = _inner_products([at_maps.get(name, [None] * len(maps)) for name in self.split.heads])
        self._products = products if self._products is None else self._products + products
        if trainer.accumulate_grad_batches > 1:
            super().collect(trainer, maps, at_maps)
        else:
            self._weigh(trainer)
            self.collect_sum(maps, weighted_sum(at_maps, self._factors()))

    def combine(self, trainer: Trainer, gradients: TaskGradients) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """The weighted sum, and the weights."""
        if ALL_TASKS in gradients:
            combined = list(gradients[ALL_TASKS])
        else:
            self._weigh(trainer)
            combined = weighted_sum(gradients, self._factors())
        return combined, {f"{name}/weight": torch.tensor(weight) for name, weight in self.weights.items()}

    def _factors(self) -> dict[str, float]:
        return {name: self.factor * weight for name, weight in self.weights.items()}

    def _weigh(self, trainer: Trainer) -> None:
        """The weights of this step; the shortest sum is found on the host, so this waits."""
        assert self._products is not None  # the backward came first
        (products,), self._products = mean_over_processes(trainer, [self._products]), None
        self.late.add(~products.diagonal().isfinite(), trainer.global_step)
        self.answer(self.late.all())
        names, by_task = list(self.split.heads), products.double().cpu().numpy()
        lengths = np.sqrt(by_task.diagonal())
        present = lengths.nonzero()[0]
        divisors = np.ones(len(names))
        if "loss" in self.normalisation:
            divisors = divisors * self._divisible_losses(trainer, products, present)
        if self.normalisation in ("l2", "loss+"):
            divisors = divisors * lengths
        weights = np.zeros(len(names))
        if present.size:
            among = np.ix_(present, present)
            weights[present] = min_norm_weights(by_task[among] / np.outer(divisors, divisors)[among])
        self.weights = dict(zip(names, weights.tolist(), strict=True))

    def _note(self, name: str, loss: Tensor) -> Tensor:
        if self._cuts.are_active:
            self._losses.add(name, loss)
        return loss

    def _divisible_losses(self, trainer: Trainer, like: Tensor, present: NDArray[np.intp]) -> NDArray[np.float64]:
        """The tasks' losses, of which those that are present must be positive."""
        losses: NDArray[np.float64] = self._losses.means(trainer, like).double().cpu().numpy()
        for place in present:
            if not losses[place] > 0:
                raise InputError(
                    f"normalisation={self.normalisation!r} divides by the loss of {self._losses.names[place]!r}, which "
                    f"is {losses[place]:g} at step {trainer.global_step}; use 'l2' or 'none'"
                )
        return losses


def _inner_products(gradients: Sequence[Sequence[Tensor | None]]) -> Tensor:
    """Inner products of gradients, each a list over the same maps: (T, T)."""
    flat = [[None if entry is None else entry.flatten() for entry in of_task] for of_task in gradients]
    like = next(entry for of_task in flat for entry in of_task if entry is not None)
    dtype = torch.promote_types(like.dtype, torch.float32)
    zero = like.new_zeros((), dtype=dtype)
    rows = []
    for one in flat:
        row = []
        for other in flat:
            pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
            row.append(sum((torch.dot(a.to(dtype), b.to(dtype)) for a, b in pairs), zero))
        rows.append(torch.stack(row))
    return torch.stack(rows)
