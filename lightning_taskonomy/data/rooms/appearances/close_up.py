"""One thing, near and large, through a long lens that is focused on it: what is behind is blurred."""

from collections.abc import Callable, Mapping
from math import pi, radians, sin, tan

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_taskonomy.data.rooms.appearances import things
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sensor, Sight
from lightning_taskonomy.data.rooms.appearances.stage import Stage
from lightning_taskonomy.data.rooms.camera import Camera, look
from lightning_taskonomy.data.rooms.furniture import FURNITURE
from lightning_taskonomy.data.rooms.pieces import Piece
from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CX, CYLINDER, HX, INSTANCE
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import CHECK, FABRIC, LEAF, PLAIN, PLANKS, STRIPE, WOOD

Table = NDArray[np.float64]

_HALF, _HEIGHT = 4.5, 4.0


def _ball(p: Piece) -> None:
    texture = int(p.rng.choice([STRIPE, CHECK, PLAIN]))
    p.put(BALL, (0, 0.15, 0), (0.15, 0.15, 0.15), p.cloth(), texture, scale=14, color2=gray(0.95), gloss=0.08)


def _vase(p: Piece) -> None:
    color = p.cloth()
    p.put(CYLINDER, (0, 0.03, 0), (0.08, 0.03, 0.08), color * 0.8, gloss=0.1)
    p.put(BALL, (0, 0.2, 0), (0.14, 0.17, 0.14), color, STRIPE, scale=20, color2=color * 0.7, gloss=0.12)
    p.put(CYLINDER, (0, 0.4, 0), (0.05, 0.07, 0.05), color, gloss=0.1)


def _books(p: Piece) -> None:
    y = 0.0
    for _ in range(int(p.rng.integers(2, 5))):
        h = p.rng.uniform(0.015, 0.035)
        size = (p.rng.uniform(0.13, 0.17), h, p.rng.uniform(0.1, 0.13))
        turn = p.rng.normal(0, 0.15)
        p.put(BOX, (0, y + h, 0), size, p.cloth(), turn=turn)
        p.put(BOX, (0.01, y + h, 0), (size[0], h * 0.75, size[2] * 1.01), gray(0.92), turn=turn)
        y += 2 * h


def _piece(kind: str) -> Callable[[Piece], None]:
    return lambda p: FURNITURE[kind].build(p)


_SUBJECTS: Mapping[str, tuple[tuple[str, Callable[[Piece], None], float, float], ...]] = {
    "outside": (
        ("dog", lambda p: things.dog(p, 1), 0.1, 0.3), ("dog", lambda p: things.dog(p, 1.1), 0.1, 0.3),
        ("dog", lambda p: things.dog(p, 0.8), 0.1, 0.3), ("ball", _ball, 0.1, 0.1),
        ("rock", lambda p: things.rock(p, 1, 0.25), 0.3, 0.3), ("crate", lambda p: things.crate(p, 1, 0.5), 0.3, 0.3),
        ("can", lambda p: things.can(p, 1), 0.05, 0.05),
    ),
    "inside": (
        ("dog", lambda p: things.dog(p, 0.9), 0.1, 0.3), ("vase", _vase, 0.1, 0.1), ("book", _books, 0.15, 0.12),
        ("bottle", lambda p: things.bottle(p, 1), 0.05, 0.05), ("chair", _piece("chair"), 0.21, 0.21),
        ("plant", _piece("plant"), 0.2, 0.2), ("crate", lambda p: things.crate(p, 1, 0.4), 0.2, 0.2),
        ("ball", _ball, 0.1, 0.1),
    ),
}  # fmt: skip
"""Where, a thing of which class can be seen, how it is built, and the half sizes of its footprint."""


