"""Target maps of CenterNet, for all objects of a batch at once, on whatever device the labels are.

They are made in the loss, from the padded boxes: what a loader sends is then a few numbers per object instead of a map
per class (5 MB per image of 512 x 512 pixels with COCO's 80 classes). Nothing here waits for an accelerator.
"""

import math

import torch
from torch import Tensor

__all__ = ["covered", "gaussian_radius", "heat_map"]

_OBJECTS = 128
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
    heat = torch.zeros(math.prod(shape), device=cells.device)
    if not len(radius):
        return heat.view(shape)
    by_radius = radius.argsort()
    largest = int(gaussian_radius(torch.tensor([width, height])))
    on_cpu = radius.device.type == "cpu"  # where the largest of a part may be asked for without waiting
    for part in by_radius.split(_OBJECTS):
        reach = int(radius[part[-1]]) if on_cpu else largest
        if reach < 0:
            continue
        steps = torch.arange(-reach, reach + 1, device=cells.device)
        wide = radius[part, None]
        gauss = torch.exp(steps**2 * (-18.0 / (2 * wide + 1) ** 2)) * (steps.abs() <= wide)
        columns, rows = cells[part, 0, None] + steps, cells[part, 1, None] + steps
        along = gauss * ((columns >= 0) & (columns < width))
        down = gauss * ((rows >= 0) & (rows < height))
        first = planes[part, None] * (height * width) + rows.clamp(0, height - 1) * width
        index = first[:, :, None] + columns.clamp(0, width - 1)[:, None]
        heat.scatter_reduce_(0, index.flatten(), (down[:, :, None] * along[:, None]).flatten(), "amax")
    return heat.view(shape)


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
