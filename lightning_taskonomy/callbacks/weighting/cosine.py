"""Weighting by gradient similarity: Du et al. 2018, "Adapting Auxiliary Losses Using Gradient Similarity"."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation import primary_and_auxiliary
from lightning_taskonomy.callbacks.weighting.gradients import GradientWeighting, TaskGradients
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import cosine_weight, gradient_cosine

__all__ = ["CosineWeighting"]

_BETWEEN = ("plain", "last", "heads")


class CosineWeighting(GradientWeighting):
    """Weights auxiliary gradients by max(0, cosine) with the primary one, in the backbone's parameters.

    On a batch with parallel labels the backbone gets g_P + Σ_t max(0, cos(g_P, g_t))·g_t. Heads learn from their own
    losses as ever. Du et al. have both labels everywhere; "Task Meta-Transfer from Limited Parallel Labels"
    (section 4.3) alternates 1 : k as plain multi-task learning does, so other batches are plain unless asked otherwise.

    Args:
        primary: The task with few labels, by the name of its head.
        auxiliary: The tasks with many labels; the module has no other heads.
        hard: Weights 1 or 0 by the cosine's sign, not its value.
        between: On batches without primary labels the backbone gets the auxiliary gradient as it is (``plain``), with
            the ``last`` weight (0 before the first), or not at all (``heads`` alone learn).
        is_meta: Whether a batch has parallel labels, where neither its loader nor its labels say so.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: No auxiliary task, a task named twice, or another ``between``; at the start of a fit whatever it
            cannot work with.
    """

    def __init__(
        self,
        primary: str,
        auxiliary: list[str],
        *,
        hard: bool = False,
        between: Literal["plain", "last", "heads"] = "plain",
        is_meta: Callable[[Any], bool] | None = None,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(primary_and_auxiliary(primary, auxiliary), backbone, heads, primary, is_meta)
        if between not in _BETWEEN:
            raise InputError(f"CosineWeighting has no between={between!r}{hint(between, _BETWEEN)}")
        self.auxiliary, self.hard, self.between = list(auxiliary), hard, between
        self.weights: dict[str, float | Tensor] = dict.fromkeys(auxiliary, 1.0 if between == "plain" else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The last weights."""
        return {"weights": {name: float(weight) for name, weight in self.weights.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        self.weights = dict(state_dict["weights"])

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps, whose gradient is weighted on its way back; that of a primary label here by mistake is dropped."""
        if name == self.primary:
            return [entry.detach() for entry in maps]
        return [_weighted(entry, self.weights[name]) for entry in maps]

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes each task's gradient through the backbone; on other batches the primary head stays as it is."""
        if self._kind == "auxiliary":
            self.split.heads[self.primary].zero_grad()
        super().on_after_backward(trainer, pl_module)

    def combine(self, trainer: Trainer, gradients: TaskGradients) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """g_P + Σ_t max(0, cos(g_P, g_t))·g_t."""
        none = [None] * len(next(iter(gradients.values())))
        primary = gradients.get(self.primary, none)
        combined, figures = list(primary), dict[str, Tensor]()
        for name in self.auxiliary:
            auxiliary = gradients.get(name, none)
            weight = cosine_weight(primary, auxiliary, self.hard)
            figures |= {f"{name}/cosine": gradient_cosine(primary, auxiliary), f"{name}/weight": weight}
            combined = [_plus(a, b, weight) for a, b in zip(combined, auxiliary, strict=True)]
            if self.between == "last":
                self.weights[name] = weight.detach()
        return combined, figures


def _plus(total: Tensor | None, gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    if gradient is None:
        return total
    return weight.to(gradient) * gradient if total is None else total + weight.to(gradient) * gradient


def _weighted(entry: Tensor, weight: float | Tensor) -> Tensor:
    if isinstance(weight, float) and weight == 1:
        return entry
    view = entry.view_as(entry)
    view.register_hook(lambda gradient: (weight.to(gradient) if isinstance(weight, Tensor) else weight) * gradient)
    return view
