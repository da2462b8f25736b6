"""Furniture, each piece put together from primitives in its own frame: x along its width, z towards the room."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np

from lightning_taskonomy.data.rooms.pieces import Piece, clutter
from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CYLINDER, ROLL
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import BOOKS, CHECK, FABRIC, LEAF, MARBLE, STRIPE, WOOD

__all__ = ["FURNITURE", "Furniture"]


def _table(p: Piece) -> None:
    h, wood = p.rng.uniform(0.68, 0.78), p.wood()
    if abs(p.w - p.d) < 0.12:
        p.put(CYLINDER, (0, h, 0), (p.w, 0.02, p.d), wood, WOOD, gloss=0.12)
        p.put(CYLINDER, (0, h / 2, 0), (0.06, h / 2, 0.06), wood * 0.7)
        p.put(CYLINDER, (0, 0.02, 0), (0.3, 0.02, 0.3), wood * 0.7)
    else:
        p.put(BOX, (0, h, 0), (p.w, 0.022, p.d), wood, WOOD, gloss=0.12)
        p.put(BOX, (0, h - 0.06, 0), (p.w - 0.06, 0.04, p.d - 0.06), wood * 0.85)
        p.legs(h, 0.03, 0.05, wood * 0.8)
    clutter(p, h + 0.022, p.w * 0.8, p.d * 0.8, int(p.rng.integers(2, 6)))


def _coffee_table(p: Piece) -> None:
    wood = p.wood()
    if p.rng.random() < 0.4:
        p.put(CYLINDER, (0, 0.4, 0), (p.w, 0.02, p.d), wood, WOOD, gloss=0.15)
        p.legs(0.4, 0.02, p.w * 0.4, wood * 0.7, CYLINDER)
    else:
        p.put(BOX, (0, 0.42, 0), (p.w, 0.02, p.d), wood, WOOD, gloss=0.15)
        p.put(BOX, (0, 0.15, 0), (p.w - 0.05, 0.012, p.d - 0.05), wood * 0.9, WOOD)
        p.legs(0.42, 0.025, 0.04, wood * 0.8)
    clutter(p, 0.44, p.w * 0.7, p.d * 0.7, int(p.rng.integers(1, 4)))


def _desk(p: Piece) -> None:
    wood, h = p.wood(), 0.73
    p.put(BOX, (0, h, 0), (p.w, 0.02, p.d), wood, WOOD, gloss=0.08)
    p.put(BOX, (p.w - 0.22, 0.36, 0), (0.2, 0.36, p.d - 0.04), wood * 0.95, WOOD)
    for y in (0.15, 0.38, 0.6):
        p.put(BOX, (p.w - 0.22, y, p.d - 0.03), (0.18, 0.09, 0.012), np.minimum(wood * 1.1, 1), WOOD)
        p.put(BALL, (p.w - 0.22, y, p.d), (0.018, 0.018, 0.018), gray(0.75), gloss=0.2)
    for z in (-1, 1):
        p.put(BOX, (-p.w + 0.04, h / 2, z * (p.d - 0.05)), (0.025, h / 2, 0.025), wood * 0.8)
    screen = p.other("tv")
    x = p.rng.uniform(-0.4, 0.1) * p.w
    screen.put(BOX, (x, h + 0.36, -p.d * 0.4), (0.28, 0.17, 0.015), gray(0.05), gloss=0.25)
    screen.put(BOX, (x, h + 0.36, -p.d * 0.4 + 0.01), (0.265, 0.155, 0.01), hsv(p.rng.random(), 0.5, 0.45), emit=0.5)
    screen.put(CYLINDER, (x, h + 0.1, -p.d * 0.45), (0.02, 0.1, 0.02), gray(0.2))
    screen.put(CYLINDER, (x, h + 0.03, -p.d * 0.45), (0.1, 0.01, 0.08), gray(0.2))
    if p.rng.random() < 0.6:
        _table_lamp(p.other("lamp"), -p.w * 0.75, h + 0.02, -p.d * 0.3)
    clutter(p, h + 0.02, p.w * 0.85, p.d * 0.5, int(p.rng.integers(1, 4)))


def _table_lamp(p: Piece, x: float, y: float, z: float) -> None:
    color = p.cloth()
    p.put(BALL, (x, y + 0.1, z), (0.07, 0.1, 0.07), color, gloss=0.1)
    p.put(CYLINDER, (x, y + 0.25, z), (0.012, 0.08, 0.012), gray(0.4))
    p.put(CYLINDER, (x, y + 0.38, z), (0.12, 0.09, 0.12), np.array([1, 0.92, 0.75]), emit=0.7)


def _chair(p: Piece) -> None:
    wood, cloth, kind = p.wood(), p.cloth(), p.rng.random()
    p.put(BOX, (0, 0.45, 0), (p.w, 0.03, p.d), cloth, FABRIC)
    if kind < 0.4:
        p.put(BOX, (0, 0.72, -p.d + 0.02), (p.w, 0.24, 0.02), cloth, FABRIC)
        p.legs(0.45, 0.018, 0.03, wood * 0.7, CYLINDER)
    elif kind < 0.75:
        for x in (-1, 1):
            p.put(BOX, (x * (p.w - 0.02), 0.68, -p.d + 0.02), (0.02, 0.26, 0.02), wood)
        for y in (0.62, 0.76, 0.9):
            p.put(BOX, (0, y, -p.d + 0.02), (p.w, 0.035, 0.014), wood, WOOD)
        p.legs(0.45, 0.02, 0.03, wood)
    else:
        p.put(ROLL, (0, 0.78, -p.d + 0.04), (p.w, 0.22, 0.05), cloth, FABRIC)
        p.put(CYLINDER, (0, 0.25, 0), (0.03, 0.2, 0.03), gray(0.35), gloss=0.2)
        p.put(CYLINDER, (0, 0.04, 0), (0.24, 0.03, 0.24), gray(0.25))


def _stool(p: Piece) -> None:
    p.put(CYLINDER, (0, 0.22, 0), (p.w, 0.2, p.d), p.cloth(), FABRIC)
    p.put(BALL, (0, 0.42, 0), (p.w, 0.05, p.d), p.cloth(), FABRIC)


def _sofa(p: Piece) -> None:
    cloth, w, round_arms = p.cloth(), p.w, p.rng.random() < 0.5
    arm = min(0.1, 0.25 * w)
    p.put(BOX, (0, 0.22, 0), (w, 0.17, p.d), cloth, FABRIC)
    p.put(BOX, (0, 0.55, -p.d + 0.1), (w, 0.28, 0.1), cloth, FABRIC)
    if round_arms:
        p.put(ROLL, (0, 0.82, -p.d + 0.1), (w, 0.07, 0.11), cloth * 1.03, FABRIC)
    for s in (-1, 1):
        p.put(BOX, (s * (w - arm), 0.44, 0), (arm, 0.16, p.d), cloth * 0.95, FABRIC)
        if round_arms:
            p.put(ROLL, (s * (w - arm), 0.6, 0), (p.d, 0.06, arm * 1.1), cloth, FABRIC, turn=pi / 2)
    count = max(1, round(w / 0.45))
    for k in range(count):
        x = (-1 + (2 * k + 1) / count) * (w - 2 * arm)
        p.put(BOX, (x, 0.44, 0.06), ((w - 2 * arm) / count - 0.008, 0.07, p.d - 0.1), cloth * 1.1, FABRIC)
    for _ in range(int(p.rng.integers(1, 4))):
        x, texture = p.rng.uniform(-0.7, 0.7) * (w - 0.2), p.rng.choice([CHECK, STRIPE, FABRIC])
        at, size = (x, 0.64, -p.d + 0.3), (0.19, 0.16, 0.085)
        p.put(BALL, at, size, p.cloth(), int(texture), scale=14, color2=p.cloth(), turn=p.rng.uniform(-0.3, 0.3))


def _bed(p: Piece) -> None:
    w, d, wood, cover = p.w, p.d, p.wood(), p.cloth()
    p.put(BOX, (0, 0.17, 0), (w, 0.15, d), wood, WOOD)
    p.put(BOX, (0, 0.4, 0.02), (w * 0.97, 0.1, d * 0.97), gray(0.92), FABRIC)
    texture = int(p.rng.choice([FABRIC, STRIPE, CHECK]))
    p.put(BOX, (0, 0.42, 0.3 * d), (w, 0.11, d * 0.68), cover, texture, scale=5, color2=p.cloth())
    p.put(ROLL, (0, 0.5, -0.34 * d), (w * 0.98, 0.05, 0.07), cover * 1.1, FABRIC)
    if p.rng.random() < 0.5:
        p.put(BOX, (0, 0.55, -d + 0.03), (w, 0.55, 0.03), wood, WOOD)
    else:
        p.put(BOX, (0, 0.5, -d + 0.05), (w, 0.5, 0.05), p.cloth(), FABRIC)
    for s in (-0.5, 0.5):
        p.put(BALL, (s * w, 0.57, -d + 0.32), (0.3 * w + 0.08, 0.1, 0.19), gray(0.95), FABRIC)
    p.put(BALL, (p.rng.uniform(-0.3, 0.3) * w, 0.61, -d + 0.52), (0.2, 0.13, 0.1), p.cloth(), FABRIC)


def _nightstand(p: Piece) -> None:
    wood = p.wood()
    p.put(BOX, (0, 0.27, 0), (p.w, 0.27, p.d), wood, WOOD)
    for y in (0.15, 0.39):
        p.put(BOX, (0, y, p.d), (p.w - 0.02, 0.1, 0.01), np.minimum(wood * 1.15, 1), WOOD)
        p.put(BALL, (0, y, p.d + 0.02), (0.018, 0.018, 0.018), gray(0.7), gloss=0.2)
    _table_lamp(p.other("lamp"), 0, 0.54, 0)


def _cabinet(p: Piece) -> None:
    h, color = p.rng.uniform(0.36, 0.6), p.wood() if p.rng.random() < 0.7 else p.style.paint(p.rng)
    doors = max(1, round(p.w * 2 / 0.45))
    p.put(BOX, (0, h, 0), (p.w, h, p.d), color, WOOD, gloss=0.05)
    for k in range(doors):
        x = -p.w + (k + 0.5) * 2 * p.w / doors
        p.put(BOX, (x, h, p.d), (p.w / doors - 0.015, h - 0.035, 0.012), np.minimum(color * 1.12, 1), WOOD)
        p.put(BALL, (x + 0.7 * p.w / doors, h, p.d + 0.03), (0.02, 0.02, 0.02), gray(0.72), gloss=0.2)
    clutter(p, 2 * h, p.w * 0.85, p.d * 0.8, int(p.rng.integers(2, 6)))


def _wardrobe(p: Piece) -> None:
    h, color = p.rng.uniform(0.9, 1.05), p.wood()
    doors = max(2, round(p.w * 2 / 0.5))
    p.put(BOX, (0, h, 0), (p.w, h, p.d), color * 0.9, WOOD)
    for k in range(doors):
        x = -p.w + (k + 0.5) * 2 * p.w / doors
        p.put(BOX, (x, h, p.d), (p.w / doors - 0.01, h - 0.04, 0.012), color, WOOD)
        side = 0.75 if k % 2 == 0 else -0.75
        p.put(CYLINDER, (x + side * p.w / doors, h, p.d + 0.03), (0.012, 0.12, 0.012), gray(0.7), gloss=0.2)


def _counter(p: Piece) -> None:
    w, color = p.w, p.style.paint(p.rng) if p.rng.random() < 0.6 else p.wood()
    doors = max(2, round(w * 2 / 0.5))
    p.put(BOX, (0, 0.43, 0), (w, 0.43, p.d - 0.03), color)
    p.other("table").put(BOX, (0, 0.88, 0), (w + 0.01, 0.022, p.d), gray(p.rng.uniform(0.4, 0.95)), MARBLE, gloss=0.15)
    wall = p.other("cabinet")
    wall.put(BOX, (0, 1.75, -p.d + 0.17), (w, 0.33, 0.17), color)
    for k in range(doors):
        x = -w + (k + 0.5) * 2 * w / doors
        p.put(BOX, (x, 0.45, p.d - 0.03), (w / doors - 0.012, 0.38, 0.012), np.minimum(color * 1.06, 1))
        p.put(ROLL, (x, 0.78, p.d), (0.08, 0.01, 0.012), gray(0.7), gloss=0.2)
        wall.put(BOX, (x, 1.75, -p.d + 0.34), (w / doors - 0.012, 0.31, 0.01), np.minimum(color * 1.06, 1))
    sink, x = p.other("sink"), p.rng.uniform(-0.5, 0.5) * w
    sink.put(CYLINDER, (x, 0.9, 0.02), (0.2, 0.015, 0.16), gray(0.75), gloss=0.25)
    sink.put(CYLINDER, (x, 1.02, -p.d + 0.1), (0.015, 0.12, 0.015), gray(0.8), gloss=0.3)
    sink.put(BOX, (x, 1.13, -p.d + 0.17), (0.012, 0.012, 0.08), gray(0.8), gloss=0.3)
    clutter(p, 0.902, w * 0.9, p.d * 0.7, int(p.rng.integers(3, 8)))


def _fridge(p: Piece) -> None:
    color = gray(p.rng.uniform(0.6, 0.95))
    p.put(BOX, (0, 0.9, 0), (p.w, 0.9, p.d), color, gloss=0.08)
    for y, h in ((0.58, 0.55), (1.47, 0.31)):
        p.put(BOX, (0, y, p.d), (p.w - 0.005, h, 0.02), color, gloss=0.08)
        p.put(CYLINDER, (-p.w + 0.06, y + h * 0.4, p.d + 0.05), (0.012, 0.14, 0.012), gray(0.6), gloss=0.2)


def _shelf(p: Piece) -> None:
    h, wood = p.rng.uniform(0.75, 1.05), p.wood()
    rows = int(p.rng.integers(4, 6))
    p.put(BOX, (0, h, -p.d + 0.01), (p.w, h, 0.01), wood * 0.8, WOOD)
    for s in (-1, 1):
        p.put(BOX, (s * p.w, h, 0), (0.015, h, p.d), wood, WOOD)
    for k in range(rows + 1):
        y = 0.02 + k * (2 * h - 0.04) / rows
        p.put(BOX, (0, y, 0), (p.w, 0.014, p.d), wood, WOOD)
        if k < rows and p.rng.random() < 0.85:
            height = min(p.rng.uniform(0.1, 0.14), h / rows - 0.03)
            half = (p.w - 0.02) * p.rng.uniform(0.5, 1.0)
            at = ((p.w - 0.02 - half) * p.rng.choice([-1, 1]), y + 0.014 + height, -0.01)
            p.other("book").put(BOX, at, (half, height, p.d * 0.72), p.cloth(), BOOKS)
        elif k < rows:
            r = min(0.09, h / rows - 0.04)
            p.other("ball").put(
                BALL, (p.rng.uniform(-0.5, 0.5) * p.w, y + 0.014 + r, 0), (r, r, r), p.cloth(), gloss=0.1
            )


def _lamp(p: Piece) -> None:
    h, r = p.rng.uniform(1.3, 1.6), p.rng.uniform(0.15, 0.2)
    p.put(CYLINDER, (0, h / 2, 0), (0.015, h / 2, 0.015), gray(0.2))
    p.put(CYLINDER, (0, 0.015, 0), (0.15, 0.015, 0.15), gray(0.2))
    if p.rng.random() < 0.5:
        p.put(CYLINDER, (0, h + 0.12, 0), (r, 0.14, r), np.array([1, 0.93, 0.78]), emit=0.75)
    else:
        p.put(BALL, (0, h + 0.12, 0), (r, r, r), np.array([1, 0.93, 0.78]), emit=0.75)
    p.room.lamp(p.world(0, h + 0.32, 0), 0.12, np.array([1, 0.86, 0.65]) * 0.6)


def _plant(p: Piece) -> None:
    rng, r, tall = p.rng, p.w * 0.55, p.rng.uniform(0.5, 1.1)
    p.put(CYLINDER, (0, 0.17, 0), (r, 0.17, r), p.cloth(), STRIPE, scale=10, color2=p.cloth())
    p.put(CYLINDER, (0, 0.4, 0), (0.02, 0.25, 0.02), hsv(0.08, 0.5, 0.4))
    for _ in range(int(rng.integers(8, 14))):
        s = rng.uniform(0.09, 0.2)
        a, q = rng.uniform(0, 2 * pi), rng.uniform(0, 0.75) * p.w
        at, size = (q * cos(a), 0.45 + rng.uniform(0, tall), q * sin(a)), (s * 0.9, s, s * 0.55)
        color = hsv(rng.uniform(0.22, 0.36), rng.uniform(0.5, 0.75), rng.uniform(0.35, 0.65))
        p.put(BALL, at, size, color, LEAF, scale=22, turn=rng.uniform(0, pi))


def _tv(p: Piece) -> None:
    wood = p.wood()
    p.put(BOX, (0, 0.24, 0), (p.w, 0.24, p.d), wood, WOOD)
    for s in (-0.5, 0.5):
        p.put(BOX, (s * p.w, 0.24, p.d), (p.w * 0.46, 0.19, 0.01), np.minimum(wood * 1.12, 1), WOOD)
    w = p.w * 0.85
    screen = p.other("tv")
    screen.put(BOX, (0, 0.56 + w * 0.6, -0.05), (w, w * 0.57, 0.025), gray(0.03), gloss=0.3)
    screen.put(BOX, (0, 0.5, -0.05), (0.14, 0.06, 0.08), gray(0.06))
    clutter(p, 0.48, p.w * 0.95, p.d * 0.4, 2)


def _toilet(p: Piece) -> None:
    white = gray(0.94)
    p.put(CYLINDER, (0, 0.19, 0.08), (0.16, 0.19, 0.22), white, gloss=0.12)
    p.put(CYLINDER, (0, 0.38, 0.08), (0.2, 0.03, 0.26), white, gloss=0.12)
    p.put(BALL, (0, 0.41, 0.08), (0.2, 0.04, 0.26), white, gloss=0.12)
    p.put(BOX, (0, 0.56, -p.d + 0.1), (0.2, 0.2, 0.09), white, gloss=0.12)
    p.put(CYLINDER, (0, 0.765, -p.d + 0.1), (0.03, 0.01, 0.03), gray(0.7), gloss=0.2)


def _basin(p: Piece) -> None:
    p.put(BOX, (0, 0.4, -0.01), (p.w, 0.4, p.d - 0.02), p.style.paint(p.rng) if p.rng.random() < 0.5 else p.wood())
    for s in (-0.5, 0.5):
        p.put(BOX, (s * p.w, 0.42, p.d - 0.03), (p.w * 0.47, 0.35, 0.012), gray(0.9))
    sink = p.other("sink")
    sink.put(BALL, (0, 0.84, 0.02), (p.w * 0.85, 0.1, p.d * 0.9), gray(0.95), gloss=0.15)
    sink.put(CYLINDER, (0, 0.95, -p.d + 0.06), (0.015, 0.12, 0.015), gray(0.75), gloss=0.3)
    sink.put(ROLL, (0, 1.06, -p.d + 0.1), (0.015, 0.012, 0.06), gray(0.75), gloss=0.3, turn=pi / 2)
    mirror = p.other("picture")
    mirror.put(BOX, (0, 1.5, -p.d + 0.01), (p.w, 0.42, 0.012), np.array([0.65, 0.72, 0.76]), gloss=0.75)
    clutter(p, 0.8, p.w * 0.95, p.d * 0.9, 2)


def _tub(p: Piece) -> None:
    p.put(BOX, (0, 0.26, 0), (p.w, 0.26, p.d), gray(0.93), gloss=0.12)
    p.put(CYLINDER, (0, 0.53, 0), (p.w * 0.92, 0.02, p.d * 0.88), gray(0.8), gloss=0.25)
    p.put(CYLINDER, (-p.w + 0.1, 0.65, -p.d + 0.1), (0.015, 0.13, 0.015), gray(0.75), gloss=0.3)


def _washer(p: Piece) -> None:
    p.put(BOX, (0, 0.43, 0), (p.w, 0.43, p.d), gray(0.92), gloss=0.08)
    p.put(BALL, (0, 0.42, p.d), (0.19, 0.19, 0.05), np.array([0.25, 0.3, 0.36]), gloss=0.25)
    p.put(BOX, (0, 0.77, p.d), (p.w - 0.03, 0.05, 0.008), gray(0.55))
    clutter(p, 0.86, p.w * 0.8, p.d * 0.7, 3)


@dataclass(frozen=True)
class Furniture:
    """A kind of furniture: how to build it, its class, and the ranges of its half width, half depth, and its height."""

    build: Callable[[Piece], None]
    label: str
    w: tuple[float, float]
    d: tuple[float, float]
    height: float


FURNITURE: Mapping[str, Furniture] = {
    "table": Furniture(_table, "table", (0.5, 0.85), (0.42, 0.55), 0.9),
    "coffee table": Furniture(_coffee_table, "table", (0.4, 0.6), (0.28, 0.4), 0.6),
    "desk": Furniture(_desk, "table", (0.6, 0.8), (0.3, 0.38), 1.3),
    "chair": Furniture(_chair, "chair", (0.2, 0.24), (0.2, 0.24), 1.0),
    "stool": Furniture(_stool, "chair", (0.18, 0.28), (0.18, 0.28), 0.5),
    "armchair": Furniture(_sofa, "sofa", (0.4, 0.48), (0.38, 0.42), 0.9),
    "sofa": Furniture(_sofa, "sofa", (0.75, 1.1), (0.4, 0.45), 0.9),
    "bed": Furniture(_bed, "bed", (0.5, 0.85), (0.98, 1.05), 1.1),
    "nightstand": Furniture(_nightstand, "cabinet", (0.2, 0.26), (0.2, 0.24), 1.05),
    "cabinet": Furniture(_cabinet, "cabinet", (0.4, 0.8), (0.22, 0.28), 1.35),
    "wardrobe": Furniture(_wardrobe, "cabinet", (0.45, 0.9), (0.28, 0.32), 2.1),
    "counter": Furniture(_counter, "cabinet", (0.7, 1.4), (0.32, 0.34), 2.1),
    "fridge": Furniture(_fridge, "cabinet", (0.3, 0.36), (0.32, 0.36), 1.8),
    "shelf": Furniture(_shelf, "shelf", (0.35, 0.6), (0.15, 0.19), 2.1),
    "lamp": Furniture(_lamp, "lamp", (0.17, 0.2), (0.17, 0.2), 1.9),
    "plant": Furniture(_plant, "plant", (0.24, 0.36), (0.24, 0.36), 1.7),
    "tv": Furniture(_tv, "cabinet", (0.55, 0.8), (0.2, 0.24), 1.7),
    "toilet": Furniture(_toilet, "toilet", (0.22, 0.24), (0.34, 0.36), 0.8),
    "basin": Furniture(_basin, "cabinet", (0.32, 0.45), (0.22, 0.26), 2.0),
    "tub": Furniture(_tub, "sink", (0.7, 0.85), (0.34, 0.4), 0.8),
    "washer": Furniture(_washer, "cabinet", (0.3, 0.32), (0.28, 0.32), 1.2),
}
