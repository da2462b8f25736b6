"""Pinhole cameras: where a view is taken from.

Camera frame: x right, y down, z forward. World: y up. Pixel centres lie at (column + 0.5, row + 0.5).
"""

from dataclasses import dataclass
from math import cos, radians, sin, tan

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lightning_taskonomy.data.poses import Pose
from lightning_taskonomy.data.rooms.primitives import CLASS, INSTANCE
from lightning_taskonomy.data.rooms.scene import Room
from lightning_taskonomy.data.rooms.shading import geometry

__all__ = ["Camera", "choose", "fixating", "look", "manhattan", "turned"]

Table = NDArray[np.float64]
_PROBE = 16
_TRIES = 40
_LOOKS, _PLENTY = 6, 32.0


@dataclass(frozen=True)
class Camera(Pose):
    """A pinhole camera.

    Args:
        eye: (3,) its centre in the world, metres.
        axes: (3, 3) rows right, down, forward in the world.
        focal: Focal length in image widths.
    """

    focal: float

    def intrinsics(self, size: int) -> Table:
        """(3, 3) the matrix K of a picture of that size, pixels with corners at integers."""
        f = self.focal * size
        return np.array([[f, 0, size / 2], [0, f, size / 2], [0, 0, 1]])

    def project(self, points: Table, size: int) -> Table:
        """World points (N, 3) to (N, 3): column, row in pixels and z-depth in metres."""
        local = (points - self.eye) @ self.axes.T
        z = local[:, 2:]
        return np.concatenate([local[:, :2] / z * self.focal * size + size / 2, z], 1)

    def back_project(self, depth: Table) -> Table:
        """Z-depth (H, H) to the world points (H * H, 3) at the pixels' centres."""
        size = depth.shape[0]
        a = ((np.arange(size) + 0.5) / size - 0.5) / self.focal
        y, x = np.meshgrid(a, a, indexing="ij")
        rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
        return self.eye + (rays * depth.reshape(-1, 1)) @ self.axes


def look(eye: Table, forward: Table, roll: float, focal: float) -> Camera:
    """A camera that looks along a direction, turned about it by ``roll`` radians from upright."""
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = cos(roll), sin(roll)
    return Camera(eye, np.stack([c * right + s * down, -s * right + c * down, forward]), focal)


def _free(room: Room, eye: Table, margin: float) -> bool:
    w, h, d = room.size
    if abs(eye[0]) > w - margin or abs(eye[2]) > d - margin or not 0.3 < eye[1] < h - 0.5:
        return False
    f = room.footprints
    inside = (
        (eye[0] > f[:, 0] - margin)
        & (eye[0] < f[:, 2] + margin)
        & (eye[2] > f[:, 1] - margin)
        & (eye[2] < f[:, 3] + margin)
    )
    return not bool((inside & (f[:, 4] > eye[1] - 0.25)).any())


def _worth(room: Room, camera: Camera) -> float:
    """How full a view is: distinct objects and classes, less what is too near or bare."""
    pixels = geometry(room.prims, room.nodes, room.size, camera.eye, camera.axes, camera.focal, _PROBE)
    index = pixels[:, 1].astype(int)
    labels, areas = room.prims[index, CLASS].astype(int), np.bincount(room.prims[index, INSTANCE].astype(int))
    classes = np.bincount(labels, minlength=21)[3:]
    near = pixels[:, 0] < 0.8
    largest = areas.max() / len(pixels)
    return float(
        (areas >= 2).sum() + 2 * (classes >= 2).sum() - 12 * near.mean() - 14 * max(0.0, largest - 0.35)
        - 10 * max(0.0, float((labels < 3).mean()) - 0.55)
    )  # fmt: skip


