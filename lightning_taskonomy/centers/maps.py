"""Target maps of CenterNet, for all objects of a batch at once, on whatever device the labels are.

They are made in the loss, from the padded boxes: what a loader sends is then a few numbers per object instead of a map
per class (5 MB per image of 512 x 512 pixels with COCO's 80 classes). Nothing here waits for an accelerator.
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["covered", "gaussian_radius", "heat_map"]

_OBJECTS = 256
"""So many Gaussians are drawn at a time, which bounds the memory."""


def gaussian_radius(sizes: Tensor, overlap: float = 0.7) -> Tensor:
    """How far around the middle of a box a guess is not punished in full: CenterNet's rule.

    The smaller root of CornerNet's third quadratic (Law and Deng 2018), for sizes rounded up to whole cells, rounded
    down. Their code takes the least of three numbers, of which this always is the least: the other two are roots that
    are larger than the box. It also divides by 2 where the geometry asks for 2 a, so that the radius is not the one at
    which the overlap is exactly 0.7; CenterNet has kept that, and so do we.

    Args:
        sizes: Width and height of boxes in cells (..., 2).
        overlap: The overlap that the rule is made for.

    Returns:
        Radii in whole cells (...), int64, at least 0.
    """
    sizes = sizes.ceil()
    total, area = sizes.sum(-1), sizes.prod(-1)
    root = ((2 * overlap * total) ** 2 + 16 * overlap * (1 - overlap) * area).sqrt()
    return ((root - 2 * overlap * total) / 2).long().clamp(min=0)


def heat_map(cells: Tensor, radius: Tensor, planes: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """A Gaussian around each object in the plane of its image and class; where several overlap, their maximum.

    The standard deviation is a sixth of the diameter (2 radius + 1), and beyond the radius there is nothing, as in
    CenterNet's code. "Factors of Influence" prints a sum of Gaussians (after Eq. A.2), CenterNet takes the maximum
    (Zhou et al. 2019, section 3); we take the maximum, because a sum exceeds 1 between near objects, where the focal
    loss would take powers of a negative number, and loses the peaks by which it knows an object's cell.

    Args:
        cells: Column and row of each middle (N, 2) int64, within the map.
        radius: In cells (N,) int64; -1 where a row is no object.
        planes: Image times number of classes plus class, (N,) int64.
        shape: Images, classes, height and width of the map.

    Returns:
        The map, ``shape`` float32, exactly 1 in the cells of the objects.
    """
    height, width = shape[2:]
    on_cpu = cells.device.type == "cpu"
    heat = _zeros(math.prod(shape)) if on_cpu else torch.zeros(math.prod(shape), device=cells.device)
    if not len(radius):
        return heat.view(shape)
    radius, order = radius.sort()
    # per part of the objects, how far its widest reaches; an accelerator would have to be waited for
    parts = range(0, len(radius), _OBJECTS)
    if on_cpu:
        reaches = [int(radius[part : part + _OBJECTS][-1]) for part in parts]
    else:
        reaches = [int(gaussian_radius(torch.tensor([float(width), float(height)])))] * len(parts)
    reach = max(0, reaches[-1])

    cells, planes = cells[order], planes[order]
    steps = torch.arange(-reach, reach + 1, device=cells.device)
    columns, rows = cells[:, :1] + steps, cells[:, 1:] + steps
    of_radius = torch.arange(-1, reach + 1, device=cells.device)[:, None]
    bell = torch.exp(-18.0 * (steps / (2 * of_radius + 1)).square()).where(steps.abs() <= of_radius, 0.0)
    bell = bell[radius + 1]
    along = bell.where((columns >= 0) & (columns < width), 0.0)
    down = bell.where((rows >= 0) & (rows < height), 0.0)
    columns = columns.clamp(0, width - 1)
    rows = rows.clamp(0, height - 1) * width + planes[:, None] * (height * width)
    for part, near in zip(parts, reaches, strict=True):
        if near >= 0:
            here = (slice(part, part + _OBJECTS), slice(reach - near, reach + near + 1))
            index = rows[here].unsqueeze(2) + columns[here].unsqueeze(1)
            values = down[here].unsqueeze(2) * along[here].unsqueeze(1)
            heat.scatter_reduce_(0, index.flatten(), values.flatten(), "amax")
    return heat.view(shape)


def _zeros(count: int) -> Tensor:
    """Zeros from the operating system: memory that no object touches is not written, as torch.zeros does."""
    return torch.from_numpy(np.zeros(count, np.float32))


def covered(regions: Tensor, classes: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """The cells whose middle lies in a region.

    Args:
        regions: Left, top, right, bottom in cells (B, m, 4); a region with NaN covers nothing.
        classes: The class that each covers (B, m), -100 for any class.
        shape: Images, classes, height and width of the map.

    Returns:
        Mask of ``shape``.
    """
    _, channels, height, width = shape
    x, y = (torch.arange(side, device=regions.device) + 0.5 for side in (width, height))
    left, top, right, bottom = regions[..., None].unbind(2)
    columns, rows = (x > left) & (x < right), (y > top) & (y < bottom)
    of_class = (classes[..., None] == torch.arange(channels, device=regions.device)) | (classes[..., None] < 0)
    return torch.einsum("bmk,bmh,bmw->bkhw", of_class.float(), rows.float(), columns.float()) > 0
