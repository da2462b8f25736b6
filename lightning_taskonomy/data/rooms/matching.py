"""Point matching: are two patches, from two views, centred on the same point of the room?"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_taskonomy.data.rooms.camera import Camera

__all__ = ["PATCH", "correspondences", "pair"]

Table = NDArray[np.float64]
Image = NDArray[np.uint8]

PATCH = 3
"""A patch is this part of the picture along each side."""
_CANDIDATES = 48
_APART = 0.5


def correspondences(places: Table, first: Table, second: Table, camera: Camera) -> tuple[Table, NDArray[np.bool_]]:
    """Where points seen in one view lie in another.

    Args:
        places: (N, 2) whole column and row in the first view.
        first: (H * W, GEOMETRY_COLUMNS) what the first view sees.
        second: Likewise for the second.
        camera: The second camera.

    Returns:
        (N, 2) column and row in the second view, pixel centres at whole numbers; (N,) whether the point is seen there.
    """
    size = math.isqrt(len(first))
    points = first[places[:, 1].astype(int) * size + places[:, 0].astype(int), 2:5]
    projected = camera.project(points, size)
    where = projected[:, :2] - 0.5
    inside = (projected[:, 2] > 0.05) & (where > -0.5).all(1) & (where < size - 0.5).all(1)
    nearest = np.clip(np.rint(np.where(inside[:, None], where, 0)), 0, size - 1).astype(int)
    seen = second[nearest[:, 1] * size + nearest[:, 0]]
    off = ((points - seen[:, 2:5]) * seen[:, 5:8]).sum(1)  # from the surface seen there
    gap = np.linalg.norm(points - seen[:, 2:5], axis=1)
    return where, inside & (np.abs(off) < 0.01) & (gap < 4 * seen[:, 0] / size)


def _patch(image: Image, place: Table) -> Image:
    """(3, H, W) the square of 1 / PATCH around a place, enlarged to the picture's size."""
    size = image.shape[-1]
    steps = ((np.arange(size) + 0.5) / size - 0.5) * (size / PATCH)
    grid = np.stack(np.meshgrid(place[1] + steps, place[0] + steps, indexing="ij"))
    planes = [ndimage.map_coordinates(plane.astype(np.float32), grid, order=1, mode="nearest") for plane in image]
    return np.asarray(np.rint(np.stack(planes)), np.uint8)


def _texture(image: Image, places: Table) -> Table:
    """(N,) how much the picture varies around each place."""
    gray = image.mean(0)
    width = max(3, image.shape[-1] // (2 * PATCH))
    mean = ndimage.uniform_filter(gray, width)
    spread = ndimage.uniform_filter(gray**2, width) - mean**2
    at = np.clip(np.rint(places), 0, image.shape[-1] - 1).astype(int)
    return np.asarray(spread[at[:, 1], at[:, 0]])


def pair(
    images: tuple[Image, Image], pixels: tuple[Table, Table], camera: Camera, rng: np.random.Generator
) -> tuple[Image, int]:
    """Two patches and whether their middles show one point.

    The first is centred on a textured point that both views see; the second on the same point in the other view or,
    in half of the samples, on another textured point there at least half a metre away.

    Args:
        images: (3, H, W) uint8 of both views.
        pixels: (H * W, GEOMETRY_COLUMNS) what both views see.
        camera: The second camera.
        rng: Draws the points.

    Returns:
        (2, 3, H, W) uint8; 1 for the same point, 0 for different ones (always 0 where the views share none).
    """
    size = images[0].shape[-1]
    margin = size // (2 * PATCH)
    places = rng.integers(margin, size - margin, (_CANDIDATES, 2)).astype(np.float64)
    others = rng.integers(margin, size - margin, (_CANDIDATES, 2)).astype(np.float64)
    same = bool(rng.random() < 0.5)
    where, visible = correspondences(places, pixels[0], pixels[1], camera)
    visible &= (where >= margin).all(1) & (where < size - margin).all(1)
    texture = _texture(images[0], places)
    place = int(np.argmax(np.where(visible, texture, -1))) if visible.any() else int(np.argmax(texture))
    if same and visible.any():
        return np.stack([_patch(images[0], places[place]), _patch(images[1], where[place])]), 1
    row, column = places[place, 1], places[place, 0]
    point = pixels[0][int(row) * size + int(column), 2:5]
    there = pixels[1][others[:, 1].astype(int) * size + others[:, 0].astype(int), 2:5]
    apart = np.linalg.norm(there - point, axis=1)
    score = np.where(apart > _APART, _texture(images[1], others), -1 / (1 + apart))
    # of the textured ones, any: the most textured alone would be the same place again and again
    best = np.argsort(-score, kind="stable")[: _CANDIDATES // 8]
    other = int(rng.choice(best[score[best] >= 0])) if (score[best] >= 0).any() else int(np.argmax(apart))
    return np.stack([_patch(images[0], places[place]), _patch(images[1], others[other])]), 0
