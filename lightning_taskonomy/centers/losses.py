"""Losses of detection and keypoints by centre points ("Factors of Influence", A.3 and A.4; CenterNet).

Each is called as ``errors(preds, target, task)`` and returns ``(sums, counts)``, both (B, terms) float32: the sum of
each term over an image and by how much it is divided, once both are added over the batch and over processes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_taskonomy.centers.maps import covered, gaussian_radius, heat_map
from lightning_taskonomy.centers.objects import Centers, centers_of, point_label
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Task

__all__ = ["detection_errors", "detection_score", "keypoint_errors", "keypoint_score", "penalty_reduced_focal"]

SIZE_WEIGHT = 0.1
"""CenterNet's weight of the size's error; all other weights are 1. "Factors of Influence" prints neither."""


def penalty_reduced_focal(logits: Tensor, heat: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """The penalty-reduced focal loss of each cell (CornerNet, Eq. 1; "Factors of Influence", Eq. A.2).

    Args:
        logits: Any shape.
        heat: Of the same shape, in [0, 1]; exactly 1 in the cells of objects.
        alpha: The power by which a confident guess counts less.
        beta: The power by which a guess near an object counts less.

    Returns:
        Errors of the same shape, in nats.
    """
    logits = logits.float()
    hit, miss = F.logsigmoid(logits), F.logsigmoid(-logits)
    chance = logits.sigmoid()
    on_object = (1 - chance) ** alpha * hit
    elsewhere = (1 - heat) ** beta * chance**alpha * miss
    return -torch.where(heat == 1, on_object, elsewhere)


def detection_errors(preds: Tensor, target: Mapping[str, Tensor], task: Task) -> tuple[Tensor, Tensor]:
    """Focal error of the heat map, L1 of offset and size (in cells, both coordinates added) at the objects' cells.

    An image whose boxes are not labelled does not count; one without objects does. In crowds only the cells of objects
    count. All three are divided by the number of objects (Eq. A.2 to A.4).

    Args:
        preds: Maps (B, K + 4, h, w): logits of K classes, offset, size.
        target: Labels by batch key, in pixels.
        task: The task: K is its ``channels``.

    Returns:
        Sums and counts (B, 3).

    Raises:
        InputError: The maps have another number of channels, or a class is beyond the task's.
    """
    (heat, *at_centers), objects = _maps(preds, target, task, [task.channels, 2, 2])
    terms = _box_terms(heat, at_centers, objects)
    count = objects.valid.sum(1).float()
    return torch.stack(terms, 1), torch.stack([count] * 3, 1)


def keypoint_errors(preds: Tensor, target: Mapping[str, Tensor], task: Task) -> tuple[Tensor, Tensor]:
    """The three errors of boxes, then of points: focal, L1 of offset and L1 of displacement from the object's middle.

    The last three are divided by the number of points that are marked and within the map. Displacements start at the
    true middle, as A.4 says ("w.r.t. the object centers predicted by M1+M2"), not at its cell, as CenterNet's code. In
    crowds and in the boxes of objects without a marked point nothing is said of where there is no point.

    Args:
        preds: Maps (B, 7 + 3 P, h, w): heat of the objects, offset, size, heat of P points, their offset, and 2 P
            displacements, x and y of the first point first.
        target: Labels by batch key, in pixels.
        task: The task.

    Returns:
        Sums and counts (B, 6).

    Raises:
        InputError: The maps have another number of channels.
    """
    points = point_label(task).channels
    maps, objects = _maps(preds, target, task, [1, 2, 2, points, 2, 2 * points])
    places, marked = objects.points, objects.marked
    heat, offset, displacement = maps[3:]

    shape = _shape(heat)
    radius = gaussian_radius(objects.sizes)[..., None].where(marked, -1)
    image, point = torch.meshgrid(*(torch.arange(side, device=heat.device) for side in shape[:2]), indexing="ij")
    planes = (image * shape[1] + point)[:, None].expand(marked.shape)
    wanted = heat_map(places.long().flatten(0, 2), radius.flatten(), planes.flatten(), shape)
    silent = torch.where((objects.valid & ~marked.any(-1))[..., None], objects.boxes, torch.nan)
    silent = torch.cat([silent, objects.crowds], 1)
    focal = _focal(heat, wanted, objects, silent, torch.full_like(silent[..., 0], IGNORE_INDEX, dtype=torch.int64))

    at_points = _at(offset, places.flatten(1, 2)).view_as(places)
    shift = (at_points - (places - places.floor())).abs().sum(-1)
    at_middles = _at(displacement, objects.middles).unflatten(-1, (-1, 2))
    reach = (at_middles - (places - objects.middles[:, :, None])).abs().sum(-1)
    terms = [
        *_box_terms(maps[0], maps[1:3], objects), focal, *(e.where(marked, 0.0).sum((1, 2)) for e in (shift, reach)),
    ]  # fmt: skip
    counts = [objects.valid.sum(1).float()] * 3 + [marked.sum((1, 2)).float()] * 3
    return torch.stack(terms, 1), torch.stack(counts, 1)


def detection_score(preds: Tensor, target: Mapping[str, Tensor], task: Task) -> Tensor:
    """The loss of each image alone (B,), lower is better; NaN where its objects are not labelled.

    Args:
        preds: As for :func:`detection_errors`.
        target: Labels by batch key.
        task: The task.
    """
    return _score(*detection_errors(preds, target, task), target, task)


def keypoint_score(preds: Tensor, target: Mapping[str, Tensor], task: Task) -> Tensor:
    """The loss of each image alone (B,), lower is better; NaN where its objects are not labelled.

    Args:
        preds: As for :func:`keypoint_errors`.
        target: Labels by batch key.
        task: The task.
    """
    return _score(*keypoint_errors(preds, target, task), target, task)


def _score(sums: Tensor, counts: Tensor, target: Mapping[str, Tensor], task: Task) -> Tensor:
    labelled = centers_of(target, task, (1, 1)).labelled
    return (sums / counts.clamp(min=1)).sum(1).where(labelled, torch.nan)


def _maps(
    preds: Tensor, target: Mapping[str, Tensor], task: Task, channels: list[int]
) -> tuple[tuple[Tensor, ...], Centers]:
    if preds.dim() != 4 or preds.shape[1] != sum(channels):
        raise InputError(
            f"task {task.name!r}: predictions of shape {tuple(preds.shape)}; its loss reads maps (B, {sum(channels)}, "
            "h, w), as its own head gives them"
        )
    size = (preds.shape[2], preds.shape[3])
    return preds.float().split(channels, 1), centers_of(target, task, size)


def _box_terms(heat: Tensor, at_centers: list[Tensor] | tuple[Tensor, ...], objects: Centers) -> list[Tensor]:
    """Focal, offset and weighted size errors, each (B,)."""
    shape, (offset, size) = _shape(heat), at_centers
    radius = gaussian_radius(objects.sizes).where(objects.valid, -1)
    planes = torch.arange(shape[0], device=heat.device)[:, None] * shape[1] + objects.classes
    wanted = heat_map(objects.middles.long().flatten(0, 1), radius.flatten(), planes.flatten(), shape)
    middles = objects.middles
    shift = (_at(offset, middles) - (middles - middles.floor())).abs().sum(-1)
    extent = (_at(size, middles) - objects.sizes).abs().sum(-1)
    return [
        _focal(heat, wanted, objects, objects.crowds, objects.crowd_classes),
        shift.where(objects.valid, 0.0).sum(1),
        SIZE_WEIGHT * extent.where(objects.valid, 0.0).sum(1),
    ]


def _focal(heat: Tensor, wanted: Tensor, objects: Centers, silent: Tensor, classes: Tensor) -> Tensor:
    """Of labelled images (B,); in silent regions only the cells of objects count."""
    error = penalty_reduced_focal(heat, wanted)
    if silent.shape[1]:
        error = error.where((wanted == 1) | ~covered(silent, classes, _shape(heat)), 0.0)
    return error.flatten(1).sum(1).where(objects.labelled, 0.0)


def _at(maps: Tensor, places: Tensor) -> Tensor:
    """Values (B, n, C) of maps (B, C, h, w) in the cells of places (B, n, 2)."""
    height, width = maps.shape[-2:]
    column, row = places.long().unbind(-1)
    index = (row.clamp(max=height - 1) * width + column.clamp(max=width - 1))[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def _shape(maps: Tensor) -> tuple[int, int, int, int]:
    batch, channels, height, width = maps.shape
    return batch, channels, height, width
