"""A street between rows of houses, from a camera behind a windscreen: cars, vans, people, trees, signs, sky."""

from math import pi, radians, tan

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.appearances import things
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sensor, Sight
from lightning_taskonomy.data.rooms.appearances.stage import Stage, busiest
from lightning_taskonomy.data.rooms.camera import Camera, look
from lightning_taskonomy.data.rooms.primitives import BOX
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import BRICK, PLAIN, STRIPE, TILE

__all__ = ["camera", "street"]

Table = NDArray[np.float64]

_UNIT = 6.0
_WIDE, _LONG, _HEIGHT = 4.0, 6.5, 6.0
_ROAD, _WALK = 0.85, 1.35
"""Half width of the road, and of road and pavements, in units of 6 m."""


def _house(stage: Stage, side: int, low: float, high: float) -> None:
    """A front along the street from z = low to high, with rows of windows and a door."""
    rng = stage.rng
    front, deep, tall = _WALK + rng.uniform(0.0, 0.3), rng.uniform(0.5, 1.0), rng.uniform(0.9, 2.4)
    p = stage.piece("building", side * (front + deep), (low + high) / 2)
    brick = rng.random() < 0.4
    hue, saturation = (0.03, 0.5) if brick else (rng.uniform(0.03, 0.16), rng.uniform(0.03, 0.35))
    wall = hsv(hue + rng.normal(0, 0.01), saturation, rng.uniform(0.5, 0.85))
    half = (high - low) / 2
    texture = BRICK if brick else PLAIN
    p.put(BOX, (0, tall / 2, 0), (deep, tall / 2, half), wall, texture, color2=wall * 0.7)
    p.put(BOX, (0, tall, 0), (deep * 1.03, 0.04, half), wall * 0.5)
    glass = gray(0.16) + np.array([0.0, 0.02, 0.05])
    floors = int(tall / 0.5)
    for k in range(floors):
        y, shop = 0.3 + 0.5 * k, k == 0 and rng.random() < 0.5
        scale, color = (0.9, hsv(rng.random(), 0.5, 0.5)) if shop else (3.0, wall * 0.9)
        size = (deep, 0.17, half * 0.93)
        p.put(BOX, (-side * 0.02, y, 0), size, glass, STRIPE, scale=scale, color2=color, gloss=0.06)


def street(name: str, building: int, index: int) -> Stage:
    """A street of 78 m that runs along z.

    Args:
        name: The appearance whose random numbers it takes.
        building: The building's seed.
        index: Which of its scenes.
    """
    stage = Stage(name, building, index, (_WIDE, _LONG), _HEIGHT, _UNIT)
    rng, m, piece = stage.rng, stage.metre, stage.piece
    blue = rng.uniform(0.0, 1.0)
    sky = hsv(0.58, 0.06 + 0.5 * blue, 0.82 + 0.08 * blue)
    asphalt = gray(rng.uniform(0.28, 0.42))
    stage.shell("grass", hsv(0.25, 0.4, 0.4), PLAIN, "sky", sky, glow=0.8)
    walk = gray(rng.uniform(0.55, 0.7))
    for side in (-1, 1):
        middle, half = side * (_ROAD + _WALK) / 2, (_WALK - _ROAD) / 2
        stage.patch("pavement", middle, 0, half, _LONG, walk, TILE, top=0.025, scale=7, color2=walk * 0.8)
    stage.patch("road", 0, 0, _ROAD, _LONG, asphalt, top=0.002)
    stage.patch("road", 0, 0, _LONG, 0.012, gray(0.9), STRIPE, top=0.004, yaw=pi / 2, scale=1.5, color2=asphalt)
    for z in rng.uniform(-0.9, 0.9, 2) * _LONG:  # crossings: stripes along the street
        stage.patch("road", 0, z, _ROAD * 0.95, 0.28, gray(0.92), STRIPE, top=0.005, scale=6, color2=asphalt)
    for side in (-1, 1):
        z = -_LONG
        while z < _LONG:
            length = rng.uniform(1.0, 2.4)
            if rng.random() < 0.85:
                _house(stage, side, z, min(z + length, _LONG))
            else:
                things.tree(piece("tree", side * (_WALK + 0.6), z + length / 2), m, rng.uniform(6, 9), 3)
            z += length
        z = -_LONG + rng.uniform(0, 1)
        while z < _LONG - 0.5:  # parked, then driving on the right
            if rng.random() < 0.45:
                things.car(piece("car", side * 0.67, z, pi if side > 0 else 0.0), m)
            if rng.random() < 0.2:
                kind = "truck" if rng.random() < 0.25 else "car"
                yaw = pi if side > 0 else 0.0
                build = things.truck if kind == "truck" else things.car
                build(piece(kind, side * rng.uniform(0.24, 0.32), z + 0.4, yaw), m)
            z += rng.uniform(1.0, 1.7)
        for z in rng.uniform(-_LONG, _LONG, 7):
            things.person(piece("person", side * rng.uniform(_ROAD + 0.1, _WALK - 0.05), z, rng.uniform(0, 2 * pi)), m)
        for z in rng.uniform(-_LONG, _LONG, 5):
            x = side * (_ROAD + 0.06)
            things.pole(piece("pole", x, z, pi / 2 * (1 - side)), m)
    for z in rng.uniform(-_LONG, _LONG, 2):
        things.person(piece("person", rng.uniform(-0.5, 0.5), z, pi / 2), m)
    strength = 0.5 + 1.6 * blue
    turn = rng.uniform(0, 2 * pi)
    stage.daylight(rng.uniform(0.5, 1.1), turn, np.array([1.0, 0.93, 0.8]) * strength, np.array([0.45, 0.5, 0.6]))
    return stage


def _scene(building: int, index: int) -> Room:
    return street("driving", building, index).room()


def camera(room: Room, rng: np.random.Generator) -> Camera:
    """A view along the street from where a driver sits, on the right."""
    focal = 0.5 / tan(radians(rng.uniform(55, 75)) / 2)

    def propose() -> Camera:
        eye = np.array([rng.uniform(0.05, 0.45), rng.uniform(1.2, 1.6) / _UNIT, rng.uniform(-0.95, 0.2) * _LONG])
        way = 1.0 if rng.random() < 0.5 else -1.0
        eye[[0, 2]] *= way  # keeps to the right
        eye[0] *= -1
        forward = np.array([way * rng.normal(0, 0.08), rng.normal(-0.03, 0.02), way])
        return look(eye, forward, rng.normal(0, 0.008), focal)

    return busiest(room, propose, nearest=0.35)


def _haze(light: Table, sight: Sight) -> Table:
    """Light of the sky scattered in on the way, a tenth to a half of it over 60 m."""
    through = np.exp(-sight.rng.uniform(0.001, 0.006) * np.minimum(sight.distance, 80.0))[:, None]
    return np.asarray(light * through + np.array([0.72, 0.78, 0.85]) * (1 - through))


APPEARANCE = Appearance(
    _scene, camera, reach=16 * _UNIT, endless=("sky",), medium=_haze, sensor=Sensor(exposure=0.15, balance=0.03)
)
