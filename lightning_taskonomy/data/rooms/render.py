"""One sample: the pictures and labels of a view, and of the further views that belong to it."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.poses import relative_pose
from lightning_taskonomy.data.rooms import labels, matching, picture, segments
from lightning_taskonomy.data.rooms.appearances import DEFAULT
from lightning_taskonomy.data.rooms.appearances import appearance as by_name
from lightning_taskonomy.data.rooms.appearances.base import Sensor, Sight
from lightning_taskonomy.data.rooms.camera import Camera, fixating, turned
from lightning_taskonomy.data.rooms.objects import objects
from lightning_taskonomy.data.rooms.primitives import CLASS
from lightning_taskonomy.data.rooms.scene import ROOMS_PER_BUILDING, Room
from lightning_taskonomy.data.rooms.seeds import Stream, generator
from lightning_taskonomy.data.rooms.shading import geometry, radiance, visibility
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks.catalog.rooms import CLASSES

__all__ = ["KEYS", "SETS", "SIZES", "VERSION", "View", "render_view", "unknown_key"]

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

SETS = frozenset({"boxes", "object_classes", "points"})
"""Those with a row per object."""
KEYS = frozenset(
    {
        "image", *_GEOMETRIC, *_PICTURE, "semantic", "object_class", "scene_class", "room_layout", "vanishing_points",
        "pair_fixated", "pose_fixated", "pair_nonfixated", "pose_nonfixated", "triplet", "egomotion", "pair_matching",
        "matching", "segments_2d", "segments_25d", *SETS,
    }
)  # fmt: skip
"""The keys ``render_view`` offers of indoor rooms; of another appearance those that it has."""


class View:
    """A view of a building and all that is seen from there; what is asked for is made once.

    Args:
        building: The building's seed.
        view: Which of its views.
        size: Pixels along each side.
        samples: Colour samples along each side of a pixel that lies on an edge.
        appearance: A name of ``appearances.names()``.

    Raises:
        InputError: Size or samples are out of range, a seed is negative, or there is no such appearance.
    """

    def __init__(self, building: int, view: int, size: int, samples: int = 2, appearance: str = DEFAULT) -> None:
        if not SIZES[0] <= size <= SIZES[1]:
            raise InputError(f"rooms: size is {size} pixels; allowed: {SIZES[0]} to {SIZES[1]}")
        if not 1 <= samples <= 8:
            raise InputError(f"rooms: samples is {samples}; allowed: 1 to 8")
        if building < 0 or view < 0:
            raise InputError(f"rooms: building {building}, view {view}; both must be 0 or more")
        self.building, self.view, self.size, self.samples = building, view, size, samples
        self.appearance, self.look = appearance, by_name(appearance)
        self.keys = KEYS if self.look.keys is None else self.look.keys
        self.room, self.cameras = _placed(building, view, appearance)
        self._pixels: dict[int, Table] = {}
        self._images: dict[int, Image] = {}
        self._objects: dict[str, Label] | None = None
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
        room, n, c, pixels, look = self.room, self.size, self.camera(index), self.pixels(index), self.look
        if look.shade is not None:
            light = look.shade(self._sight(index))
        else:
            tables = room.prims, room.nodes, room.size, room.lights, room.sun
            seen = visibility(*tables, pixels, n, min(self.samples, _MAX_SHADOW_RAYS))
            light = radiance(*tables, c.eye, c.axes, c.focal, pixels, seen, n, self.samples)
        if look.medium is not None:
            light = look.medium(light, self._sight(index))
        rng = generator(Stream.SENSOR, self.building, self.view, index, self._salt)
        signal = light if look.sensor is None else _developed(light, look.sensor, rng)
        return np.asarray(np.clip(np.rint(signal * 255), 0, 255), np.uint8).T.reshape(3, n, n)

    def _sight(self, index: int) -> Sight:
        pixels, camera = self.pixels(index), self.camera(index)
        distance = labels.depth_euclidean(pixels, camera).ravel().astype(np.float64) * self.room.unit
        rng = generator(Stream.MEDIUM, self.building, appearance=self._salt)
        return Sight(self.room, camera, pixels, np.where(self._endless(pixels), np.inf, distance), rng)

    @property
    def _salt(self) -> str:
        return "" if self.appearance == DEFAULT else self.appearance

    def _endless(self, pixels: Table) -> NDArray[np.bool_]:
        """(H * W,) where nothing bounds the view."""
        classes = [CLASSES.index(name) for name in self.look.endless]
        return np.isin(self.room.prims[pixels[:, 1].astype(int), CLASS], classes)

    def render(self, keys: Collection[str]) -> dict[str, Label]:
        """What is asked for.

        Args:
            keys: Some of ``self.keys``.

        Returns:
            By key, shapes as in the batch without its first dimension; pictures are uint8, values float32, classes
            int64.

        Raises:
            InputError: A key is not offered.
        """
        return {key: self._label(key) for key in sorted(keys)}

    def _label(self, key: str) -> Label:
        if key not in self.keys:
            raise unknown_key(key, self.keys, self.appearance)
        if key == "image":
            return self.image()
        if key in SETS:
            if self._objects is None:
                self._objects = objects(self.pixels(), self.room, self.camera(0))
            return self._objects[key]
        if key in _GEOMETRIC:
            label = _GEOMETRIC[key](self.pixels(), self.camera(0))
            return self._in_metres(label) if key in ("depth_z", "depth_euclidean") else label
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
        raise AssertionError(key)

    def _in_metres(self, depth: Label) -> Label:
        endless = self._endless(self.pixels()).reshape(depth.shape)
        return np.where(endless, np.float32(np.nan), depth.astype(np.float32) * np.float32(self.room.unit))

    def _patches(self) -> tuple[Image, int]:
        if self._matching is None:
            images, pixels = (self.image(0), self.image(1)), (self.pixels(0), self.pixels(1))
            rng = generator(Stream.MATCHING, self.building, self.view)
            self._matching = matching.pair(images, pixels, self.camera(1), rng)
        return self._matching

    def _poses(self, *pairs: tuple[int, int]) -> Label:
        poses = [relative_pose(self.camera(a), self.camera(b)) for a, b in pairs]
        return np.concatenate(poses).astype(np.float32)


def _developed(light: Table, sensor: Sensor, rng: np.random.Generator) -> Table:
    """(H * W, 3) linear light to sRGB as a camera gives it."""
    balance = 1 + rng.normal(0, sensor.balance, 3)
    level = np.mean(np.minimum(light, 2.0)) ** 0.8
    light = light * balance * (sensor.level * np.exp(rng.normal(0, sensor.exposure)) / max(level, 0.02))
    light = light**1.12 * 1.12
    light = light * (1 + light / 2.4**2) / (1 + light)
    noise = rng.standard_normal(light.shape, np.float32) * np.float32(sensor.noise)
    return np.asarray(np.clip(light, 0, 1) ** (1 / 2.1) + noise * (0.005 + 0.008 * np.sqrt(np.clip(light, 0, 1))))


@lru_cache(maxsize=4096)
def _placed(building: int, view: int, appearance: str) -> tuple[Room, dict[int, Camera]]:
    salt = "" if appearance == DEFAULT else appearance
    rng = generator(Stream.CAMERA, building, view, appearance=salt)
    room = _built(building, int(rng.integers(ROOMS_PER_BUILDING)), appearance)
    return room, {0: by_name(appearance).camera(room, rng)}


@lru_cache(maxsize=1024)
def _built(building: int, index: int, appearance: str) -> Room:
    return by_name(appearance).scene(building, index)


def unknown_key(key: str, offered: Collection[str], appearance: str) -> InputError:
    """What to raise where an appearance has no such key."""
    where = "" if appearance == DEFAULT else f" of appearance {appearance!r}"
    return InputError(f"rooms has no {key!r}{where}{hint(key, offered)}")


def render_view(
    building: int,
    view: int,
    size: int,
    keys: Collection[str] | None = None,
    *,
    samples: int = 2,
    appearance: str = DEFAULT,
) -> dict[str, Label]:
    """Renders one view of a building; it depends on (building, view) alone.

    Args:
        building: The building's seed, 0 or more.
        view: Which of its views, 0 or more.
        size: Pixels along each side, 32 to 512.
        keys: Some of ``KEYS``; None for all that the appearance has.
        samples: Colour samples along each side of a pixel that lies on an edge; 1 is the fastest.
        appearance: A name of ``appearances.names()``.

    Returns:
        As ``View.render``.

    Raises:
        InputError: As ``View``, or a key is not offered.
    """
    seen = View(building, view, size, samples, appearance)
    return seen.render(seen.keys if keys is None else keys)
