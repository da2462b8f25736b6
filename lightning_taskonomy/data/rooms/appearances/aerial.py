"""Land from above: houses, roads with cars, trees, pools, seen by a camera 35 to 60 m up that looks straight down."""

from functools import partial
from math import cos, pi, radians, sin, tan

import numpy as np
from scipy.spatial.transform import Rotation

from lightning_taskonomy.data.rooms.appearances import things
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sensor
from lightning_taskonomy.data.rooms.appearances.stage import Stage, busiest
from lightning_taskonomy.data.rooms.camera import Camera
from lightning_taskonomy.data.rooms.primitives import BOX, Color
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.style import gray, hsv
from lightning_taskonomy.data.rooms.textures import LEAF, PLAIN, STRIPE, TILE

_UNIT = 8.0
_HALF, _HEIGHT = 7.5, 9.0
_TOWN = 4.8
"""Half width of what is built on: the camera stays above its middle and sees hardly more."""
_ROAD = 0.42


def _house(stage: Stage, x: float, z: float, yaw: float, w: float, d: float) -> None:
    rng = stage.rng
    p = stage.piece("building", x, z, yaw, w, d)
    h = rng.uniform(0.18, 0.55)
    wall = hsv(rng.uniform(0.05, 0.14), rng.uniform(0.02, 0.3), rng.uniform(0.6, 0.9))
    red = hsv(rng.uniform(0.0, 0.06), rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.7))
    roof = red if rng.random() < 0.6 else gray(rng.uniform(0.25, 0.75))
    p.put(BOX, (0, h, 0), (w, h, d), wall)
    if rng.random() < 0.65:  # a ridge along the longer side: boxes that narrow upward
        across, along = (w, d) if w < d else (d, w)
        for k in range(4):
            narrow, high = across * (1.08 - 0.27 * k), 2 * h + across * (0.05 + 0.13 * k)
            size = (narrow, across * 0.065, along * 1.05) if w < d else (along * 1.05, across * 0.065, narrow)
            p.put(BOX, (0, high, 0), size, roof * (0.82 + 0.08 * k), TILE, scale=9, color2=roof * 0.6)
    else:
        p.put(BOX, (0, 2 * h, 0), (w * 1.02, 0.015, d * 1.02), roof)
        p.put(BOX, (0, 2 * h, 0), (w * 0.94, 0.02, d * 0.94), roof * 0.85)
        for _ in range(int(rng.integers(1, 4))):
            at = (rng.uniform(-0.6, 0.6) * w, 2 * h + 0.04, rng.uniform(-0.6, 0.6) * d)
            p.put(BOX, at, (0.08, 0.05, 0.06), gray(rng.uniform(0.5, 0.9)))


def _road(stage: Stage, at: float, axis: int, asphalt: Color) -> None:
    """A road along z (axis 0) or x (axis 1) with pavements, a broken line and traffic."""
    rng = stage.rng

    def strip(label: str, half: float, color: Color, texture: int, top: float, scale: float, color2: Color) -> None:
        x, z, w, d = (at, 0.0, half, _HALF) if axis == 0 else (0.0, at, _HALF, half)
        stage.patch(label, x, z, w, d, color, texture, top=top, scale=scale, color2=color2)

    strip("pavement", _ROAD + 0.14, gray(0.68), TILE, 0.003, 6, gray(0.6))
    strip("road", _ROAD, asphalt, PLAIN, 0.005 + 0.001 * axis, 1, asphalt)
    strip("road", 0.012, gray(0.9), STRIPE, 0.008, 1.6, asphalt)
    half = (_ROAD + 0.14, _HALF) if axis == 0 else (_HALF, _ROAD + 0.14)
    stage.take(*((at, 0.0) if axis == 0 else (0.0, at)), *half)
    along = -_TOWN + rng.uniform(0, 1)
    while along < _TOWN:
        side = rng.choice([-0.2, 0.2])
        x, z = (at + side, along) if axis == 0 else (along, at + side)
        kind = "truck" if rng.random() < 0.12 else "car"
        yaw = (0.0 if side > 0 else pi) + axis * pi / 2
        if all(abs(x - a) + abs(z - b) > 0.7 for a, b in stage.cars):
            stage.cars.append((x, z))
            piece = stage.piece(kind, x, z, yaw)
            things.truck(piece, stage.metre) if kind == "truck" else things.car(piece, stage.metre, far=True)
        along += rng.uniform(0.75, 3.2)


