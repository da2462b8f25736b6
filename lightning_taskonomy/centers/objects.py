"""The objects of a batch in the units of the maps: a cell is ``task.stride`` pixels of the image."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Label, LabelKind, Task, presence

__all__ = ["Centers", "centers_of", "label_of", "point_label"]


@dataclass(frozen=True)
class Centers:
    """Objects of B images, padded to n rows, crowds padded to m; the unit of length is a cell of the maps.

    Args:
        boxes: Left, top, right, bottom within the map (B, n, 4); 0 where there is no object.
        classes: (B, n) int64; 0 where there is no object, and where a task has no classes.
        valid: Whether a row is an object (B, n).
        crowds: Regions that are neither object nor background (B, m, 4), NaN where they fill up.
        crowd_classes: The class of which each is a crowd (B, m), -100 for any class.
        labelled: Whether the objects of an image are labelled at all (B,).
        points: Places of P points of each object (B, n, P, 2); 0 where not marked. P is 0 where the task has no points.
        marked: Whether a point is marked and within the map (B, n, P).
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor
    crowds: Tensor
    crowd_classes: Tensor
    labelled: Tensor
    points: Tensor
    marked: Tensor

    @property
    def middles(self) -> Tensor:
        """Middles of the boxes, x and y (B, n, 2)."""
        return (self.boxes[..., :2] + self.boxes[..., 2:]) / 2

    @property
    def sizes(self) -> Tensor:
        """Width and height of the boxes (B, n, 2)."""
        return self.boxes[..., 2:] - self.boxes[..., :2]


def label_of(task: Task, kind: LabelKind, of_crowds: bool = False) -> Label | None:
    """The task's label of a kind, of its objects or of its crowds; None where it has none.

    Args:
        task: A task of sets. The set of its target holds its objects, any other holds crowds.
        kind: The kind.
        of_crowds: Whether the label of the crowds is wanted.
    """
    of_kind = (label for label in task.targets.values() if label.kind is kind)
    return next((label for label in of_kind if (label.objects != task.label.objects) is of_crowds), None)


def point_label(task: Task) -> Label:
    """The label of the points of the task's objects.

    Args:
        task: A task of sets.

    Raises:
        InputError: It has none.
    """
    label = label_of(task, LabelKind.POINTS)
    if label is None:
        raise InputError(f"task {task.name!r} has no points; give it a label of kind 'points' of the same objects")
    return label


def centers_of(target: Mapping[str, Tensor], task: Task, size: tuple[int, int]) -> Centers:
    """The objects of a batch, in cells.

    A row is an object if its box is finite, its right is beyond its left and its bottom below its top, some of it lies
    within the map, and its class is one of the task's. Any other row (no area, outside the image, unordered, filling)
    leaves no trace: it is neither an object nor a crowd. Boxes are clipped to the map. A point outside the map counts
    as not marked.

    Args:
        target: Labels by batch key, as ``modules.objectives.target_of`` gives them, in pixels.
        task: The task; its labels say which key holds what, its ``stride`` how many pixels a cell has.
        size: Height and width of the map.

    Raises:
        InputError: The task has no boxes, or on the CPU: a class is beyond the task's.
    """
    label = label_of(task, LabelKind.BOXES)
    if label is None:
        raise InputError(f"task {task.name!r} has no boxes of objects; centre points need a label of kind 'boxes'")
    extent = target[label.key].new_tensor([size[1], size[0], size[1], size[0]])
    whole = target[label.key] / task.stride
    boxes = whole.clamp(min=0).minimum(extent)
    labelled = target[presence(label.key)]
    valid = whole.isfinite().all(-1) & (boxes[..., 2:] > boxes[..., :2]).all(-1) & labelled[:, None]

    classes = torch.zeros_like(valid, dtype=torch.int64)
    if class_label := label_of(task, LabelKind.OBJECT_CLASSES):
        classes = target[class_label.key]
        valid = valid & (classes >= 0) & (classes < task.channels)
        if classes.device.type == "cpu" and (wrong := classes >= task.channels).any():
            raise InputError(
                f"task {task.name!r}: an object of class {int(classes[wrong][0])} among the labels, but the task has "
                f"{task.channels} classes (0 to {task.channels - 1}, {IGNORE_INDEX} where missing); correct the labels "
                "or the class names"
            )
    crowds, crowd_classes = _crowds(target, task, boxes)
    points, marked = _points(target, task, valid, extent)
    return Centers(
        boxes.where(valid[..., None], 0.0), classes.where(valid, 0), valid, crowds, crowd_classes, labelled, points,
        marked,
    )  # fmt: skip


def _crowds(target: Mapping[str, Tensor], task: Task, boxes: Tensor) -> tuple[Tensor, Tensor]:
    label, class_label = (label_of(task, kind, True) for kind in (LabelKind.BOXES, LabelKind.OBJECT_CLASSES))
    if label is None:
        return boxes[:, :0], boxes.new_zeros(boxes.shape[0], 0, dtype=torch.int64)
    crowds = target[label.key] / task.stride
    if class_label is None:
        return crowds, torch.full_like(crowds[..., 0], IGNORE_INDEX, dtype=torch.int64)
    return crowds, target[class_label.key]


def _points(target: Mapping[str, Tensor], task: Task, valid: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    label = label_of(task, LabelKind.POINTS)
    if label is None:
        return extent.new_zeros(*valid.shape, 0, 2), valid.new_zeros(*valid.shape, 0)
    points = target[label.key] / task.stride
    known = target[presence(label.key)][:, None, None]
    marked = ((points >= 0) & (points < extent[:2])).all(-1) & valid[..., None] & known
    return points.where(marked[..., None], 0.0), marked
