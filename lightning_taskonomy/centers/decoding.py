"""From maps back to objects: boxes ("Factors of Influence", A.3) and their points (A.4), for a batch at once."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lightning_taskonomy.centers.objects import label_of, point_label
from lightning_taskonomy.tasks import LabelKind, Task

__all__ = ["boxes", "boxes_after_nms", "keypoints"]

MOST = 100
"""So many objects of an image, and candidates of a point, are looked at."""
LEAST_CHANCE = 0.1
"""A candidate of a point below it is none (CenterNet's ``thresh``)."""
LONGEST_REACH = 0.3
"""A candidate that is farther from where M6 expects it than this share of the box's longer side is another object's."""
NMS_OVERLAP = 0.3
"""Of two boxes of a class that overlap more, the surer one stays ("Factors of Influence", appendix C)."""
_BLOCK = 64


def boxes(preds: Tensor, task: Task) -> list[dict[str, Tensor]]:
    """The 100 surest boxes of each image, the surest first, without suppression (as for COCO and BDD in the paper).

    A cell is a peak of its class if none of the eight around it is higher.

    Args:
        preds: Maps (B, K + 4, h, w): logits of K classes, offset, size.
        task: The task; a cell is ``task.stride`` pixels.

    Returns:
        Per image ``boxes`` (n, 4) in pixels, ``object_classes`` (n,) where the task has classes, ``scores`` (n,) in
        [0, 1]; n is at most 100.
    """
    logits, offset, size = preds.float().split([preds.shape[1] - 4, 2, 2], 1)
    return _split(_boxes(logits, offset, size, task.stride), task)


def boxes_after_nms(preds: Tensor, task: Task) -> list[dict[str, Tensor]]:
    """As :func:`boxes`, then non-maximum suppression at an overlap of 0.3 within each class (as for VOC and UWT).

    Args:
        preds: Maps (B, K + 4, h, w).
        task: The task.
    """
    logits, offset, size = preds.float().split([preds.shape[1] - 4, 2, 2], 1)
    batch = _boxes(logits, offset, size, task.stride)
    image = torch.arange(len(preds), device=preds.device)[:, None].expand_as(batch["scores"])
    group = (image * logits.shape[1] + batch["object_classes"]).flatten()
    kept = batched_nms(batch["boxes"].flatten(0, 1), batch["scores"].flatten(), group, NMS_OVERLAP)
    stays = torch.zeros_like(group, dtype=torch.bool)
    stays[kept] = True
    batch["scores"] = batch["scores"].where(stays.view_as(batch["scores"]), 0.0)
    return _split(batch, task)


def keypoints(preds: Tensor, task: Task) -> list[dict[str, Tensor]]:
    """The 100 surest boxes of each image and the points of each.

    M6 says where each point is expected. The candidates are the 100 highest peaks of M4 (at least 0.1), moved by M5; an
    object takes the one in its box that is nearest to the expected place, if that is within 0.3 of the box's longer
    side, and else the expected place itself. Both numbers are CenterNet's; the paper prints none.

    Args:
        preds: Maps (B, 7 + 3 P, h, w), in the order of ``centers.keypoint_errors``.
        task: The task.

    Returns:
        As :func:`boxes`, and ``points`` (n, P, 2) in pixels and ``point_scores`` (n, P): the chance of the candidate
        taken, or of the cell of the expected place.
    """
    count = point_label(task).channels
    heat, offset, size, point_heat, point_offset, displacement = preds.float().split([1, 2, 2, count, 2, 2 * count], 1)
    batch = _boxes(heat, offset, size, task.stride)
    limits = batch["boxes"] / task.stride
    middles = (limits[..., :2] + limits[..., 2:]) / 2
    expected = middles[:, :, None] + _at(displacement, batch.pop("cells")).unflatten(-1, (count, 2))

    values, index = _highest(_peaks(point_heat).flatten(2))  # (B, P, C)
    chance = values.sigmoid()
    places = _places(index, point_heat.shape[-1])
    places = places + _at(point_offset, index.flatten(1)).view_as(places)

    expected = expected.transpose(1, 2)  # (B, P, n, 2)
    distance = torch.cdist(expected, places, compute_mode="donot_use_mm_for_euclid_dist")  # (B, P, n, C)
    low, high = limits[:, None, :, None, :2], limits[:, None, :, None, 2:]
    inside = ((places[:, :, None] >= low) & (places[:, :, None] <= high)).all(-1)
    side = (limits[..., 2:] - limits[..., :2]).amax(-1)
    near = distance <= LONGEST_REACH * side[:, None, :, None]
    distance = distance.where(inside & near & (chance >= LEAST_CHANCE)[:, :, None], torch.inf)
    nearest, which = distance.min(-1)  # (B, P, n)
    taken = nearest.isfinite()
    points = torch.where(taken[..., None], places.gather(2, which[..., None].expand(-1, -1, -1, 2)), expected)

    height, width = point_heat.shape[-2:]
    column, row = expected.nan_to_num().long().unbind(-1)
    there = point_heat.flatten(2).gather(2, row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).sigmoid()
    batch["points"] = points.transpose(1, 2) * task.stride
    batch["point_scores"] = torch.where(taken, chance.gather(2, which), there).transpose(1, 2)
    return _split(batch, task)


def _boxes(logits: Tensor, offset: Tensor, size: Tensor, stride: int) -> dict[str, Tensor]:
    """Boxes (B, n, 4) in pixels, classes, scores (0 where there are fewer peaks) and cells (B, n)."""
    area = logits.shape[2] * logits.shape[3]
    values, index = _highest(_peaks(logits).flatten(1))
    cells = index % area
    middles = _places(cells, logits.shape[3]) + _at(offset, cells)
    half = _at(size, cells).clamp(min=0) / 2
    return {
        "boxes": torch.cat([middles - half, middles + half], -1) * stride,
        "object_classes": index // area,
        "scores": values.sigmoid(),
        "cells": cells,
    }


def _peaks(logits: Tensor) -> Tensor:
    """Maps (B, C, h, w) in which all but the highest of each 3 x 3 cells is minus infinity."""
    padded = torch.nn.functional.pad(logits, (1, 1, 1, 1), value=-torch.inf)
    across = torch.maximum(torch.maximum(padded[..., :-2], padded[..., 1:-1]), padded[..., 2:])
    around = torch.maximum(torch.maximum(across[..., :-2, :], across[..., 1:-1, :]), across[..., 2:, :])
    return logits.where(logits == around, -torch.inf)


def _highest(values: Tensor) -> tuple[Tensor, Tensor]:
    """The highest of the last dimension and where they are; looks only into the blocks with the highest values."""
    length = values.shape[-1]
    most = min(MOST, length)
    if length <= 2 * MOST * _BLOCK:
        highest, index = values.topk(most)
        return highest, index
    blocks = torch.nn.functional.pad(values, (0, -length % _BLOCK), value=-torch.inf).unflatten(-1, (-1, _BLOCK))
    of_block = blocks.amax(-1).topk(most)[1]
    few = blocks.gather(-2, of_block[..., None].expand(*of_block.shape, _BLOCK)).flatten(-2)
    highest, place = few.topk(most)
    index = of_block.gather(-1, place // _BLOCK) * _BLOCK + place % _BLOCK
    return highest, index.clamp(max=length - 1)


def _places(cells: Tensor, width: int) -> Tensor:
    """Column and row of cells."""
    return torch.stack([cells % width, cells // width], -1).float()


def _at(maps: Tensor, cells: Tensor) -> Tensor:
    """Values (B, n, C) of maps (B, C, h, w) in cells (B, n)."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def _split(batch: dict[str, Tensor], task: Task) -> list[dict[str, Tensor]]:
    """One mapping per image, without what is no object."""
    batch.pop("cells", None)
    if label_of(task, LabelKind.OBJECT_CLASSES) is None:
        batch.pop("object_classes")
    return [
        {key: entry[image][scores > 0] for key, entry in batch.items()} for image, scores in enumerate(batch["scores"])
    ]
