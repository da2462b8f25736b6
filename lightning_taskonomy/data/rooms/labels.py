"""Labels of one view that follow from its geometry, for every pixel's centre."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from lightning_taskonomy.data.rooms.camera import Camera, manhattan
from lightning_taskonomy.data.rooms.primitives import CLASS, INSTANCE
from lightning_taskonomy.data.rooms.scene import Room

__all__ = [
    "curvature", "depth_euclidean", "depth_z", "edges_occlusion", "keypoints_3d", "normals", "object_class",
    "reshading", "room_layout", "semantic", "vanishing_points",
]  # fmt: skip

Table = NDArray[np.float64]
Label = NDArray[np.generic]
_MAX_CURVATURE = 20.0
_SMALLEST_OBJECT = 0.005


def _square(values: Table) -> int:
    return math.isqrt(len(values))


def _rays(camera: Camera, size: int) -> Table:
    """(H, W, 3) directions with z = 1 in the camera frame."""
    a = ((np.arange(size) + 0.5) / size - 0.5) / camera.focal
    y, x = np.meshgrid(a, a, indexing="ij")
    return np.stack([x, y, np.ones_like(x)], -1)


def depth_z(pixels: Table, camera: Camera) -> Label:
    """(1, H, W) float32, metres along the optical axis."""
    n = _square(pixels)
    return pixels[:, 0].reshape(1, n, n).astype(np.float32)


def depth_euclidean(pixels: Table, camera: Camera) -> Label:
    """(1, H, W) float32, metres from the camera's centre."""
    n = _square(pixels)
    return np.asarray((pixels[:, 0].reshape(1, n, n) * np.linalg.norm(_rays(camera, n), axis=-1)), np.float32)


def _camera_normals(pixels: Table, camera: Camera) -> Table:
    n = _square(pixels)
    return np.asarray((pixels[:, 5:8] @ camera.axes.T).reshape(n, n, 3))


def normals(pixels: Table, camera: Camera) -> Label:
    """(3, H, W) float32, unit, camera frame; z < 0 faces the camera."""
    return _camera_normals(pixels, camera).transpose(2, 0, 1).astype(np.float32)


def curvature(pixels: Table, camera: Camera) -> Label:
    """(2, H, W) float32, principal curvatures k1 >= k2 in 1/m, positive where convex, clipped to +-20."""
    n = _square(pixels)
    return np.clip(pixels[:, 10:12].T.reshape(2, n, n), -_MAX_CURVATURE, _MAX_CURVATURE).astype(np.float32)


