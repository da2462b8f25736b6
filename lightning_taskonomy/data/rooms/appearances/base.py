"""What an appearance is: the scenes, the camera, what lies between scene and lens, and the sensor."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.rooms.camera import Camera
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.tasks import Task

__all__ = ["COMMON", "Appearance", "Sensor", "Sight"]

Table = NDArray[np.float64]

COMMON = frozenset(
    {
        "image", "semantic", "depth_z", "depth_euclidean", "boxes", "object_classes", "points", "edges_2d",
        "keypoints_2d", "segments_2d",
    }
)  # fmt: skip
"""What every appearance offers."""


@dataclass(frozen=True)
class Sensor:
    """How light becomes a picture: exposure to the mean, white balance, a film-like curve, noise.

    Args:
        level: What the mean of the light is exposed to.
        exposure: Spread of the exposure, natural logarithm.
        balance: Spread of the factors of red, green and blue.
        noise: Times the noise of the indoor camera.
    """

    level: float = 0.46
    exposure: float = 0.1
    balance: float = 0.02
    noise: float = 1.0


@dataclass(frozen=True)
class Sight:
    """What a camera sees of a scene, for what comes between scene and sensor.

    Args:
        room: The scene.
        camera: The camera.
        pixels: (H * W, GEOMETRY_COLUMNS) as ``shading.geometry`` gives them.
        distance: (H * W,) metres from the camera, infinite where nothing bounds the view.
        rng: Draws what belongs to the scene as a whole.
    """

    room: Room
    camera: Camera
    pixels: Table
    distance: Table
    rng: np.random.Generator


@dataclass(frozen=True)
class Appearance:
    """A domain of images that Rooms renders.

    Args:
        scene: Builds a scene from a building and an index below ``ROOMS_PER_BUILDING``; the same one each time.
        camera: Takes a view of a scene.
        reach: Metres of depth that are stored, in steps of 1/65536 of it; no scene is deeper.
        endless: Classes that have no depth: sky, open water.
        keys: What it offers; None for all labels of Rooms.
        shade: Makes (H * W, 3) linear light of what is seen, instead of tracing shadows.
        medium: Changes (H * W, 3) linear light on its way to the lens: haze, water, blur.
        sensor: Makes the picture; None takes the light as sRGB in [0, 1].
        version: Counts changes of what is rendered; a cache of another version is another cache.
    """

    scene: Callable[[int, int], Room]
    camera: Callable[[Room, np.random.Generator], Camera]
    reach: float = 16.0
    endless: tuple[str, ...] = ()
    keys: frozenset[str] | None = COMMON
    shade: Callable[[Sight], Table] | None = None
    medium: Callable[[Table, Sight], Table] | None = None
    sensor: Sensor | None = Sensor()
    version: int = 1

    def offers(self, task: Task) -> bool:
        """Whether there are labels of this appearance for a task."""
        return self.keys is None or self.keys.issuperset(task.stored_targets)