def choose(room: Room, rng: np.random.Generator) -> Camera:
    """A place to stand and a direction with much to see, the best of a few; never nose to wall."""
    w, h, d = room.size
    best, worth, seen = None, -np.inf, 0
    focal = 0.5 / tan(radians(rng.uniform(58, 82)) / 2)
    for _ in range(4 * _TRIES):
        eye = np.array([rng.uniform(-0.95, 0.95) * w, rng.uniform(1.05, 1.75), rng.uniform(-0.95, 0.95) * d])
        if not _free(room, eye, 0.2):
            continue
        goal = np.array([rng.uniform(-0.8, 0.8) * w, rng.uniform(0.5, 1.2), rng.uniform(-0.8, 0.8) * d])
        forward = goal - eye
        if np.hypot(forward[0], forward[2]) < 0.5 * min(w, d) + 0.4:
            continue
        forward /= np.linalg.norm(forward)
        forward[1] = np.clip(forward[1] + rng.normal(0, 0.05), -0.5, 0.15)
        camera = look(eye, forward, rng.normal(0, 0.03), focal)
        value = _worth(room, camera)
        if value > worth:
            best, worth = camera, value
        seen += 1
        if worth > _PLENTY or seen == _LOOKS:
            break
    if best is None:  # a crammed room: stand in the middle, under the ceiling
        best = look(np.array([0.0, h - 0.6, 0.0]), np.array([0.3, -0.3, 1.0]), 0.0, focal)
    return best


def fixating(room: Room, first: Camera, rng: np.random.Generator) -> Camera:
    """A second camera that looks at the point in the middle of the first view, from elsewhere."""
    probe = geometry(room.prims, room.nodes, room.size, first.eye, first.axes, first.focal, 1)[0]
    point, reach = probe[2:5], min(0.9, 0.4 * probe[0])
    for attempt in range(_TRIES):
        move = rng.uniform(-1, 1, 3) * [1, 0.35, 1] * reach * (1 - 0.9 * attempt / _TRIES)
        eye = first.eye + move
        if not _free(room, eye, 0.1) or np.linalg.norm(move) < 0.05:
            continue
        camera = look(eye, point - eye, rng.normal(0, 0.04), first.focal)
        seen = geometry(room.prims, room.nodes, room.size, camera.eye, camera.axes, camera.focal, 1)[0]
        if np.linalg.norm(seen[2:5] - point) < 1e-3:
            return camera
    return look(first.eye, point - first.eye, rng.normal(0, 0.04), first.focal)


def turned(room: Room, first: Camera, rng: np.random.Generator) -> Camera:
    """A second camera nearby that looks elsewhere, with an overlap of about half the view."""
    for attempt in range(_TRIES):
        shrink = 1 - 0.9 * attempt / _TRIES
        eye = first.eye + rng.uniform(-0.5, 0.5, 3) * [1, 0.3, 1] * shrink
        turn = Rotation.from_euler("yxz", rng.normal(0, [0.22, 0.08, 0.04]) * shrink).as_matrix()
        camera = Camera(eye, turn.T @ first.axes, first.focal)
        if _free(room, eye, 0.1) and (attempt > _TRIES // 2 or _worth(room, camera) > 6):
            return camera
    return Camera(first.eye, first.axes, first.focal)


def manhattan(camera: Camera) -> tuple[Table, tuple[int, int, int]]:
    """The room's three directions in the camera frame, ordered and signed so that a regression is well defined.

    Forward is the horizontal one nearest to the viewing direction, right the other horizontal one (to the right of
    forward), down is down.

    Returns:
        (3, 3) rows right, down, forward, a rotation; and which world axis (0 x, 1 y, 2 z) each is.
    """
    x, z = camera.axes[2, 0], camera.axes[2, 2]
    axis = 0 if abs(x) > abs(z) else 2
    forward = np.zeros(3)
    forward[axis] = 1.0 if camera.axes[2, axis] > 0 else -1.0
    down = np.array([0.0, -1.0, 0.0])
    right = np.cross(down, forward)
    return np.stack([right, down, forward]) @ camera.axes.T, (2 - axis, 1, axis)
