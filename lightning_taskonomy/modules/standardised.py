"""A network whose tasks count alike: standardised labels, and the mean of the tasks' losses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_taskonomy import losses
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules.base import adamw
from lightning_taskonomy.modules.multitask import MultiTaskModule
from lightning_taskonomy.modules.objectives import HeadFactory, Objective, Target
from lightning_taskonomy.tasks import Task, TaskKind, resolve

__all__ = ["StandardisedModule", "standardised"]

_REGRESSIONS = (TaskKind.DENSE, TaskKind.NORMALS, TaskKind.VECTOR)


class StandardisedModule(MultiTaskModule):
    """A candidate network of a grouping: its loss is the unweighted mean of the losses of its tasks.

    "Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 4:
    cross-entropy for classes, L1 for all other labels, which are normalised to zero mean and unit deviation. Losses are
    in those units, so that those of several tasks may be added; predictions, metrics and scores are in the task's.

    Args:
        tasks: Names of the catalog, dotted paths, or tasks.
        backbone: Any backbone.
        heads: Head factories by task name or by kind, in place of the kind's default.
        optimizer: Called with the parameters.
        scheduler: Called with the optimizer.
        scheduler_interval: Whether the schedule counts epochs or steps.
        statistics: Mean and standard deviation of the labels of a task, over all its channels, by task name, in the
            task's units; a task that is not listed keeps its own ``shift`` and ``scale``.

    Raises:
        InputError: As :class:`MultiTaskModule`; or statistics of an unknown task, or that are no mean and deviation.
    """

    def __init__(
        self,
        tasks: list[str | Task],
        backbone: Backbone,
        heads: dict[str, HeadFactory] | None = None,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        statistics: dict[str, list[float]] | None = None,
    ) -> None:
        super().__init__(
            list(standardised(tasks, statistics or {}).values()), backbone, heads, optimizer, scheduler,
            scheduler_interval,
        )  # fmt: skip
        for name, task in self.tasks.items():
            if task.kind is TaskKind.NORMALS and task.loss is None:
                self.objectives[name] = _by_values(self.objectives[name], task.scale)


def standardised(tasks: Sequence[str | Task], statistics: Mapping[str, Sequence[float]]) -> dict[str, Task]:
    """Tasks whose heads predict standardised labels, and whose weights make the sum of their losses a mean.

    Args:
        tasks: Names of the catalog, dotted paths, or tasks.
        statistics: Mean and standard deviation by task name.

    Raises:
        InputError: Statistics of a task that is not there or has no numbers for labels, or that are not a finite mean
            and a positive deviation.
    """
    resolved = resolve(tasks)
    for name, pair in statistics.items():
        if name not in resolved:
            raise InputError(f"statistics are of {name!r}, which is not a task here{hint(name, resolved)}")
        if resolved[name].kind not in _REGRESSIONS:
            raise InputError(f"statistics are of {name!r}, whose labels are not numbers; leave it out")
        if len(pair) != 2 or not all(map(isfinite, pair)) or pair[1] <= 0:
            raise InputError(f"statistics of {name!r} are {list(pair)}; give its mean and its deviation, above 0")
    made = {}
    for name, task in resolved.items():
        shift, scale = statistics.get(name, (task.shift, task.scale))
        made[name] = task.but(shift=shift, scale=scale, weight=task.weight / len(resolved))
    return made


def _by_values(objective: Objective, scale: float) -> Objective:
    """The objective of directions with the absolute error of their components, in multiples of a scale, for a loss."""

    def errors(preds: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        error, valid = losses.l1(preds, target)
        return error / scale, valid

    return replace(objective, errors=errors)
