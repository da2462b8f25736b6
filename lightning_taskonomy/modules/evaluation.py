"""Metrics of all tasks over one pass, in one object: the step methods hold no metric code."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection

from lightning_taskonomy.modules.objectives import Objective, Target
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["Evaluation"]


class Evaluation(nn.Module):
    """The mean loss and the metrics of each task; a task without a label in the whole pass is left out.

    Args:
        prefix: ``val`` or ``test``; names are ``<prefix>/loss`` and ``<prefix>/<task>/<metric>``.
        tasks: The tasks by name.
        objectives: Their objectives, which build the metrics.
    """

    def __init__(self, prefix: str, tasks: Mapping[str, Task], objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.prefix, self.tasks, self.objectives = prefix, dict(tasks), dict(objectives)
        self.losses = nn.ModuleDict({name: MeanMetric() for name in tasks})
        self.metrics = nn.ModuleDict(
            {
                name: MetricCollection(
                    cast(dict[str, Metric | MetricCollection], objectives[name].metrics(task)),
                    prefix=f"{prefix}/{name}/",
                    compute_groups=False,
                )
                for name, task in tasks.items()
            }
        )

    def update(self, name: str, preds: Tensor, target: Target, loss: Tensor) -> None:
        """Adds a batch of one task.

        Args:
            name: The task.
            preds: Its predictions; metrics of a set read them decoded, the others raw.
            target: Its labels, as ``target_of`` gives them.
            loss: Its mean loss over the batch.
        """
        cast(MeanMetric, self.losses[name]).update(loss.detach(), len(preds))
        task = self.tasks[name]
        preds = self.objectives[name].decode(preds, task) if task.kind is TaskKind.SET else preds
        cast(MetricCollection, self.metrics[name]).update(preds, target)

    def finish(self) -> dict[str, Any]:
        """All values by name, over all processes; begins anew."""
        values: dict[str, Any] = {}
        weighted_losses = []
        for name, task in self.tasks.items():
            loss, metrics = cast(MeanMetric, self.losses[name]), cast(MetricCollection, self.metrics[name])
            if loss.update_called:
                values[f"{self.prefix}/{name}/loss"] = loss.compute()
                weighted_losses.append(task.weight * values[f"{self.prefix}/{name}/loss"])
                values |= metrics.compute()
            loss.reset()
            metrics.reset()
        return {f"{self.prefix}/loss": torch.stack(weighted_losses).sum(), **values} if weighted_losses else values
