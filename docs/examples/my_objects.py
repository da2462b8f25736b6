"""A task whose labels are sets: a box and a point for each disk of a picture, of which there may be none.

Files: ``<split>/image/NAME.png``, ``<split>/boxes/NAME.txt`` (left top right bottom, a line per disk) and
``<split>/centres/NAME.txt`` (x y). An empty file says that there is no disk, no file that nobody looked.

PYTHONPATH=. lightning-taskonomy fit --config my_objects.yaml
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_taskonomy import Label, LabelKind, Task, TaskKind
from lightning_taskonomy.models.heads import DenseHead
from lightning_taskonomy.tasks import presence

STRIDE = 4

DISKS = Task(
    "disks",
    TaskKind.SET,
    "boxes",
    channels=7,  # is a disk's middle here? how far are its box's four sides, and its point?
    stride=STRIDE,
    class_names=None,
    labels=(
        Label("boxes", LabelKind.BOXES, 4),
        Label("centres", LabelKind.POINTS, 1),
        # made after every transform, so that a flip or a crop never has to move it
        Label("middles", LabelKind.VALUES, 1, STRIDE, made_by="my_objects.middles", made_from=("boxes",)),
    ),
    head="my_objects.head",
    loss="my_objects.errors",
    normaliser="my_objects.count",
    metric="lightning_taskonomy.metrics.ObjectAveragePrecision",
    score="my_objects.score",
    decode="my_objects.decode",
)


def head(in_channels: list[int], reductions: list[int], task: Task) -> DenseHead:
    """A light decoder with one output per cell of four pixels."""
    return DenseHead(in_channels, reductions, task, layers=3, width=32, finest=STRIDE)


def middles(sample: Mapping[str, Tensor]) -> Tensor:
    """(1, H/4, W/4): 1 in the cells that hold the middle of a box."""
    boxes, (height, width) = sample["boxes"], sample["image"].shape[-2:]
    cells = torch.zeros(1, height // STRIDE, width // STRIDE)
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE).long().unbind(1)
    cells[0, y.clamp(max=cells.shape[1] - 1), x.clamp(max=cells.shape[2] - 1)] = 1
    return cells


def _grid(preds: Tensor) -> Tensor:
    """(2, h, w): x and y of the middle of each cell, in pixels."""
    y, x = (torch.arange(side, device=preds.device) for side in preds.shape[-2:])
    return (torch.stack(torch.meshgrid(x, y, indexing="xy")) + 0.5) * STRIDE


def _of_cells(target: Mapping[str, Tensor], preds: Tensor) -> tuple[Tensor, Tensor]:
    """Per cell the sides and the point of the disk whose middle is nearest: (B, 6, h, w); and whether it holds one."""
    boxes, points = target["boxes"], target["centres"][:, :, 0]
    if not boxes.shape[1]:
        return preds.new_zeros(len(preds), 6, *preds.shape[-2:]), torch.zeros_like(preds[:, :1], dtype=torch.bool)
    grid = _grid(preds)
    middle = ((boxes[..., :2] + boxes[..., 2:]) / 2).nan_to_num(torch.inf)  # filling is never nearest
    distance = (middle[..., None, None] - grid).square().sum(2)
    nearest = distance.argmin(1)
    wanted = torch.cat([boxes, points], -1)  # (B, n, 6)
    chosen = wanted.gather(1, nearest.flatten(1)[..., None].expand(-1, -1, 6))
    here = chosen.transpose(1, 2).unflatten(2, tuple(preds.shape[-2:])) - grid.repeat(3, 1, 1)
    return here / STRIDE, (target["middles"] > 0.5) & here[:, :1].isfinite()


def errors(preds: Tensor, target: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Whether a cell holds a middle, in every labelled picture; box and point, in those that do.

    Args:
        preds: (B, 7, h, w).
        target: ``boxes`` (B, n, 4) and ``centres`` (B, n, 1, 2), NaN where they fill up, ``middles`` (B, 1, h, w),
            and which pictures are labelled.

    Returns:
        Errors and mask, (B, 7, h, w). A picture without a disk teaches that no cell holds one.
    """
    known = target[presence("boxes")][:, None, None, None].expand_as(preds[:, :1])
    wanted, holds = _of_cells(target, preds)
    hit = F.binary_cross_entropy_with_logits(preds[:, :1], holds.to(preds), reduction="none")
    valid = torch.cat([known, (holds & known).expand(-1, 6, -1, -1) & wanted.isfinite()], 1)
    distance = (preds[:, 1:] - torch.where(valid[:, 1:], wanted, 0)).abs()
    return torch.cat([hit, distance], 1).where(valid, 0), valid


def count(target: Mapping[str, Tensor]) -> Tensor:
    """The disks in labelled pictures."""
    return target["boxes"].isfinite().all(-1).sum()


def score(preds: Tensor, target: Mapping[str, Tensor]) -> Tensor:
    """(B,) error per cell; NaN where nobody looked."""
    return errors(preds, target)[0].mean((1, 2, 3)).where(target[presence("boxes")], torch.nan)


def decode(preds: Tensor, task: Task) -> list[dict[str, Tensor]]:
    """Per picture the boxes (n, 4), points (n, 1, 2) and scores (n,) of cells above their neighbours."""
    chance, grid = preds[:, 0].sigmoid(), _grid(preds)
    peak = chance == F.max_pool2d(chance[:, None], 3, 1, 1)[:, 0]
    places = preds[:, 1:] * STRIDE + grid.repeat(3, 1, 1)
    made = []
    for image in range(len(preds)):
        chosen = peak[image] & (chance[image] > 0.3)
        values = places[image][:, chosen].T
        made.append({"boxes": values[:, :4], "centres": values[:, None, 4:], "scores": chance[image][chosen]})
    return made
