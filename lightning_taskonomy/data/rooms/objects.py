"""Objects of one view: a box, a class and eight points each.

The points are the corners of an object's largest part (by the product of its half sizes), wherever the camera sees
them: all lie on its surface. Of a box they are the corners themselves; of a round part the points of its surface in
the direction of the corners of the unit cube: on the rims of a cylinder, on the face of a ball. Which corner is which
is seen in the picture: *near* is the side that faces the viewer or, from above, the lower edge of the picture; *left*
and *right* are then as in the picture, so that a mirror exchanges them and nothing else.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_taskonomy.data.rooms.camera import Camera
from lightning_taskonomy.data.rooms.compiled import compiled
from lightning_taskonomy.data.rooms.primitives import (
    BALL,
    BOX,
    CLASS,
    COS,
    CX,
    CYLINDER,
    HX,
    INSTANCE,
    ROLL,
    SHAPE,
    SIN,
)  # fmt: skip
from lightning_taskonomy.data.rooms.rays import cast
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.tasks.catalog.rooms import CLASSES, THINGS

__all__ = ["corners", "objects"]

Table = NDArray[np.float64]
Label = NDArray[np.generic]

_LEAST = 0.001
"""Of the picture's pixels that an object covers at least, and never fewer than four: less cannot be told from noise."""
_THING = np.array([THINGS.index(name) if name in THINGS else -1 for name in CLASSES])
_SIGNS = np.array([(x, y, z) for z in (1, -1) for y in (1, -1) for x in (-1, 1)], float)
"""Left before right, top before bottom, near before far, with x to the right, y up and z towards the viewer."""
_ON_SURFACE = {
    BOX: (1.0, 1.0, 1.0),
    BALL: (math.sqrt(1 / 3),) * 3,
    CYLINDER: (math.sqrt(0.5), 1.0, math.sqrt(0.5)),
    ROLL: (1.0, math.sqrt(0.5), math.sqrt(0.5)),
}
_SLACK = 1e-3
"""Share of a point's distance by which what hides it must be nearer."""


def corners(part: Table, axes: Table) -> Table:
    """(8, 3) the points of a primitive in the world, in the order of ``tasks.catalog.rooms.POINTS``.

    Args:
        part: (COLUMNS,) the primitive.
        axes: (3, 3) the camera's right, down and forward in the world.
    """
    towards = (axes[1] - axes[2])[[0, 2]]
    shape, half = int(part[SHAPE]), part[HX : HX + 3]
    round_ = shape in (BALL, CYLINDER) and abs(half[0] - half[2]) < 1e-9
    yaw = math.atan2(towards[0], towards[1]) if round_ else math.atan2(part[SIN], part[COS])
    turns = [yaw + k * math.pi / 2 for k in range(4)]
    quarter = int(np.argmax([math.sin(a) * towards[0] + math.cos(a) * towards[1] for a in turns]))
    x, z = (half[2], half[0]) if quarter % 2 and not round_ else (half[0], half[2])
    reach = np.array(_ON_SURFACE[shape])
    if shape == ROLL and quarter % 2:
        reach = reach[[2, 1, 0]]
    local = _SIGNS * reach * (x, half[1], z)
    c, s = math.cos(turns[quarter]), math.sin(turns[quarter])
    turned = np.stack([c * local[:, 0] + s * local[:, 2], local[:, 1], -s * local[:, 0] + c * local[:, 2]], 1)
    return np.asarray(part[CX : CX + 3] + turned)


@compiled
def _reached(prims: Table, nodes: Table, room: Table, eye: Table, points: Table) -> Table:
    """(N,) how far along the way from the eye to each point something is met, 1 at the point itself."""
    out = np.empty(len(points))
    for k in range(len(points)):
        dx, dy, dz = points[k, 0] - eye[0], points[k, 1] - eye[1], points[k, 2] - eye[2]
        out[k] = cast(prims, nodes, room, eye[0], eye[1], eye[2], dx, dy, dz)[0]
    return out


def objects(pixels: Table, room: Room, camera: Camera) -> dict[str, Label]:
    """The objects that a camera sees, those that cover most pixels first.

    Args:
        pixels: (H * W, GEOMETRY_COLUMNS) from ``shading.geometry``.
        room: The scene.
        camera: The camera.

    Returns:
        ``boxes`` (n, 4) float32, left, top, right, bottom of the visible pixels; ``object_classes`` (n,) int64, indices
        of ``THINGS``; ``points`` (n, 8, 2) float32, x and y in pixels, NaN for what is hidden or outside the picture.
    """
    size = math.isqrt(len(pixels))
    index = pixels[:, 1].astype(int)
    instances = room.prims[:, INSTANCE].astype(int)
    seen = instances[index].reshape(size, size)
    areas = np.bincount(seen.ravel())
    spans = ndimage.find_objects(seen)
    volume = room.prims[:, HX : HX + 3].prod(1)
    boxes, classes, points = [], [], []
    for number in np.argsort(-areas, kind="stable"):
        if areas[number] < max(4, _LEAST * len(pixels)):
            break
        rows = np.flatnonzero(instances == number)
        thing = _THING[int(room.prims[rows[0], CLASS])]
        if number == 0 or thing < 0:
            continue
        high, wide = spans[number - 1]
        boxes.append((wide.start, high.start, wide.stop, high.stop))
        classes.append(thing)
        points.append(corners(room.prims[rows[np.argmax(volume[rows])]], camera.axes))
    world = np.array(points).reshape(-1, 3)
    tables = room.prims, room.nodes, room.size
    hidden = _reached(*tables, camera.eye, world) < 1 - _SLACK
    placed = camera.project(world, size)
    outside = (placed[:, 2] <= 0) | (placed[:, :2] < 0).any(1) | (placed[:, :2] > size).any(1)
    marked = np.where((hidden | outside)[:, None], np.nan, placed[:, :2])
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "object_classes": np.array(classes, np.int64),
        "points": marked.reshape(-1, 8, 2).astype(np.float32),
    }
