"""The sea floor: rocks, corals, fish and litter in water that takes the red first and scatters its own colour.

Light L at distance d reaches the lens as L exp(-b d) + V (1 - exp(-b d)) per channel, with a veil V and an attenuation
b in 1/m that is largest for red (Akkaynak and Treibitz, A revised underwater image formation model, CVPR 2018, equation
1 without the difference of direct and backscattered b).
"""

from collections.abc import Callable
from functools import partial
from math import pi, radians, tan

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_taskonomy.data.rooms.appearances import things
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sensor, Sight
from lightning_taskonomy.data.rooms.appearances.stage import Stage, busiest
from lightning_taskonomy.data.rooms.camera import Camera, look
from lightning_taskonomy.data.rooms.pieces import Piece
from lightning_taskonomy.data.rooms.primitives import BALL, CYLINDER
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.style import hsv
from lightning_taskonomy.data.rooms.textures import PLAIN

Table = NDArray[np.float64]

_HALF, _HEIGHT = 4.5, 6.0


def _weed(stage: Stage, x: float, z: float) -> None:
    rng, p = stage.rng, stage.piece("plant", x, z)
    green = hsv(rng.uniform(0.12, 0.32), rng.uniform(0.5, 0.8), rng.uniform(0.3, 0.6))
    for _ in range(6):
        a, b, h = rng.normal(0, 0.1), rng.normal(0, 0.1), rng.uniform(0.15, 0.6)
        p.put(CYLINDER, (a, h, b), (0.022, h, 0.012), green * rng.uniform(0.8, 1.2), turn=rng.uniform(0, pi))


def _grow(
    stage: Stage, label: str, build: Callable[[Piece, float, float], None], size: float, x: float, z: float
) -> None:
    build(stage.piece(label, x, z), 1.0, size)


def _litter(stage: Stage) -> None:
    rng = stage.rng

    def piece(label: str, x: float, z: float) -> Piece:
        return stage.piece(label, x, z, rng.uniform(0, 2 * pi))

    stage.scatter(8, 0.25, 0.25, lambda x, z: things.bottle(piece("bottle", x, z), 1, True, rng.uniform(1.0, 1.7)))
    stage.scatter(6, 0.15, 0.15, lambda x, z: things.can(piece("can", x, z), 1, True, rng.uniform(1.2, 1.9)))
    stage.scatter(4, 0.35, 0.35, lambda x, z: things.crate(piece("crate", x, z), 1, rng.uniform(0.35, 0.6)))


def _scene(building: int, index: int) -> Room:
    stage = Stage("underwater", building, index, (_HALF, _HALF), _HEIGHT)
    rng = stage.rng
    sand = hsv(rng.uniform(0.09, 0.13), rng.uniform(0.15, 0.4), rng.uniform(0.55, 0.8))
    stage.shell("seabed", sand, PLAIN, "water", hsv(0.5, 0.5, 0.6))
    for _ in range(9):  # a floor that is not level
        x, z = rng.uniform(-_HALF, _HALF, 2) * 0.85
        shape = (rng.uniform(0.6, 2.0), rng.uniform(0.05, 0.22), rng.uniform(0.6, 2.0))
        stage.parts.add(BALL, (x, 0, z), shape, "seabed", sand, PLAIN, instance=1, yaw=rng.uniform(0, pi))
    piece = stage.piece
    for _ in range(7):
        size = rng.uniform(0.2, 0.6)
        stage.scatter(1, size, size, partial(_grow, stage, "rock", things.rock, size))
    for _ in range(11):
        size = rng.uniform(0.18, 0.42)
        stage.scatter(1, size, size, partial(_grow, stage, "coral", things.coral, size))
    stage.scatter(9, 0.2, 0.2, partial(_weed, stage))
    _litter(stage)
    for _ in range(5):  # a few fish of a kind that swim together
        (x, z), yaw = rng.uniform(-0.8, 0.8, 2) * _HALF, rng.uniform(0, 2 * pi)
        height, size = rng.uniform(0.5, 2.0), rng.uniform(0.12, 0.3)
        for _ in range(int(rng.integers(1, 4))):
            at = x + rng.normal(0, 0.45), z + rng.normal(0, 0.45)
            things.fish(piece("fish", *at, yaw + rng.normal(0, 0.3)), 1, height + rng.normal(0, 0.2), size)
    stage.daylight(1.2, rng.uniform(0, 2 * pi), np.array([1.0, 1.0, 1.0]), np.array([0.7, 0.75, 0.8]))
    return stage.room()


def _camera(room: Room, rng: np.random.Generator) -> Camera:
    focal = 0.5 / tan(radians(rng.uniform(60, 80)) / 2)

    def propose() -> Camera:
        eye = np.array([rng.uniform(-0.85, 0.85) * _HALF, rng.uniform(0.6, 1.6), rng.uniform(-0.85, 0.85) * _HALF])
        turn = rng.uniform(0, 2 * pi)
        forward = np.array([np.sin(turn), -rng.uniform(0.25, 0.9), np.cos(turn)])
        return look(eye, forward, rng.normal(0, 0.12), focal)

    return busiest(room, propose, nearest=0.6)


def _water(light: Table, sight: Sight) -> Table:
    rng, size = sight.rng, int(len(light) ** 0.5)
    red = rng.uniform(0.28, 0.5)
    green_sea = rng.random() < 0.5
    blue = rng.uniform(0.16, 0.26) if green_sea else rng.uniform(0.07, 0.14)
    attenuation = np.array([red, rng.uniform(0.08, 0.16), blue])
    veil = np.array([0.03, 0.36, 0.3] if green_sea else [0.02, 0.24, 0.46]) * rng.uniform(0.8, 1.3)
    x, z = sight.pixels[:, 2], sight.pixels[:, 4]
    ripple = np.sin(5 * x + 2 * np.sin(3.1 * z)) * np.sin(4.4 * z + 2 * np.sin(2.7 * x + 1))
    light = light * (1 + 0.7 * np.clip(sight.pixels[:, 6], 0, 1) * np.maximum(ripple, -0.3))[:, None]  # caustics
    through = np.exp(-attenuation * np.minimum(sight.distance, 1e3)[:, None])
    clear = np.minimum(light, 2.0) * through + veil * (1 - through)
    picture = clear.reshape(size, size, 3)
    soft = ndimage.gaussian_filter(picture, (size / 80, size / 80, 0))
    haze = 1 - through.mean(1).reshape(size, size, 1)
    return np.asarray((picture * (1 - 0.8 * haze) + soft * 0.8 * haze).reshape(-1, 3))


APPEARANCE = Appearance(
    _scene, _camera, endless=("water",), medium=_water, sensor=Sensor(level=0.4, balance=0.01, noise=1.3)
)