def reshading(pixels: Table, camera: Camera) -> Label:
    """(1, H, W) float32 in [0, 1]: a white Lambertian room lit by one lamp at the camera."""
    rays = _rays(camera, _square(pixels))
    cosine = -(_camera_normals(pixels, camera) * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    return np.asarray(np.clip(cosine, 0, 1)[None], np.float32)


def _jumps(pixels: Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Between a pixel and its right (H, W-1) and lower (H-1, W) neighbour: whether depth jumps.

    It does where neither point lies near the other's tangent plane: creases and slanted planes do not count.
    """
    n = _square(pixels)
    points, normal, depth = pixels[:, 2:5].reshape(n, n, 3), pixels[:, 5:8].reshape(n, n, 3), pixels[:, 0].reshape(n, n)
    jumps = []
    for axis in (1, 0):
        a = (slice(None), slice(None, -1)) if axis else (slice(None, -1), slice(None))
        b = (slice(None), slice(1, None)) if axis else (slice(1, None), slice(None))
        step = points[b] - points[a]
        off_a, off_b = np.abs((step * normal[a]).sum(-1)), np.abs((step * normal[b]).sum(-1))
        jumps.append(np.minimum(off_a, off_b) > 0.02 * np.minimum(depth[a], depth[b]) + 0.01)
    return jumps[0], jumps[1]


def _boundary(pixels: Table) -> Table:
    """(H, W) 1 beside a depth jump."""
    n = _square(pixels)
    right, below = _jumps(pixels)
    out = np.zeros((n, n), np.float32)
    out[:, :-1] += right
    out[:, 1:] += right
    out[:-1] += below
    out[1:] += below
    return np.minimum(out, 1)


def edges_occlusion(pixels: Table, camera: Camera) -> Label:
    """(1, H, W) float32 in [0, 1]: where one surface hides another, softened by a Gaussian of 0.5 pixel.

    Taskonomy (supplementary, "edge detection (3D)") takes the edges of occlusion from depth alone, with no texture.
    """
    return np.asarray(np.clip(ndimage.gaussian_filter(_boundary(pixels), 0.5), 0, 1)[None], np.float32)


def keypoints_3d(pixels: Table, camera: Camera) -> Label:
    """(1, H, W) float32 in [0, 1]: stable positions on a surface with change around them in two directions.

    After NARF (Steder et al., Point feature extraction on 3D range scans taking into account object boundaries, ICRA
    2011, section IV), which Taskonomy uses: change is a jump of depth, seen from the nearer surface, or a turn of the
    normal. The response is the smaller eigenvalue of the structure tensor of both, x / (x + 0.05).
    """
    n = _square(pixels)
    sigma = n / 90
    normal = _camera_normals(pixels, camera).astype(np.float32)
    channels = [ndimage.gaussian_filter(normal[..., c], 0.6 * sigma) for c in range(3)]
    edge = ndimage.gaussian_filter(_boundary(pixels), 0.6 * sigma)
    xx, yy, xy = 0.0, 0.0, 0.0
    for channel in (*channels, edge):
        gy, gx = np.gradient(channel)
        xx, yy, xy = xx + gx * gx, yy + gy * gy, xy + gx * gy
    xx, yy, xy = (ndimage.gaussian_filter(t, 1.5 * sigma) * sigma**2 for t in (xx, yy, xy))
    smaller = np.maximum((xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2), 0)
    return np.asarray((smaller / (smaller + 0.05))[None], np.float32)


def semantic(pixels: Table, room: Room) -> Label:
    """(H, W) int64, indices of ``SEMANTIC_CLASSES``."""
    n = _square(pixels)
    return np.asarray(room.prims[pixels[:, 1].astype(int), CLASS].reshape(n, n), np.int64)


def object_class(pixels: Table, room: Room) -> Label:
    """() int64, the class of the object that covers most pixels (index of ``OBJECT_CLASSES``); 255 if none is seen."""
    index = pixels[:, 1].astype(int)
    labels, instances = room.prims[index, CLASS].astype(int), room.prims[index, INSTANCE].astype(int)
    areas = np.bincount(instances[labels >= 3], minlength=1)
    if areas.max() < _SMALLEST_OBJECT * len(pixels):
        return np.array(255)
    return np.array(labels[np.argmax((instances == areas.argmax()) & (labels >= 3))] - 3)


def vanishing_points(camera: Camera) -> Label:
    """(9,) float32: the unit vectors right, down, forward of ``camera.manhattan``, camera frame."""
    return manhattan(camera)[0].reshape(9).astype(np.float32)


def room_layout(room: Room, camera: Camera) -> Label:
    """(9,) float32: the room's box, as Taskonomy (supplementary, "room layout") parametrises it.

    Centre in the camera frame (3, metres), extents along right, down, forward of ``camera.manhattan`` (3, metres), and
    the rotation vector that turns the camera's axes to those (3, radians, at most about 45 degrees of yaw).
    """
    directions, axes = manhattan(camera)
    center = camera.axes @ (np.array([0, room.size[1] / 2, 0]) - camera.eye)
    extents = room.size * [2, 1, 2]
    rotation = Rotation.from_matrix(directions.T).as_rotvec()
    return np.concatenate([center, extents[list(axes)], rotation]).astype(np.float32)
