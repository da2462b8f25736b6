"""Conflicting task gradients made into one by the aggregators of torchjd."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.callbacks.bifurcation import BatchKind
from lightning_taskonomy.callbacks.weighting.gradients import (
    GradientWeighting,
    TaskGradients,
    gradient_norms,
    positive,
    several,
    weighted_sum,
)
from lightning_taskonomy.optim import Aggregation, AggregatorName, gradient_cosine

__all__ = ["GradientAggregation"]


class GradientAggregation(GradientWeighting):
    """Aggregates the tasks' gradients in the backbone's parameters wherever a step has labels of several tasks.

    Heads learn from their own losses as ever; a step with labels of one task is plain, but for the factor.

    Args:
        aggregator: ``pcgrad``, ``cagrad``, ``mgda``, ``nash_mtl``, ``imtl_g`` or ``aligned_mtl``; see
            :class:`~lightning_taskonomy.optim.Aggregation`.
        tasks: The tasks, by the names of their heads; None: all of the module's.
        options: Options of the aggregator, as torchjd names them.
        factor: What the aggregated gradient is multiplied by. That of ``pcgrad`` is a sum over tasks, those of
            ``cagrad``, ``mgda``, ``imtl_g`` and ``aligned_mtl`` are means, which the number of tasks makes as long as
            the plain gradient; ``nash_mtl`` has a length of its own.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: Unknown aggregator or option, one that is not installed, fewer than two tasks, or a factor that is
            not positive; at the start of a fit whatever it cannot work with.
    """

    def __init__(
        self,
        aggregator: AggregatorName = "pcgrad",
        tasks: list[str] | None = None,
        *,
        options: dict[str, Any] | None = None,
        factor: float = 1.0,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(several(tasks, type(self).__name__), backbone, heads)
        self.aggregator, self.options, self.factor = aggregator, options or {}, positive(factor, type(self).__name__)
        self._aggregations: dict[tuple[str, ...], Aggregation] = {}  # one per set of tasks: some have a memory
        self._seed = 0
        Aggregation(aggregator, 2, **self.options)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone and heads."""
        super().on_fit_start(trainer, pl_module)
        self._seed, self._aggregations = trainer.strategy.broadcast(torch.initial_seed()), {}

    def kind_of(self, trainer: Trainer, batch: Any) -> BatchKind:
        """Every batch is cut; what has labels shows after its backward."""
        return "meta"

    def combine(self, trainer: Trainer, gradients: TaskGradients) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """The aggregated gradient, and its cosine with each task's; torchjd decides on the host, so this waits."""
        self.answer(self.late.all())  # torchjd takes no NaN
        norms = gradient_norms(gradients)
        gradients = {name: of_task for name, of_task in gradients.items() if norms[name] != 0}  # zeros have no say
        names = tuple(gradients)
        if len(names) < 2:
            return weighted_sum(gradients, dict.fromkeys(names, self.factor)) or [None] * len(self._shared()), {}
        if names not in self._aggregations:
            self._aggregations[names] = Aggregation(self.aggregator, len(names), **self.options)
        with torch.random.fork_rng(devices=[]):  # the same order of tasks on every process and after a resume
            torch.default_generator.manual_seed((self._seed + trainer.global_step) % 2**63)
            combined = self._aggregations[names](list(gradients.values()))
        cosines = {f"{name}/cosine": gradient_cosine(combined, of_task) for name, of_task in gradients.items()}
        return weighted_sum({"": combined}, {"": self.factor}), cosines