def _parking(stage: Stage, x: float, z: float) -> None:
    stage.patch("road", x, z, 0.95, 0.62, gray(0.42), STRIPE, top=0.004, scale=3, color2=gray(0.45))
    for k in range(5):
        if stage.rng.random() < 0.75:
            yaw = float(stage.rng.choice([0.0, pi]))
            things.car(stage.piece("car", x - 0.72 + 0.36 * k, z, yaw), stage.metre, far=True)


def _pool(stage: Stage, x: float, z: float) -> None:
    w, d = stage.rng.uniform(0.25, 0.45), stage.rng.uniform(0.18, 0.3)
    stage.patch("pavement", x, z, w + 0.1, d + 0.1, gray(0.8), TILE, scale=8, color2=gray(0.7))
    stage.patch("water", x, z, w, d, hsv(0.52, 0.6, 0.85), top=0.006)


def _scene(building: int, index: int) -> Room:
    stage = Stage("aerial", building, index, (_HALF, _HALF), _HEIGHT, _UNIT)
    rng = stage.rng
    grass = hsv(rng.uniform(0.16, 0.3), rng.uniform(0.25, 0.5), rng.uniform(0.35, 0.55))
    stage.shell("grass", grass, LEAF, "sky", np.array([0.7, 0.8, 0.95]), scale=0.8)
    asphalt = gray(rng.uniform(0.3, 0.45))
    for axis in (0, 1):
        for at in np.arange(-_TOWN + rng.uniform(0.3, 2.2), _TOWN, rng.uniform(3.6, 4.6)):
            _road(stage, float(at), axis, asphalt)
    town = (-_TOWN, -_TOWN, _TOWN, _TOWN)
    stage.scatter(2, 0.95, 0.62, partial(_parking, stage), within=town, margin=0.05)
    for _ in range(60):
        w, d, turn = rng.uniform(0.4, 0.75), rng.uniform(0.4, 0.75), rng.normal(0, 0.12)
        reach = w * abs(cos(turn)) + d * abs(sin(turn)), d * abs(cos(turn)) + w * abs(sin(turn))
        stage.scatter(1, *reach, partial(_house, stage, yaw=turn, w=w, d=d), within=town, margin=0.05)
    stage.scatter(4, 0.5, 0.4, partial(_pool, stage), within=town)
    stage.scatter(
        24,
        0.3,
        0.3,
        lambda x, z: things.tree(stage.piece("tree", x, z), stage.metre, rng.uniform(4, 8), 2),
        within=town,
        margin=-0.08,
    )
    stage.daylight(rng.uniform(0.6, 1.1), rng.uniform(0, 2 * pi), np.array([1.7, 1.6, 1.4]), np.array([0.35, 0.4, 0.5]))
    return stage.room()


def _camera(room: Room, rng: np.random.Generator) -> Camera:
    focal = 0.5 / tan(radians(rng.uniform(45, 60)) / 2)

    def propose() -> Camera:
        (x, z), height = rng.uniform(-0.35, 0.35, 2) * _TOWN, rng.uniform(35, 60) / _UNIT
        eye = np.array([x, height, z])
        turn, tilt = rng.uniform(0, 2 * pi), rng.normal(0, radians(2.5), 2)
        right, down = np.array([cos(turn), 0, sin(turn)]), np.array([-sin(turn), 0, cos(turn)])
        axes = np.stack([right, down, np.array([0.0, -1, 0])])
        return Camera(eye, Rotation.from_euler("xy", tilt).as_matrix() @ axes, focal)

    return busiest(room, propose)


APPEARANCE = Appearance(_scene, _camera, reach=16 * _UNIT, sensor=Sensor(level=0.5, balance=0.04))
