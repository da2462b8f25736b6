"""What scenes under the open sky or water are built from: ground, horizon, sun, places for things, and cameras."""

from collections.abc import Callable
from math import atan2, cos, sin

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.camera import Camera
from lightning_taskonomy.data.rooms.pieces import Piece
from lightning_taskonomy.data.rooms.primitives import BOX, CLASS, INSTANCE, Color, Primitives
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.seeds import Stream, generator
from lightning_taskonomy.data.rooms.shading import geometry
from lightning_taskonomy.data.rooms.style import Style
from lightning_taskonomy.tasks.catalog.rooms import CLASSES, STUFF

__all__ = ["Stage", "busiest"]

Table = NDArray[np.float64]

_STUFF = [CLASSES.index(name) for name in STUFF]
_PROBE, _TRIES = 16, 6
_FAR = 1000.0


class Stage:
    """A scene that is being set up: a floor, five sides that are the horizon, things on the floor.

    Args:
        name: The appearance's name, whose random numbers these are.
        building: The building's seed; its scenes share a style.
        index: Which of its scenes.
        half: Half width and half depth of the floor, in units of the scene.
        height: Height of the space above it.
        unit: Metres per unit.
    """

    def __init__(
        self, name: str, building: int, index: int, half: tuple[float, float], height: float, unit: float = 1.0
    ) -> None:
        self.style = Style(generator(Stream.STYLE, building, appearance=name))
        self.rng = generator(Stream.ROOM, building, index, appearance=name)
        self.size = np.array([half[0], height, half[1]])
        self.parts = Primitives(self.rng)
        self.unit, self.metre = unit, 1 / unit
        self.taken: list[tuple[float, float, float, float, float]] = []
        self.cars: list[tuple[float, float]] = []
        self._sun = np.array([0.0, 1, 0, 0, 0, 0])

    def shell(
        self, ground: str, color: Color, texture: int, sides: str, sky: Color, *, scale: float = 1.0,
        color2: Color | None = None, glow: float = 1.0,
    ) -> None:  # fmt: skip
        """The floor of a class and colour, and the sides and the top, which shine by themselves."""
        (w, h, d), parts = self.size, self.parts
        i = parts.instance()
        parts.add(BOX, (0, 0, 0), (w, 0.1, d), ground, color, texture, instance=i, scale=scale, color2=color2)
        i = parts.instance()
        parts.add(BOX, (0, h, 0), (w, 0.1, d), sides, sky, instance=i, emit=glow)
        for x, z in ((0, -d), (0, d), (-w, 0), (w, 0)):
            parts.add(BOX, (x, 0, z), (w, h, d), sides, sky, instance=i, emit=glow)

    def daylight(self, up: float, turn: float, sun: Color, sky: Color) -> None:
        """A sun at a height and a bearing in radians, and the light of the sky from above.

        The compiled loops let the sun in through openings alone: this one is far behind the scene, larger than it and
        dark, with its middle bar beside the scene.
        """
        side = np.array([sin(turn), 0, cos(turn)])
        self._sun = np.concatenate([side * cos(up) + np.array([0, sin(up), 0]), sun])
        away = np.array([side[2], 0, -side[0]])
        self.parts.opening(
            side * _FAR + away * 20 * _FAR, (100 * _FAR, 100 * _FAR), atan2(-side[0], -side[2]), np.zeros(3)
        )
        height = self.size[1] * 3
        self.parts.lamp((0, height, 0), height / 2, sky * (0.6 + 0.5 * height**2))

    def patch(
        self, label: str, x: float, z: float, w: float, d: float, color: Color, texture: int = 0, *, top: float = 0.004,
        yaw: float = 0.0, scale: float = 1.0, color2: Color | None = None, instance: int | None = None,
    ) -> None:  # fmt: skip
        """A flat piece of ground of half sizes w, d."""
        i = self.parts.instance() if instance is None else instance
        self.parts.add(
            BOX, (x, 0, z), (w, top, d), label, color, texture, instance=i, yaw=yaw, scale=scale, color2=color2
        )  # fmt: skip

    def piece(self, label: str, x: float, z: float, yaw: float = 0.0, w: float = 0.0, d: float = 0.0) -> Piece:
        """A new object at a place."""
        return Piece(self.parts, self.style, self.rng, x, z, yaw, w, d, label, self.parts.instance())

    def free(self, x: float, z: float, w: float, d: float, margin: float = 0.0) -> bool:
        """Whether nothing stands within half sizes w, d and a margin of a place on the floor."""
        if abs(x) + w > self.size[0] or abs(z) + d > self.size[2]:
            return False
        w, d = w + margin, d + margin
        return all(x + w <= a or x - w >= c or z + d <= b or z - d >= e for a, b, c, e, _ in self.taken)

    def take(self, x: float, z: float, w: float, d: float, height: float = 0.0) -> None:
        """Keeps others away from a place."""
        self.taken.append((x - w, z - d, x + w, z + d, height))

    def scatter(
        self, count: int, w: float, d: float, build: Callable[[float, float], None], *, height: float = 0.0,
        within: tuple[float, float, float, float] | None = None, margin: float = 0.0,
    ) -> None:  # fmt: skip
        """Builds up to so many things at free places, within low x, low z, high x, high z."""
        low_x, low_z, high_x, high_z = within or (-self.size[0], -self.size[2], self.size[0], self.size[2])
        for _ in range(3 * count):
            x, z = self.rng.uniform(low_x, high_x), self.rng.uniform(low_z, high_z)
            if count and self.free(x, z, w, d, margin):
                self.take(x, z, w, d, height)
                build(x, z)
                count -= 1

    def room(self) -> Room:
        """The finished scene."""
        prims, nodes, lights = self.parts.table()
        return Room(-1, self.size, prims, nodes, lights, self._sun, np.array(self.taken).reshape(-1, 5), self.unit)


def busiest(room: Room, propose: Callable[[], Camera], nearest: float = 0.0) -> Camera:
    """Of a few proposed cameras the one that sees most objects, and little that is nearer than so many units."""
    best, most = propose(), -np.inf
    for _ in range(_TRIES):
        camera = propose()
        pixels = geometry(room.prims, room.nodes, room.size, camera.eye, camera.axes, camera.focal, _PROBE)
        index = pixels[:, 1].astype(int)
        areas = np.bincount(room.prims[index, INSTANCE].astype(int)[~np.isin(room.prims[index, CLASS], _STUFF)])
        near = (pixels[:, 0] < nearest).mean()
        worth = float((areas > 0).sum() - 20 * near - 10 * max(0.0, areas.max(initial=0) / len(index) - 0.4))
        if worth > most:
            best, most = camera, worth
    return best
