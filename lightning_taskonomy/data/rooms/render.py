"""One sample: the pictures and labels of a view, and of the further views that belong to it."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.poses import relative_pose
from lightning_taskonomy.data.rooms import labels, matching, picture, segments
from lightning_taskonomy.data.rooms.camera import Camera, choose, fixating, turned
from lightning_taskonomy.data.rooms.scene import ROOMS_PER_BUILDING, Room, build_room
from lightning_taskonomy.data.rooms.seeds import Stream, generator
from lightning_taskonomy.data.rooms.shading import geometry, radiance, visibility
from lightning_taskonomy.errors import InputError, hint

__all__ = ["KEYS", "SIZES", "VERSION", "View", "render_view"]

VERSION = 1
"""Counts changes of what is rendered; a cache of another version is another cache."""

SIZES = (32, 512)
"""The smallest and largest picture, pixels along each side."""

Table = NDArray[np.float64]
Label = NDArray[np.generic]
Image = NDArray[np.uint8]

_MAX_SHADOW_RAYS = 3

_GEOMETRIC: Mapping[str, Callable[[Table, Camera], Label]] = {
    "depth_z": labels.depth_z,
    "depth_euclidean": labels.depth_euclidean,
    "normals": labels.normals,
    "curvature": labels.curvature,
    "reshading": labels.reshading,
    "edges_occlusion": labels.edges_occlusion,
    "keypoints_3d": labels.keypoints_3d,
}
_PICTURE: Mapping[str, Callable[[Image], Label]] = {"edges_2d": picture.edges_2d, "keypoints_2d": picture.keypoints_2d}

KEYS = frozenset(
    {
        "image", *_GEOMETRIC, *_PICTURE, "semantic", "object_class", "scene_class", "room_layout", "vanishing_points",
        "pair_fixated", "pose_fixated", "pair_nonfixated", "pose_nonfixated", "triplet", "egomotion", "pair_matching",
        "matching", "segments_2d", "segments_25d",
    }
)  # fmt: skip
"""The keys ``render_view`` offers."""


class View:
    """A view of a building and all that is seen from there; what is asked for is made once.

    Args:
        building: The building's seed.
        view: Which of its views.
        size: Pixels along each side.
        samples: Colour samples along each side of a pixel that lies on an edge.

    Raises:
        InputError: Size or samples are out of range, or a seed is negative.
    """

    def __init__(self, building: int, view: int, size: int, samples: int = 2) -> None:
        if not SIZES[0] <= size <= SIZES[1]:
            raise InputError(f"rooms: size is {size} pixels; allowed: {SIZES[0]} to {SIZES[1]}")
        if not 1 <= samples <= 8:
            raise InputError(f"rooms: samples is {samples}; allowed: 1 to 8")
        if building < 0 or view < 0:
            raise InputError(f"rooms: building {building}, view {view}; both must be 0 or more")
        self.building, self.view, self.size, self.samples = building, view, size, samples
        self.room, self.cameras = _placed(building, view)
        self._pixels: dict[int, Table] = {}
        self._images: dict[int, Image] = {}
        self._matching: tuple[Image, int] | None = None

    def camera(self, index: int) -> Camera:
        """Camera 0 of the view itself, 1 fixating the same point, 2 turned elsewhere, 3 further on from 2."""
        if index not in self.cameras:
            if index == 1:
                self.cameras[1] = fixating(
                    self.room, self.camera(0), generator(Stream.FIXATED, self.building, self.view)
                )
            elif index == 2:
                self.cameras[2] = turned(
                    self.room, self.camera(0), generator(Stream.NONFIXATED, self.building, self.view)
                )
            else:
                self.cameras[3] = turned(self.room, self.camera(2), generator(Stream.ONWARD, self.building, self.view))
        return self.cameras[index]

    def pixels(self, index: int = 0) -> Table:
        """(H * W, GEOMETRY_COLUMNS) what the pixels' centres see through a camera."""
        if index not in self._pixels:
            c, room = self.camera(index), self.room
            self._pixels[index] = geometry(room.prims, room.nodes, room.size, c.eye, c.axes, c.focal, self.size)
        return self._pixels[index]

    def image(self, index: int = 0) -> Image:
        """(3, H, W) uint8 sRGB through a camera, with exposure, white balance and noise of its sensor."""
        if index not in self._images:
            self._images[index] = self._picture(index)
        return self._images[index]

    def _picture(self, index: int) -> Image:
        room, n, c, pixels = self.room, self.size, self.camera(index), self.pixels(index)
        tables = room.prims, room.nodes, room.size, room.lights, room.sun
        seen = visibility(*tables, pixels, n, min(self.samples, _MAX_SHADOW_RAYS))
        light = radiance(*tables, c.eye, c.axes, c.focal, pixels, seen, n, self.samples)
        rng = generator(Stream.SENSOR, self.building, self.view, index)
        balance = 1 + rng.normal(0, 0.02, 3)
        level = np.mean(np.minimum(light, 2.0)) ** 0.8
        light = light * balance * (0.46 * np.exp(rng.normal(0, 0.1)) / max(level, 0.02))
        light = light**1.12 * 1.12
        light = light * (1 + light / 2.4**2) / (1 + light)
        noise = rng.standard_normal(light.shape, np.float32)
        signal = np.clip(light, 0, 1) ** (1 / 2.1) + noise * (0.005 + 0.008 * np.sqrt(np.clip(light, 0, 1)))
        return np.asarray(np.clip(np.rint(signal * 255), 0, 255), np.uint8).T.reshape(3, n, n)

    def render(self, keys: Collection[str]) -> dict[str, Label]:
        """What is asked for.

        Args:
            keys: Some of ``KEYS``.

        Returns:
            By key, shapes as in the batch without its first dimension; pictures are uint8, values float32, classes
            int64.

        Raises:
            InputError: A key is not offered.
        """
        return {key: self._label(key) for key in sorted(keys)}

    def _label(self, key: str) -> Label:
        if key == "image":
            return self.image()
        if key in _GEOMETRIC:
            return _GEOMETRIC[key](self.pixels(), self.camera(0))
        if key in _PICTURE:
            return _PICTURE[key](self.image())
        match key:
            case "semantic":
                return labels.semantic(self.pixels(), self.room)
            case "object_class":
                return labels.object_class(self.pixels(), self.room)
            case "scene_class":
                return np.array(self.room.scene_class)
            case "room_layout":
                return labels.room_layout(self.room, self.camera(0))
            case "vanishing_points":
                return labels.vanishing_points(self.camera(0))
            case "pair_fixated":
                return np.stack([self.image(0), self.image(1)])
            case "pair_nonfixated":
                return np.stack([self.image(0), self.image(2)])
            case "triplet":
                return np.stack([self.image(0), self.image(2), self.image(3)])
            case "pose_fixated":
                return self._poses((0, 1))
            case "pose_nonfixated":
                return self._poses((0, 2))
            case "egomotion":
                return self._poses((0, 2), (2, 3), (0, 3))
            case "pair_matching":
                return self._patches()[0]
            case "matching":
                return np.array(self._patches()[1])
            case "segments_2d":
                return segments.segments_2d(self.image())
            case "segments_25d":
                n, pixels = self.size, self.pixels()
                return segments.segments_25d(self.image(), pixels[:, 0].reshape(n, n), pixels[:, 5:8].reshape(n, n, 3))
        raise InputError(f"rooms has no {key!r}{hint(key, KEYS)}")

    def _patches(self) -> tuple[Image, int]:
        if self._matching is None:
            images, pixels = (self.image(0), self.image(1)), (self.pixels(0), self.pixels(1))
            rng = generator(Stream.MATCHING, self.building, self.view)
            self._matching = matching.pair(images, pixels, self.camera(1), rng)
        return self._matching

    def _poses(self, *pairs: tuple[int, int]) -> Label:
        poses = [relative_pose(self.camera(a), self.camera(b)) for a, b in pairs]
        return np.concatenate(poses).astype(np.float32)


@lru_cache(maxsize=4096)
def _placed(building: int, view: int) -> tuple[Room, dict[int, Camera]]:
    rng = generator(Stream.CAMERA, building, view)
    room = build_room(building, int(rng.integers(ROOMS_PER_BUILDING)))
    return room, {0: choose(room, rng)}


def render_view(
    building: int, view: int, size: int, keys: Collection[str] | None = None, *, samples: int = 2
) -> dict[str, Label]:
    """Renders one view of a building; it depends on (building, view) alone.

    Args:
        building: The building's seed, 0 or more.
        view: Which of its views, 0 or more.
        size: Pixels along each side, 32 to 512.
        keys: Some of ``KEYS``; None for all.
        samples: Colour samples along each side of a pixel that lies on an edge; 1 is the fastest.

    Returns:
        As ``View.render``.

    Raises:
        InputError: As ``View``, or a key is not offered.
    """
    return View(building, view, size, samples).render(KEYS if keys is None else keys)
