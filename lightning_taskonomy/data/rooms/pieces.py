"""A piece of furniture under construction, and the small things that stand on furniture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import cos, sin

import numpy as np

from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CYLINDER, Color, Primitives
from lightning_taskonomy.data.rooms.style import Style, hsv
from lightning_taskonomy.data.rooms.textures import LEAF, PLAIN, STRIPE

__all__ = ["Piece", "clutter"]


@dataclass(frozen=True)
class Piece:
    """A place in the room and the object being built there.

    Args:
        room: Where its primitives go.
        style: The building's colours.
        rng: The room's generator.
        x: Centre of the footprint in metres.
        z: Likewise.
        yaw: Which way it faces.
        w: Half width of the footprint.
        d: Half depth of the footprint.
        label: The semantic class of its parts.
        id: The object's instance.
    """

    room: Primitives
    style: Style
    rng: np.random.Generator
    x: float
    z: float
    yaw: float
    w: float
    d: float
    label: str
    id: int

    def world(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """A point of the piece's frame in the world."""
        c, s = cos(self.yaw), sin(self.yaw)
        return self.x + c * x + s * z, y, self.z - s * x + c * z

    def put(
        self, shape: int, at: Sequence[float], half: Sequence[float], color: Color, texture: int = PLAIN, *,
        scale: float = 1.0, turn: float = 0.0, emit: float = 0.0, gloss: float = 0.0, color2: Color | None = None,
    ) -> None:  # fmt: skip
        """Adds a part at a point of the piece's frame."""
        self.room.add(
            shape, self.world(at[0], at[1], at[2]), half, self.label, np.clip(color, 0, 1), texture, instance=self.id,
            yaw=self.yaw + turn, scale=scale, emit=emit, gloss=gloss, color2=color2,
        )  # fmt: skip

    def legs(self, height: float, thick: float, inset: float, color: Color, shape: int = BOX) -> None:
        """Adds four legs."""
        for x in (-1, 1):
            for z in (-1, 1):
                at = (x * (self.w - inset), height / 2, z * (self.d - inset))
                self.put(shape, at, (thick, height / 2, thick), color)

    def other(self, label: str) -> "Piece":
        """A new object in the same frame."""
        return replace(self, label=label, id=self.room.instance())

    def wood(self) -> Color:
        """One of the building's woods."""
        return self.style.wood(self.rng)

    def cloth(self) -> Color:
        """One of the building's fabrics."""
        return self.style.cloth(self.rng)


def clutter(piece: Piece, top: float, w: float, d: float, count: int) -> None:
    """Puts small things on a surface of half sizes w, d at height ``top``."""
    rng = piece.rng
    taken: list[tuple[float, float]] = []
    for _ in range(count):
        x, z = rng.uniform(-0.85, 0.85) * w, rng.uniform(-0.7, 0.7) * d
        if any(abs(x - a) + abs(z - b) < 0.22 for a, b in taken):
            continue
        taken.append((x, z))
        kind = rng.integers(5)
        color = piece.cloth()
        if kind == 0:
            r = rng.uniform(0.05, 0.11)
            piece.other("ball").put(BALL, (x, top + r, z), (r, r, r), color, gloss=0.08)
        elif kind == 1:
            thing, h, r = piece.other("vase"), rng.uniform(0.09, 0.17), rng.uniform(0.04, 0.07)
            texture = STRIPE if rng.random() < 0.4 else PLAIN
            thing.put(CYLINDER, (x, top + h, z), (r, h, r), color, texture, scale=30, color2=color * 0.6, gloss=0.1)
            thing.put(CYLINDER, (x, top + 2 * h + 0.03, z), (r * 0.55, 0.03, r * 0.55), color, gloss=0.1)
        elif kind == 2:
            thing, h = piece.other("vase"), rng.uniform(0.08, 0.14)
            thing.put(BALL, (x, top + h, z), (h * 0.9, h, h * 0.9), color, gloss=0.12)
            thing.put(CYLINDER, (x, top + 2 * h, z), (h * 0.35, h * 0.3, h * 0.35), color, gloss=0.12)
            if rng.random() < 0.5:
                plant = piece.other("plant")
                for _ in range(4):
                    at = (x + rng.normal(0, 0.06), top + 2.7 * h + rng.uniform(0, 0.12), z + rng.normal(0, 0.06))
                    plant.put(BALL, at, (0.06, 0.09, 0.05), hsv(rng.uniform(0.22, 0.36), 0.6, 0.5), LEAF, scale=30)
        elif kind == 3:
            thing, y = piece.other("book"), top
            for _ in range(int(rng.integers(1, 4))):
                h = rng.uniform(0.012, 0.03)
                size = (rng.uniform(0.09, 0.13), h, rng.uniform(0.07, 0.1))
                thing.put(BOX, (x, y + h, z), size, piece.cloth(), turn=rng.uniform(-0.6, 0.6))
                y += 2 * h
        else:
            thing = piece.other("vase")
            thing.put(BALL, (x, top + 0.05, z), (0.13, 0.05, 0.13), color, gloss=0.1)
            fruit = piece.other("ball")
            for a in range(3):
                at = (x + 0.05 * cos(a * 2.1), top + 0.12, z + 0.05 * sin(a * 2.1))
                fruit.put(BALL, at, (0.04, 0.04, 0.04), hsv(rng.uniform(0, 0.2), 0.8, 0.85))