def _scene(building: int, index: int) -> Room:
    stage = Stage("close_up", building, index, (_HALF, _HALF), _HEIGHT)
    rng = stage.rng
    outside = rng.random() < 0.5
    if outside:
        grass = hsv(rng.uniform(0.18, 0.32), rng.uniform(0.4, 0.65), rng.uniform(0.35, 0.6))
        sky = hsv(rng.uniform(0.53, 0.6), rng.uniform(0.05, 0.4), 0.9)
        stage.shell("grass", grass, LEAF, "sky", sky, scale=30, glow=0.7)
    else:
        wood, paint = stage.style.wood(rng), stage.style.paint(rng)
        kind = int(rng.choice([PLANKS, FABRIC, WOOD]))
        stage.shell("floor", wood, kind, "wall", paint, color2=wood * 0.6, glow=0.35)
    kinds = _SUBJECTS["outside" if outside else "inside"]
    label, build, w, d = kinds[int(rng.integers(len(kinds)))]
    build(stage.piece(label, 0, 0, rng.uniform(0, 2 * pi), w, d))
    stage.take(0, 0, 0.6, 0.6)
    far = [name for name in ("chair", "sofa", "shelf", "plant", "lamp") if not outside]
    for a in np.arange(0, 2 * pi, pi / 4) + rng.uniform(0, 1):
        r = rng.uniform(2.4, 3.6)
        x, z = r * np.sin(a), r * np.cos(a)
        if outside and rng.random() < 0.7:
            things.tree(stage.piece("tree", x, z), 1, rng.uniform(1.5, 3), 2)
        elif far and rng.random() < 0.7:
            furniture = FURNITURE[str(rng.choice(far))]
            furniture.build(stage.piece(furniture.label, x, z, a + pi, furniture.w[0], furniture.d[0]))
    stage.daylight(rng.uniform(0.6, 1.1), rng.uniform(0, 2 * pi), np.full(3, rng.uniform(0.5, 1.8)), np.full(3, 0.5))
    return stage.room()


def _subject(room: Room) -> tuple[Table, float]:
    """The middle of the thing in the middle and its radius."""
    rows = room.prims[room.prims[:, INSTANCE] == room.prims[6:, INSTANCE].min()]
    center, half = rows[:, CX : CX + 3], rows[:, HX : HX + 3]
    low, high = (center - half).min(0), (center + half).max(0)
    return (low + high) / 2, float(np.linalg.norm(high - low) / 2)


def _camera(room: Room, rng: np.random.Generator) -> Camera:
    middle, radius = _subject(room)
    angle = radians(rng.uniform(24, 40)) / 2
    away = radius / (rng.uniform(0.75, 1.1) * tan(angle))
    turn, up = rng.uniform(0, 2 * pi), rng.uniform(0.08, 0.55)
    side = np.array([sin(turn), np.sin(up), np.cos(turn)])
    eye = middle + away * side / np.linalg.norm(side)
    goal = middle + rng.normal(0, 0.12, 3) * radius
    return look(eye, goal - eye, rng.normal(0, 0.05), 0.5 / tan(angle))


def _focus(light: Table, sight: Sight) -> Table:
    """Two layers behind the subject, each blurred by itself, so that the subject's colours do not run into them."""
    size = int(len(light) ** 0.5)
    middle, radius = _subject(sight.room)
    sharp = np.linalg.norm(sight.camera.eye - middle) + radius
    picture, distance = np.minimum(light, 3.0).reshape(size, size, 3), sight.distance.reshape(size, size)
    out = picture
    for start, sigma in ((1.15 * sharp, size / 90), (1.5 * sharp, size / 40)):
        behind = (distance > start).astype(float)[..., None]
        weight = ndimage.gaussian_filter(behind, (sigma, sigma, 0))
        blurred = ndimage.gaussian_filter(picture * behind, (sigma, sigma, 0)) / np.maximum(weight, 1e-6)
        out = np.where(behind > 0, blurred, out)
    return np.asarray(out.reshape(-1, 3))


APPEARANCE = Appearance(_scene, _camera, endless=("sky",), medium=_focus, sensor=Sensor(exposure=0.12, balance=0.04))
