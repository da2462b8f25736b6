"""A building is a seed; it has a few rooms of different types that share a style."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.furniture import FURNITURE
from lightning_taskonomy.data.rooms.pieces import Piece
from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CYLINDER, Primitives
from lightning_taskonomy.data.rooms.seeds import Stream, generator
from lightning_taskonomy.data.rooms.style import Style, gray, hsv
from lightning_taskonomy.data.rooms.textures import (
    BRICK,
    CHECK,
    FABRIC,
    MARBLE,
    PICTURE,
    PLAIN,
    PLANKS,
    RUG,
    SKY,
    STRIPE,
    TILE,
    WOOD,
)  # fmt: skip
from lightning_taskonomy.tasks.catalog.rooms import SCENE_CLASSES

__all__ = ["ROOMS_PER_BUILDING", "Room", "build_room"]

ROOMS_PER_BUILDING = 3

Table = NDArray[np.float64]

_SHARES = (0.24, 0.2, 0.17, 0.19, 0.12, 0.08)
_SIZES: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "living room": ((1.8, 2.5), (2.0, 2.8)),
    "bedroom": ((1.6, 2.1), (1.8, 2.3)),
    "kitchen": ((1.5, 2.1), (1.7, 2.5)),
    "office": ((1.6, 2.2), (1.7, 2.5)),
    "bathroom": ((1.1, 1.5), (1.3, 1.8)),
    "corridor": ((0.9, 1.15), (2.4, 3.6)),
}
_WALL_SIDE: Mapping[str, tuple[str, ...]] = {
    "living room": ("sofa", "tv", "armchair", "shelf", "cabinet", "plant", "lamp", "sofa", "plant", "shelf", "stool"),
    "bedroom": (
        "bed",
        "wardrobe",
        "nightstand",
        "nightstand",
        "desk",
        "chair",
        "plant",
        "cabinet",
        "lamp",
        "stool",
        "shelf",
    ),
    "kitchen": ("counter", "counter", "fridge", "cabinet", "plant", "shelf", "stool", "chair", "plant"),
    "office": ("desk", "shelf", "desk", "shelf", "cabinet", "plant", "lamp", "armchair", "shelf", "plant"),
    "bathroom": ("basin", "toilet", "tub", "washer", "stool", "plant", "cabinet"),
    "corridor": ("cabinet", "plant", "chair", "shelf", "lamp", "cabinet", "stool", "plant"),
}
_DOOR_HALF = 0.46


@dataclass(frozen=True)
class Room:
    """One furnished room, ready for the compiled loops.

    Args:
        scene_class: Its index in ``SCENE_CLASSES``.
        size: (3,) half width, height, half depth in metres; the floor's centre is the origin.
        prims: (P, COLUMNS) primitives.
        nodes: (N, NODE_COLUMNS) the tree of their bounds.
        lights: (L, LIGHT_COLUMNS) lights.
        sun: (6,) direction towards the sun and its colour, black if it does not shine.
        footprints: (F, 5) of the furniture: low x, low z, high x, high z, height.
        unit: Metres per unit in which all this is measured: 1 in a room, more in a street.
    """

    scene_class: int
    size: Table
    prims: Table
    nodes: Table
    lights: Table
    sun: Table
    footprints: Table
    unit: float = 1.0


class _Builder:
    """Furnishes one room."""

    def __init__(self, name: str, style: Style, rng: np.random.Generator) -> None:
        self.name, self.style, self.rng = name, style, rng
        (a, b), (c, d) = _SIZES[name]
        self.w, self.d, self.h = rng.uniform(a, b), rng.uniform(c, d), rng.uniform(2.35, 2.75)
        self.parts = Primitives(rng)
        self.floor: list[tuple[float, float, float, float, float]] = []
        self.hung: list[list[tuple[float, float, float, float]]] = [[] for _ in range(4)]
        self.sun = np.array([0.0, 1, 0, 0, 0, 0])

    def walls(self) -> tuple[tuple[float, float, float, float], ...]:
        """Per wall: middle x, z, yaw towards the room, half length."""
        w, d = self.w, self.d
        return (0, -d, 0.0, w), (0, d, pi, w), (-w, 0, pi / 2, d), (w, 0, -pi / 2, d)

    def build(self) -> Room:
        self._shell()
        self._door()
        for _ in range({"corridor": 1, "bathroom": 1}.get(self.name, 2)):
            self._window()
        self._ceiling_lamps()
        self._furnish()
        for _ in range(int(self.rng.integers(3, 8))):
            self._picture()
        prims, nodes, lights = self.parts.table()
        return Room(
            SCENE_CLASSES.index(self.name), np.array([self.w, self.h, self.d]), prims, nodes, lights, self.sun,
            np.array(self.floor).reshape(-1, 5),
        )  # fmt: skip

    def _shell(self) -> None:
        rng, style, parts = self.rng, self.style, self.parts
        w, d, h = self.w, self.d, self.h
        wall, accent = style.paint(rng), style.paint(rng)
        texture, scale = int(rng.choice([PLAIN, PLAIN, PLAIN, STRIPE, BRICK])), 7.0
        if self.name == "bathroom" or (self.name == "kitchen" and rng.random() < 0.3):
            texture, scale = TILE, rng.uniform(3, 6)
        kind, floor_scale = (PLANKS, FABRIC, PLANKS, MARBLE)[style.floor], 1.0
        color = style.wood(rng) if kind == PLANKS else style.paint(rng) * rng.uniform(0.5, 0.9)
        if self.name in ("bathroom", "kitchen"):
            kind, floor_scale = int(rng.choice([TILE, CHECK, TILE])), rng.uniform(2.0, 3.5)
            color = style.paint(rng) * rng.uniform(0.6, 1.0)
        gloss = 0.0 if kind == FABRIC else 0.07
        parts.add(
            BOX, (0, 0, 0), (w, 0.1, d), "floor", color, kind, instance=parts.instance(), scale=floor_scale,
            color2=color * 0.6, gloss=gloss,
        )  # fmt: skip
        parts.add(BOX, (0, h, 0), (w, 0.1, d), "ceiling", gray(rng.uniform(0.88, 0.98)), instance=parts.instance())
        special = int(rng.integers(4)) if rng.random() < 0.5 else -1
        for k, (x, z, _, _) in enumerate(self.walls()):
            paint, surface = (accent, PLAIN) if k == special and texture != TILE else (wall, texture)
            if surface == BRICK and k != (special + 1) % 4:
                surface = PLAIN
            grout = gray(0.6) if surface in (TILE, BRICK) else paint * 0.86
            if surface == BRICK:
                paint = hsv(rng.uniform(0.01, 0.05), rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.75))
            parts.add(
                BOX, (x, 0, z), (w, h, d), "wall", paint, surface, instance=parts.instance(), scale=scale, color2=grout,
                gloss=0.05 if surface == TILE else 0.0,
            )  # fmt: skip
        for k, (x, z, yaw, half) in enumerate(self.walls()):
            at = (x + 0.012 * sin(yaw), 0.05, z + 0.012 * cos(yaw))
            parts.add(BOX, at, (half, 0.05, 0.012), "wall", gray(0.92), instance=3 + k, yaw=yaw)
        if rng.random() < 0.35 and self.name != "bathroom":  # a beam under the ceiling
            x = rng.uniform(-0.5, 0.5) * w
            parts.add(
                BOX, (x, h - 0.08, 0), (0.09, 0.08, d), "ceiling", style.wood(rng), WOOD, instance=parts.instance()
            )

    def _hang(self, half: float, low: float, high: float, tries: int = 12) -> tuple[float, float, float] | None:
        """A free place on a wall for something of that half width between two heights: x, z, yaw."""
        for _ in range(tries):
            k = int(self.rng.integers(4))
            x, z, yaw, length = self.walls()[k]
            if length - half < 0.12:
                continue
            u = self.rng.uniform(half - length + 0.1, length - half - 0.1)
            if all(
                abs(u - a) > half + b + 0.05 or low > hi + 0.03 or high < lo - 0.03 for a, b, lo, hi in self.hung[k]
            ):
                self.hung[k].append((u, half, low, high))
                return x + u * cos(yaw), z - u * sin(yaw), yaw
        return None

    def _door(self) -> None:
        place = self._hang(_DOOR_HALF, 0, 2.05, 40)
        if place is None:
            return
        x, z, yaw = place
        rng, i = self.rng, self.parts.instance()
        color = self.style.wood(rng) if rng.random() < 0.5 else gray(rng.uniform(0.8, 0.95))
        ahead, side = np.array([sin(yaw), 0, cos(yaw)]), np.array([cos(yaw), 0, -sin(yaw)])
        at, up = np.array([x, 0, z]), np.array([0.0, 1, 0])
        self.parts.add(BOX, at + 1.01 * up, (_DOOR_HALF, 1.04, 0.03), "door", color * 0.85, instance=i, yaw=yaw)
        self.parts.add(BOX, at + 0.99 * up, (0.4, 0.99, 0.045), "door", color, WOOD, instance=i, yaw=yaw)
        for y, h in ((1.45, 0.4), (0.5, 0.32)):
            self.parts.add(BOX, at + y * up, (0.28, h, 0.052), "door", color * 0.93, WOOD, instance=i, yaw=yaw)
        knob = at + 0.33 * side + 0.08 * ahead
        self.parts.add(BALL, knob + up, (0.03, 0.03, 0.03), "door", hsv(0.13, 0.4, 0.7), instance=i, gloss=0.2)
        front = at + 0.4 * ahead
        reach = np.abs(side) * _DOOR_HALF + np.abs(ahead) * 0.4
        self.floor.append((front[0] - reach[0], front[2] - reach[2], front[0] + reach[0], front[2] + reach[2], 0.0))

    def _window(self) -> None:
        rng, parts = self.rng, self.parts
        half, tall, y = rng.uniform(0.4, 0.8), rng.uniform(0.5, 0.65), rng.uniform(1.4, 1.55)
        place = self._hang(half + 0.28, y - tall - 0.1, y + tall + 0.15)
        if place is None:
            return
        x, z, yaw = place
        i, sky, white = parts.instance(), np.array([0.8, 0.9, 1.0]), gray(0.93)
        ahead, side = np.array([sin(yaw), 0, cos(yaw)]), np.array([cos(yaw), 0, -sin(yaw)])
        at = np.array([x, y, z])
        parts.add(BOX, at, (half + 0.06, tall + 0.06, 0.035), "window", white, instance=i, yaw=yaw)
        parts.add(BOX, at, (half, tall, 0.04), "window", sky, SKY, instance=i, yaw=yaw, emit=1.0)
        parts.add(BOX, at, (0.02, tall, 0.05), "window", white, instance=i, yaw=yaw)
        parts.add(BOX, at, (half, 0.015, 0.047), "window", white, instance=i, yaw=yaw)
        sill = at + 0.05 * ahead - np.array([0, tall + 0.08, 0])
        parts.add(BOX, sill, (half + 0.1, 0.02, 0.1), "window", white, instance=i, yaw=yaw)
        if rng.random() < 0.6:  # curtains: folds of upright cylinders
            cloth = self.style.cloth(rng)
            for s in (-1, 1):
                for k in range(4):
                    fold = at + s * (half + 0.24 - 0.07 * k) * side + 0.07 * ahead
                    shape = (0.045, tall + 0.15, 0.035)
                    parts.add(CYLINDER, fold, shape, "window", cloth * (0.92 + 0.04 * k), FABRIC, instance=i, yaw=yaw)
        parts.opening(
            at + 0.1 * ahead, (half, tall), yaw, np.array([0.85, 0.93, 1.0]) * rng.uniform(1.3, 2.2) * half * tall * 4
        )
        if self.sun[3] == 0 and rng.random() < 0.55:
            up, turn = rng.uniform(0.35, 0.8), rng.uniform(-0.6, 0.6)
            away = -(ahead * cos(turn) + side * sin(turn)) * cos(up) + np.array([0, sin(up), 0])
            self.sun = np.concatenate([away, np.array([1.0, 0.92, 0.75]) * rng.uniform(1.2, 2.2)])

    def _ceiling_lamps(self) -> None:
        rng, parts, h = self.rng, self.parts, self.h
        count = 2 if self.name == "corridor" else 1
        for k in range(count):
            x, z = rng.uniform(-0.25, 0.25) * self.w, rng.uniform(-0.3, 0.3) * self.d
            if count == 2:
                z = (k - 0.5) * self.d
            i, warm, r = (
                parts.instance(),
                np.array([1, rng.uniform(0.88, 1), rng.uniform(0.7, 1)]),
                rng.uniform(0.13, 0.22),
            )
            kind, y = rng.integers(3), h - 0.15
            if kind == 0:
                parts.add(CYLINDER, (x, h - 0.04, z), (0.2, 0.04, 0.2), "lamp", warm, instance=i, emit=1.0)
            elif kind == 1:
                parts.add(BALL, (x, h, z), (0.2, 0.12, 0.2), "lamp", warm, instance=i, emit=1.0)
                y = h - 0.2
            else:
                drop = rng.uniform(0.2, 0.4)
                parts.add(CYLINDER, (x, h - drop / 2, z), (0.008, drop / 2, 0.008), "lamp", gray(0.25), instance=i)
                parts.add(BALL, (x, h - drop - r, z), (r, r, r), "lamp", warm, instance=i, emit=1.0)
                y = h - drop - 2 * r - 0.05
            parts.lamp((x, y, z), 0.16, warm * rng.uniform(1.5, 2.4))

    def _fits(self, x: float, z: float, rx: float, rz: float) -> bool:
        if abs(x) + rx > self.w + 1e-6 or abs(z) + rz > self.d + 1e-6:
            return False
        return all(x + rx <= a or x - rx >= c or z + rz <= b or z - rz >= d for a, b, c, d, _ in self.floor)

    def _place(self, kind: str, x: float, z: float, yaw: float, w: float, d: float) -> None:
        furniture = FURNITURE[kind]
        piece = Piece(self.parts, self.style, self.rng, x, z, yaw, w, d, furniture.label, self.parts.instance())
        furniture.build(piece)
        rx, rz = abs(cos(yaw)) * w + abs(sin(yaw)) * d, abs(sin(yaw)) * w + abs(cos(yaw)) * d
        self.floor.append((x - rx, z - rz, x + rx, z + rz, furniture.height))

    def _against_wall(self, kind: str, tries: int = 14) -> bool:
        """Places a piece with its back to a wall, clear of doors, of windows it would cover, and of other pieces."""
        furniture, rng = FURNITURE[kind], self.rng
        w, d = rng.uniform(*furniture.w), rng.uniform(*furniture.d)
        for attempt in range(tries):
            k = int(rng.integers(4))
            x, z, yaw, length = self.walls()[k]
            if attempt > tries // 2:
                w = furniture.w[0]
            room = length - w - 0.02
            if room < 0:
                continue
            u = rng.choice([-1, 1]) * room if rng.random() < 0.3 else rng.uniform(-room, room)
            px, pz = x + u * cos(yaw) + (d + 0.03) * sin(yaw), z - u * sin(yaw) + (d + 0.03) * cos(yaw)
            rx, rz = abs(cos(yaw)) * w + abs(sin(yaw)) * d, abs(sin(yaw)) * w + abs(cos(yaw)) * d
            behind = any(abs(u - a) < w + b and furniture.height > low for a, b, low, _ in self.hung[k])
            if not behind and self._fits(px, pz, rx, rz):
                self.hung[k].append((u, w, 0.0, furniture.height))
                self._place(kind, px, pz, yaw, w, d)
                return True
        return False

    def _furnish(self) -> None:
        rng, style = self.rng, self.style
        for kind in _WALL_SIDE[self.name]:
            if rng.random() < 0.93:
                self._against_wall(kind)
        if self.name in ("living room", "kitchen", "office", "bedroom", "bathroom"):
            self._middle()
        if rng.random() < 0.7:
            shape, w, d = (
                int(rng.choice([BOX, CYLINDER])),
                min(rng.uniform(0.6, 1.2), self.w - 0.2),
                rng.uniform(0.5, 0.9),
            )
            x, z = rng.uniform(-0.3, 0.3) * self.w, rng.uniform(-0.3, 0.3) * self.d
            colors = style.cloth(rng), style.cloth(rng)
            i = self.parts.instance()
            self.parts.add(shape, (x, 0.006, z), (w, 0.006, d), "rug", colors[0], RUG, instance=i, color2=colors[1])
        for _ in range(int(rng.integers(1, 4))):  # things left on the floor
            r = rng.uniform(0.08, 0.2)
            x, z = rng.uniform(-0.9, 0.9) * self.w, rng.uniform(-0.9, 0.9) * self.d
            if self._fits(x, z, r, r):
                texture = int(rng.choice([PLAIN, STRIPE, CHECK]))
                self.parts.add(
                    BALL, (x, r, z), (r, r, r), "ball", style.cloth(rng), texture, instance=self.parts.instance(),
                    scale=8, color2=gray(0.9), gloss=0.06,
                )  # fmt: skip
                self.floor.append((x - r, z - r, x + r, z + r, 2 * r))

    def _middle(self) -> None:
        """A table with chairs, or a coffee table, in the middle of the room."""
        rng = self.rng
        kind = {"living room": "coffee table", "bathroom": "stool", "bedroom": "stool"}.get(self.name, "table")
        furniture = FURNITURE[kind]
        for _ in range(12):
            x, z, yaw = rng.uniform(-0.4, 0.4) * self.w, rng.uniform(-0.4, 0.4) * self.d, rng.choice([0.0, pi / 2])
            w, d = rng.uniform(*furniture.w), rng.uniform(*furniture.d)
            if kind == "table" and rng.random() < 0.35:
                w = d
            rx, rz = (w, d) if yaw == 0 else (d, w)
            if not self._fits(x, z, rx, rz):
                continue
            self._place(kind, x, z, float(yaw), w, d)
            if kind == "table":
                for k in range(4):
                    a = yaw + k * pi / 2
                    reach = (d if k % 2 == 0 else w) + 0.12
                    cx, cz = x + sin(a) * reach, z + cos(a) * reach
                    if abs(cx) < self.w - 0.3 and abs(cz) < self.d - 0.3 and rng.random() < 0.9:
                        self._chair_at(cx, cz, float(a) + pi + rng.normal(0, 0.15))
            return

    def _chair_at(self, x: float, z: float, yaw: float) -> None:
        clear = all(x + 0.2 <= a or x - 0.2 >= c or z + 0.2 <= b or z - 0.2 >= d for a, b, c, d, _ in self.floor[:-1])
        if clear or self.rng.random() < 0.3:
            self._place("chair", x, z, yaw, 0.21, 0.21)

    def _picture(self) -> None:
        rng, parts = self.rng, self.parts
        half, tall, y = rng.uniform(0.15, 0.42), rng.uniform(0.16, 0.32), rng.uniform(1.5, 1.7)
        place = self._hang(half, y - tall, y + tall)
        if place is None:
            return
        x, z, yaw = place
        i, frame = parts.instance(), self.style.wood(rng) * 0.7 if rng.random() < 0.6 else gray(rng.choice([0.1, 0.9]))
        parts.add(BOX, (x, y, z), (half, tall, 0.02), "picture", frame, instance=i, yaw=yaw)
        inner, colors = (half - 0.03, tall - 0.03, 0.026), (self.style.cloth(rng), self.style.cloth(rng))
        parts.add(
            BOX, (x, y, z), inner, "picture", colors[0], PICTURE, instance=i, yaw=yaw, color2=colors[1], scale=1 / tall
        )  # fmt: skip


@lru_cache(maxsize=1024)
def build_room(building: int, index: int) -> Room:
    """A room of a building; the same arguments give the same room everywhere.

    Args:
        building: The building's seed.
        index: 0 .. ROOMS_PER_BUILDING - 1.
    """
    shared = generator(Stream.STYLE, building)
    style = Style(shared)
    names = shared.choice(SCENE_CLASSES, ROOMS_PER_BUILDING, replace=False, p=_SHARES)
    rng = generator(Stream.ROOM, building, index)
    return _Builder(str(names[index]), style, rng).build()
