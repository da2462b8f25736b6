"""What people take pictures of: gardens with people, dogs and picnics, and rooms; any lens, any exposure, any light."""

from dataclasses import replace
from functools import partial
from math import pi, radians, tan

import numpy as np

from lightning_taskonomy.data.rooms.appearances import things
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sensor
from lightning_taskonomy.data.rooms.appearances.stage import Stage, busiest
from lightning_taskonomy.data.rooms.camera import Camera, choose, look
from lightning_taskonomy.data.rooms.furniture import FURNITURE
from lightning_taskonomy.data.rooms.primitives import BALL, BOX
from lightning_taskonomy.data.rooms.scene import Room, build_room
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import BRICK, CHECK, LEAF, STRIPE, TILE

_FIRST = 10_000_000
"""The first building of its rooms: no other appearance shows them."""
_WIDE, _LONG, _HEIGHT = 6.0, 6.5, 7.0
_PERSON, _DOG = 1.9, 0.8


def _ball(stage: Stage, x: float, z: float) -> None:
    r, p = stage.rng.uniform(0.1, 0.22), stage.piece("ball", x, z)
    p.put(BALL, (0, r, 0), (r, r, r), p.cloth(), int(stage.rng.choice([STRIPE, CHECK])), scale=8, color2=gray(0.95))


def _furniture(stage: Stage, kind: str, x: float, z: float) -> None:
    furniture, rng = FURNITURE[kind], stage.rng
    w, d = furniture.w[1], furniture.d[1]
    furniture.build(stage.piece(furniture.label, x, z, rng.uniform(0, 2 * pi), w, d))


def _garden(building: int, index: int) -> Room:
    stage = Stage("consumer", building, index, (_WIDE, _LONG), _HEIGHT)
    rng, piece = stage.rng, stage.piece
    grass = hsv(rng.uniform(0.2, 0.32), rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.6))
    sky = hsv(rng.uniform(0.53, 0.6), rng.uniform(0.05, 0.55), 0.9)
    stage.shell("grass", grass, LEAF, "sky", sky, scale=25, glow=0.8)
    at = rng.uniform(-0.6, 0.6) * _WIDE
    stage.patch("pavement", at, 0, rng.uniform(0.5, 0.9), _LONG, gray(0.72), TILE, scale=2, color2=gray(0.55))
    for side in (-1, 1):  # a house or a hedge at the end of the garden
        p = piece("building", rng.uniform(-0.4, 0.4) * _WIDE, side * (_LONG + 0.2))
        wall, half = hsv(rng.uniform(0.0, 0.14), rng.uniform(0.05, 0.45), rng.uniform(0.6, 0.9)), rng.uniform(2, 4)
        p.put(BOX, (0, 1.5, 0), (half, 1.5, 1.0), wall, int(rng.choice([0, BRICK])), color2=wall * 0.7)
        p.put(BOX, (0, 3.0, 0), (half * 1.05, 0.12, 1.15), wall * 0.5)
        glass = np.array([0.15, 0.2, 0.28])
        p.put(BOX, (0, 1.5, 0), (half * 0.8, 0.5, 1.02), glass, STRIPE, scale=0.5, color2=wall * 0.95)
    for x in (-1, 1):
        for z in np.arange(-_LONG + 1, _LONG, 2.2):
            if rng.random() < 0.7:
                height, near = rng.uniform(2.5, 4.5), x * (_WIDE - 0.8)
                things.tree(piece("tree", near, z + rng.normal(0, 0.3)), 1, height, 3)
                stage.take(near, z, 0.6, 0.6, height)
    if rng.random() < 0.4:
        stage.scatter(1, 1.2, 2.3, lambda x, z: things.car(piece("car", x, z, rng.choice([0.0, pi])), 1), height=1.5)
    turn = 2 * pi
    stage.scatter(
        2, 0.9, 0.9, lambda x, z: things.bench(piece("bench", x, z, rng.choice([0, pi / 2, -pi / 2])), 1), height=0.9
    )
    stage.scatter(1, 0.9, 0.9, partial(_furniture, stage, "table"), height=1.0)
    for kind in ("chair", "plant", "stool"):
        stage.scatter(2, 0.35, 0.35, partial(_furniture, stage, kind), height=1.0)
    stage.scatter(
        6, 0.3, 0.3, lambda x, z: things.person(piece("person", x, z, rng.uniform(0, turn)), 1), height=_PERSON
    )
    stage.scatter(3, 0.4, 0.4, lambda x, z: things.dog(piece("dog", x, z, rng.uniform(0, turn)), 1), height=_DOG)
    stage.scatter(3, 0.2, 0.2, partial(_ball, stage), height=0.4)
    warm = rng.uniform(0, 1)
    sun = np.array([1.0, 0.95 - 0.2 * warm, 0.85 - 0.4 * warm]) * rng.uniform(1.0, 2.4)
    stage.daylight(rng.uniform(0.35, 1.1), rng.uniform(0, turn), sun, np.array([0.4, 0.45, 0.55]))
    return stage.room()


def _scene(building: int, index: int) -> Room:
    return build_room(_FIRST + building, index) if (building + index) % 3 == 0 else _garden(building, index)


def _camera(room: Room, rng: np.random.Generator) -> Camera:
    focal = 0.5 / tan(radians(rng.choice([rng.uniform(38, 55), rng.uniform(60, 90)])) / 2)
    if room.scene_class >= 0:
        return replace(choose(room, rng), focal=focal)

    goals = room.footprints[(room.footprints[:, 4] > 0.7) & (room.footprints[:, 4] < 2)]
    wanted = np.where(np.isin(goals[:, 4], (_PERSON, _DOG)), 4.0, 1.0)

    def propose() -> Camera:
        low_x, low_z, high_x, high_z, tall = goals[rng.choice(len(goals), p=wanted / wanted.sum())]
        goal = np.array([(low_x + high_x) / 2, min(0.6 * tall, 1.3), (low_z + high_z) / 2])
        turn, away = rng.uniform(0, 2 * pi), rng.uniform(1.6, 4.5)
        eye = np.array([goal[0] + away * np.sin(turn), rng.uniform(1.1, 1.7), goal[2] + away * np.cos(turn)])
        eye[[0, 2]] = np.clip(eye[[0, 2]], [-0.7 * _WIDE, -0.75 * _LONG], [0.7 * _WIDE, 0.75 * _LONG])
        return look(eye, goal - eye + rng.normal(0, 0.15, 3), rng.normal(0, 0.06), focal)

    return busiest(room, propose, nearest=1.0)


APPEARANCE = Appearance(
    _scene, _camera, reach=32.0, endless=("sky",), sensor=Sensor(level=0.5, exposure=0.25, balance=0.09, noise=1.6)
)
