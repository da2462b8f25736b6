"""The only place that maps a TaskKind to its default head, loss, metrics and score."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from lightning_taskonomy import losses, metrics
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import ClassificationHead, DenseHead, Head, VectorHead
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind

__all__ = ["HeadFactory", "Objective", "blank_like", "has_label", "objective"]

Errors = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
HeadFactory = Callable[[list[int], list[int], Task], Head]


@dataclass(frozen=True)
class Objective:
    """How one kind of task is read out, trained, measured and scored.

    Args:
        head: Builds the default head from channels, reductions and task.
        errors: Element errors and their mask; the loss is their mean over what is valid.
        score_errors: Element errors whose mean per image is the score.
        metrics: Builds the metrics by name.
    """

    head: HeadFactory
    errors: Errors
    score_errors: Errors
    metrics: Callable[[Task], dict[str, Metric]]


def _mae(task: Task) -> dict[str, Metric]:
    found: dict[str, Metric] = {"mae": metrics.MaskedMeanAbsoluteError()}
    if task.units == "m" and task.is_dense:
        found["delta1"] = metrics.DeltaAccuracy()
    return found


def _accuracy(task: Task) -> dict[str, Metric]:
    return {"accuracy": MulticlassAccuracy(task.channels, average="micro", ignore_index=IGNORE_INDEX)}


def _iou(task: Task) -> dict[str, Metric]:
    return {
        "miou": MulticlassJaccardIndex(task.channels, ignore_index=IGNORE_INDEX),
        "accuracy": MulticlassAccuracy(task.channels, average="micro", ignore_index=IGNORE_INDEX),
    }


_OBJECTIVES = {
    TaskKind.DENSE: Objective(DenseHead, losses.l1, losses.l1, _mae),
    TaskKind.NORMALS: Objective(
        DenseHead, losses.angular, losses.angle, lambda task: {"mean_angle": metrics.AngularError()}
    ),
    TaskKind.SEGMENTATION: Objective(DenseHead, losses.cross_entropy, losses.cross_entropy, _iou),
    TaskKind.GROUPING: Objective(
        DenseHead, losses.grouping, losses.grouping, lambda task: {"pair_accuracy": metrics.PairAccuracy()}
    ),
    TaskKind.CLASSIFICATION: Objective(ClassificationHead, losses.cross_entropy, losses.cross_entropy, _accuracy),
    TaskKind.VECTOR: Objective(VectorHead, losses.l1, losses.l1, _mae),
}


def has_label(task: Task, target: Tensor) -> Tensor:
    """Whether a batch holds any valid label of a task, as a boolean scalar."""
    return (target != IGNORE_INDEX).any() if task.is_classes else target.isfinite().any()


def blank_like(task: Task, preds: Tensor) -> Tensor:
    """The target, all missing, that predictions of a task are compared with."""
    if task.is_classes:
        shape = (preds.shape[0], *preds.shape[2:])
        return torch.full(shape, IGNORE_INDEX, dtype=torch.int64, device=preds.device)
    return torch.full_like(preds.detach(), torch.nan)


def objective(task: Task) -> Objective:
    """The task's objective: its kind's, with the task's dotted-path overrides in place.

    Raises:
        InputError: A dotted path leads nowhere.
    """
    found = _OBJECTIVES[task.kind]
    scale = task.scale

    def errors(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        error, valid = found.errors(preds, target)
        return error / scale, valid

    loss: Errors = errors if task.kind in (TaskKind.DENSE, TaskKind.VECTOR) and scale != 1 else found.errors
    score, head, build = found.score_errors, found.head, found.metrics
    if task.loss is not None:
        loss = _as_errors(_imported(task, "loss", task.loss))
    if task.score is not None:
        score = _as_errors(_imported(task, "score", task.score))
    if task.head is not None:
        head = _imported(task, "head", task.head)
    if task.metric is not None:
        metric = _imported(task, "metric", task.metric)
        build = _metric_builder(metric)
    return Objective(head, loss, score, build)


def _metric_builder(metric: Callable[..., Metric]) -> Callable[[Task], dict[str, Metric]]:
    """A metric class to a builder: classes that ask for ``num_classes`` get the task's channels."""
    import inspect

    def build(task: Task) -> dict[str, Metric]:
        wants = inspect.signature(metric).parameters
        kwargs: dict[str, Any] = {"num_classes": task.channels} if "num_classes" in wants else {}
        if "ignore_index" in wants and task.is_classes:
            kwargs["ignore_index"] = IGNORE_INDEX
        try:
            inspect.signature(metric).bind(**kwargs)
        except TypeError as error:
            raise InputError(
                f"task {task.name!r}: its metric {task.metric!r} cannot be built by itself ({error}); name a function "
                "of your own that builds it"
            ) from error
        return {metric.__name__.lower(): metric(**kwargs)}

    return build


def _as_errors(function: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]) -> Errors:
    """A user's loss (a scalar mean) or score ((B,)) to the form of element errors and mask."""

    def errors(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        result = function(preds, target)
        if isinstance(result, tuple):
            return result
        valid = result.isfinite() if result.dim() else torch.ones_like(result, dtype=torch.bool)
        return (torch.where(valid, result, 0.0) if result.dim() else result), valid

    return errors


def _imported(task: Task, role: str, path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"task {task.name!r}: its {role} {path!r} cannot be imported ({error})") from error
