"""What a room is made of: boxes, balls and cylinders, scaled by half sizes and turned about the vertical.

World: metres, x and z level, y up. A primitive's own frame is turned by ``yaw``: its z axis points to
(sin yaw, 0, cos yaw). Everything is one float64 table, a row per primitive, which the compiled loops read.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.tasks.catalog.rooms import CLASSES

__all__ = [
    "BALL", "BOX", "CLASS", "COLUMNS", "COS", "CX", "CYLINDER", "EMIT", "GLOSS", "HX", "INSTANCE", "INVERSE",
    "LIGHT_COLUMNS", "NODE_COLUMNS", "RED", "RED2", "ROLL", "SCALE", "SEED", "SHAPE", "SHELL", "SIN", "TEXTURE",
    "Color", "Primitives", "Triple",
]  # fmt: skip

BOX, BALL, CYLINDER, ROLL = range(4)
"""Shapes. A cylinder stands along y; a roll is a cylinder that lies along its own x axis."""

SHAPE, CX, HX, COS, SIN, RED, RED2, TEXTURE, SCALE, SEED, EMIT, GLOSS, CLASS, INSTANCE, INVERSE = (
    0, 1, 4, 7, 8, 9, 12, 15, 16, 17, 18, 19, 20, 21, 22,
)  # fmt: skip
"""Columns of the table: centre at CX.., half sizes at HX.., two colours at RED.. and RED2.., 1/half at INVERSE.."""

COLUMNS = 25
NODE_COLUMNS = 9
"""Per node of the tree of bounds, depth first: low x y z, high x y z, first row, past-the-last row (equal where the
node has children), the node to go on with when a ray misses this one."""
LIGHT_COLUMNS = 11
"""Per light: kind (0 lamp, 1 window), x y z, radius or half width, half height, cos and sin of the yaw, r g b."""
SHELL = 6
"""The first rows are the room's own faces: floor, ceiling, walls at -z, +z, -x, +x, seen from inside."""

_LEAF, _FEW = 2, 6

Color = NDArray[np.float64]
Triple = Sequence[float] | NDArray[np.float64]
Bounds = NDArray[np.float64]
Ids = NDArray[np.int64]


class Primitives:
    """Collects the primitives of one room.

    Args:
        rng: Draws the textures' offsets.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rows: list[list[float]] = []
        self.lights: list[list[float]] = []
        self.instances = 0

    def instance(self) -> int:
        """A new object's id, from 1."""
        self.instances += 1
        return self.instances

    def add(
        self,
        shape: int,
        center: Triple,
        half: Triple,
        label: str,
        color: Color,
        texture: int = 0,
        *,
        instance: int,
        yaw: float = 0.0,
        scale: float = 1.0,
        emit: float = 0.0,
        color2: Color | None = None,
        gloss: float = 0.0,
    ) -> None:
        """Adds one primitive.

        Args:
            shape: BOX, BALL, CYLINDER or ROLL.
            center: x, y, z in metres.
            half: Half sizes along its own axes in metres.
            label: A name of ``tasks.catalog.rooms.CLASSES``.
            color: (3,) sRGB in [0, 1].
            texture: A number of ``textures``.
            instance: The object it belongs to.
            yaw: Turn about the vertical, radians.
            scale: Texture repeats per metre.
            emit: 1 for a surface that shines by itself.
            color2: (3,) the texture's second colour.
            gloss: Share of the mirror image at normal incidence.
        """
        second = color if color2 is None else color2
        self.rows.append(
            [
                shape, *center, *half, math.cos(yaw), math.sin(yaw), *color, *second, texture, scale,
                self.rng.uniform(0, 100), emit, gloss, CLASSES.index(label), instance, *(1 / h for h in half),
            ]
        )  # fmt: skip

    def lamp(self, position: Triple, radius: float, color: Color) -> None:
        """Adds a light that shines all around from a ball of that radius in metres."""
        self.lights.append([0.0, *position, radius, radius, 1.0, 0.0, *color])

    def opening(self, position: Triple, half: tuple[float, float], yaw: float, color: Color) -> None:
        """Adds a window's light: a rectangle of those half sizes (metres) that faces along ``yaw``."""
        self.lights.append([1.0, *position, *half, math.cos(yaw), math.sin(yaw), *color])

    def table(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The tables of primitives, of the tree of their bounds, and of lights."""
        rows = np.array(self.rows)
        cos, sin, half = np.abs(rows[:, COS]), np.abs(rows[:, SIN]), rows[:, HX : HX + 3]
        reach = np.stack([cos * half[:, 0] + sin * half[:, 2], half[:, 1], sin * half[:, 0] + cos * half[:, 2]], 1)
        low, high = rows[:, CX : CX + 3] - reach - 1e-6, rows[:, CX : CX + 3] + reach + 1e-6
        order, nodes = list(range(SHELL)), list[list[float]]()

        def grow(members: Ids) -> None:
            bottom, top = low[members].min(0), high[members].max(0)
            node = [*bottom, *top, 0.0, 0.0, 0.0]
            nodes.append(node)
            if len(members) <= _LEAF:
                node[6:8] = len(order), len(order) + len(members)
                order.extend(members.tolist())
            else:
                first, second = _split(members, low, high)
                grow(first)
                grow(second)
            node[8] = len(nodes)

        grow(np.arange(SHELL, len(rows)))
        return rows[order], np.array(nodes), np.array(self.lights).reshape(-1, LIGHT_COLUMNS)


def _split(members: Ids, low: Bounds, high: Bounds) -> tuple[Ids, Ids]:
    """The cut across an axis that leaves the least surface times members on its two sides; the middle for a few."""
    if len(members) <= _FEW:
        centers = low[members] + high[members]
        axis = int(np.argmax(centers.max(0) - centers.min(0)))
        ordered = members[np.argsort(centers[:, axis], kind="stable")]
        return ordered[: len(members) // 2], ordered[len(members) // 2 :]
    best, halves = np.inf, (members[:1], members[1:])
    for axis in range(3):
        ordered = members[np.argsort(low[members, axis] + high[members, axis], kind="stable")]
        count = np.arange(1, len(ordered))
        left = np.maximum.accumulate(high[ordered]) - np.minimum.accumulate(low[ordered])
        back = ordered[::-1]
        right = (np.maximum.accumulate(high[back]) - np.minimum.accumulate(low[back]))[::-1]
        cost = count * _area(left[:-1]) + count[::-1] * _area(right[1:])
        k = int(np.argmin(cost))
        if cost[k] < best:
            best, halves = cost[k], (ordered[: k + 1], ordered[k + 1 :])
    return halves


def _area(sides: Bounds) -> Bounds:
    return np.asarray(sides[:, 0] * sides[:, 1] + sides[:, 1] * sides[:, 2] + sides[:, 2] * sides[:, 0])
