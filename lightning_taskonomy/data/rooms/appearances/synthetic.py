"""Computer graphics without light: rooms and streets in flat, saturated colours, without shadow, texture and noise."""

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.appearances import driving
from lightning_taskonomy.data.rooms.appearances.base import Appearance, Sight
from lightning_taskonomy.data.rooms.camera import Camera, choose
from lightning_taskonomy.data.rooms.primitives import EMIT, RED
from lightning_taskonomy.data.rooms.scene import Room, build_room

Table = NDArray[np.float64]

_FIRST = 20_000_000
"""The first building of its rooms: no other appearance shows them."""
_LIGHT = np.array([0.35, 0.85, 0.4])


def _scene(building: int, index: int) -> Room:
    if (building + index) % 2:
        return build_room(_FIRST + building, index)
    return driving.street("synthetic", building, index).room()


def _camera(room: Room, rng: np.random.Generator) -> Camera:
    return choose(room, rng) if room.unit == 1 else driving.camera(room, rng)


def _flat(sight: Sight) -> Table:
    """(H * W, 3) one saturated colour per primitive, brighter where its face turns to a light from above."""
    part = sight.room.prims[sight.pixels[:, 1].astype(int)]
    color = part[:, RED : RED + 3]
    gray = color.mean(1, keepdims=True)
    vivid = np.clip(gray + 2.2 * (color - gray), 0.03, 1)
    facing = np.clip(sight.pixels[:, 5:8] @ (_LIGHT / np.linalg.norm(_LIGHT)), -0.3, 1)[:, None]
    return np.asarray(vivid * np.where(part[:, EMIT, None] > 0, 1.0, 0.7 + 0.3 * facing))


APPEARANCE = Appearance(_scene, _camera, reach=96.0, endless=("sky",), shade=_flat, sensor=None)
