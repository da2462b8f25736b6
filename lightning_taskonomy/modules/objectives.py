"""The only place that maps a TaskKind to its default head, loss, metrics, score and decoding."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from lightning_taskonomy import losses, metrics
from lightning_taskonomy.batch import missing_label
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import ClassificationHead, DenseHead, Head, VectorHead
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind, imported, presence

__all__ = ["HeadFactory", "Objective", "Target", "objective", "target_of"]

Target = Any
"""What predictions are compared with: a tensor, or where a task has several labels or a set a mapping of tensors by
batch key, with ``presence(key)`` (B,) bool for each set."""
Errors = Callable[[Tensor, Target], tuple[Tensor, Tensor]]
HeadFactory = Callable[[list[int], list[int], Task], Head]


@dataclass(frozen=True)
class Objective:
    """How one kind of task is read out, trained, measured and scored.

    Args:
        head: Builds the default head from channels, reductions and task.
        errors: Element errors and their mask; the loss is their mean over what is valid. Or sums of several terms and
            what each is divided by, both (B, terms) float.
        score_errors: Element errors whose mean per image is the score.
        metrics: Builds the metrics by name.
        decode: Raw output to what a person wants: unit normals, the class of each pixel, log-probabilities of classes,
            the objects of a set as one mapping per image.
        normaliser: What the sum of the errors is divided by, a scalar that adds up over processes, such as the number
            of objects; None: the number of valid errors. It counts as 1 at the least.
    """

    head: HeadFactory
    errors: Errors
    score_errors: Errors
    metrics: Callable[[Task], dict[str, Metric]]
    decode: Callable[[Tensor, Task], Any] = lambda preds, task: preds
    normaliser: Callable[[Target], Tensor] | None = None

    def total_and_count(self, preds: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """The sum of the errors and what it is divided by, both scalars: what is summed over processes first.

        Of errors that are sums of several terms, with their counts instead of a mask, both are (terms,), and the loss
        is the sum of their quotients.

        Args:
            preds: Raw output, in the task's units.
            target: What :func:`target_of` gives.
        """
        error, valid = self.errors(preds, target)
        if valid.is_floating_point():
            return error.sum(0), valid.sum(0)
        total, count = losses.total_and_count(error, valid)
        return total, count if self.normaliser is None else self.normaliser(target)


def _mae(task: Task) -> dict[str, Metric]:
    by_name: dict[str, Metric] = {"mae": metrics.MaskedMeanAbsoluteError()}
    if task.units == "m" and task.is_dense:
        by_name |= {"rmse": metrics.MaskedRootMeanSquaredError(), "delta1": metrics.DeltaAccuracy()}
    return by_name


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
        DenseHead,
        losses.angular,
        losses.angle,
        lambda task: {"mean_angle": metrics.AngularError()},
        lambda preds, task: F.normalize(preds, dim=1),
    ),
    TaskKind.SEGMENTATION: Objective(
        DenseHead, losses.cross_entropy, losses.cross_entropy, _iou, lambda preds, task: preds.argmax(1)
    ),
    TaskKind.GROUPING: Objective(
        DenseHead, losses.grouping, losses.grouping, lambda task: {"pair_accuracy": metrics.PairAccuracy()}
    ),
    TaskKind.CLASSIFICATION: Objective(
        ClassificationHead,
        losses.cross_entropy,
        losses.cross_entropy,
        _accuracy,
        lambda preds, task: preds.log_softmax(1),
    ),
    TaskKind.VECTOR: Objective(VectorHead, losses.l1, losses.l1, _mae),
    TaskKind.SET: Objective(DenseHead, losses.l1, losses.l1, lambda task: {}),  # a task of this kind brings its own
}


def target_of(task: Task, batch: Mapping[str, Tensor], preds: Tensor) -> Target:
    """What a task's predictions are compared with; labels that the batch lacks are missing.

    Args:
        task: The task.
        batch: The batch.
        preds: Its predictions (B, ...).
    """
    if task.kind is not TaskKind.SET and tuple(task.targets) == (task.target,):
        return batch[task.target] if task.target in batch else _blank_like(task, preds)
    target, size = {}, batch[task.input].shape[-2:] if task.input in batch else (1, 1)
    for key, label in task.targets.items():
        shape = (len(preds), *label.shape((size[0], size[1])))
        target[key] = batch[key] if key in batch else missing_label(label, shape, preds.device)
        if label.is_set:
            flags = torch.full((len(preds),), key in batch, device=preds.device)
            target[presence(key)] = batch.get(presence(key), flags)
    return target


def _blank_like(task: Task, preds: Tensor) -> Tensor:
    """The target, all missing, of the size of the predictions."""
    shape = (preds.shape[0], *preds.shape[2:]) if task.is_classes else preds.shape
    return missing_label(task.label, shape, preds.device)


def objective(task: Task) -> Objective:
    """The task's objective: its kind's, with the task's dotted-path overrides in place.

    Raises:
        InputError: A dotted path leads nowhere.
    """
    default, scale = _OBJECTIVES[task.kind], task.scale

    def errors(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        error, valid = default.errors(preds, target)
        return error / scale, valid

    scaled = task.kind in (TaskKind.DENSE, TaskKind.VECTOR) and scale != 1
    result = replace(default, errors=errors) if scaled else default
    for role, field, adapt in _OVERRIDES:
        path = getattr(task, role)
        if path is not None:
            value = imported(path, f"task {task.name!r}: its {role}")
            if role in ("loss", "normaliser", "score") and "task" in _parameters(value):
                value = partial(value, task=task)
            result = replace(result, **{field: adapt(value)})
    return result


def _parameters(function: Callable[..., Any]) -> Collection[str]:
    """The names of a function's parameters; none of one in C that does not say."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return ()


def _metric_builder(metric: Callable[..., Metric]) -> Callable[[Task], dict[str, Metric]]:
    """A metric class to a builder; classes that ask for ``num_classes`` or, of a set, for ``task`` get them."""

    def build(task: Task) -> dict[str, Metric]:
        parameters = inspect.signature(metric).parameters
        kwargs: dict[str, Any] = {"num_classes": task.channels} if "num_classes" in parameters else {}
        if "ignore_index" in parameters and task.is_classes:
            kwargs["ignore_index"] = IGNORE_INDEX
        if "task" in parameters and task.kind is TaskKind.SET:
            kwargs["task"] = task
        try:
            inspect.signature(metric).bind(**kwargs)
        except TypeError as error:
            raise InputError(
                f"task {task.name!r}: its metric {task.metric!r} cannot be built without arguments ({error}); name a "
                "function of yours that builds it"
            ) from error
        return {metric.__name__.lower(): metric(**kwargs)}

    return build


def _as_errors(function: Callable[[Tensor, Target], Tensor | tuple[Tensor, Tensor]]) -> Errors:
    """A user's loss (a scalar mean) or score ((B,)) to the form of element errors and mask."""

    def errors(preds: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        result = function(preds, target)
        if isinstance(result, tuple):
            return result
        valid = result.isfinite() if result.dim() else torch.ones_like(result, dtype=torch.bool)
        return (torch.where(valid, result, 0.0) if result.dim() else result), valid

    return errors


def _as_is(function: Any) -> Any:
    return function


_OVERRIDES: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("head", "head", _as_is),
    ("loss", "errors", _as_errors),
    ("normaliser", "normaliser", _as_is),
    ("metric", "metrics", _metric_builder),
    ("score", "score_errors", _as_errors),
    ("decode", "decode", _as_is),
)
"""What of a task takes the place of what of an objective, and how."""
