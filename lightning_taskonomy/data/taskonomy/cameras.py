"""Taskonomy's metadata of a view to poses, vanishing points and room layout.

The files hold Blender's cameras (x right, y up, z backward) in a world with z up, as Euler angles about the fixed axes
x, y, z. Here a camera frame is x right, y down, z forward.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from lightning_taskonomy.data.geometry import Intrinsics
from lightning_taskonomy.data.poses import Pose
from lightning_taskonomy.data.stored import FileProblem

__all__ = ["read_intrinsics", "read_pose", "read_room_layout", "read_vanishing_points"]

Table = NDArray[np.float64]
_FROM_BLENDER = np.diag([1.0, -1.0, -1.0])


def _metadata(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise FileProblem(file, "missing") from error
    except (OSError, ValueError) as error:
        raise FileProblem(file, f"damaged ({error})") from error
    if not isinstance(content, dict):
        raise FileProblem(file, "damaged (not the metadata of a view)")
    return content


def _numbers(file: Path, content: dict[str, Any], *keys: str, count: int | None) -> Table:
    """Some numbers, or one alone where ``count`` is None."""
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.shape != (() if count is None else (count,)) or not np.isfinite(numbers).all():
        raise FileProblem(file, f"no {'.'.join(keys)}")
    return numbers


def _pose(file: Path, content: dict[str, Any]) -> Pose:
    turn = Rotation.from_euler("xyz", _numbers(file, content, "camera_rotation_final", count=3)).as_matrix()
    return Pose(_numbers(file, content, "camera_location", count=3), _FROM_BLENDER @ turn.T)


def read_pose(file: Path) -> Pose:
    """The camera of a view.

    Raises:
        FileProblem: The file is missing, damaged or says nothing of the camera.
    """
    return _pose(file, _metadata(file))


def read_intrinsics(file: Path, size: tuple[int, int]) -> Intrinsics:
    """The lens of a view for a picture of some height and width, and how far away the point is that it looks at.

    The point lies on the optical axis, in sight, so that its distance is the depth in the middle.

    Raises:
        FileProblem: As ``read_pose``, or it says nothing of the field of view.
    """
    content = _metadata(file)
    angle = float(_numbers(file, content, "field_of_view_rads", count=None))
    if "point_location" not in content:
        return Intrinsics.of_view(size, angle)
    away = _numbers(file, content, "point_location", count=3) - _pose(file, content).eye
    return Intrinsics.of_view(size, angle, float(np.linalg.norm(away)))


def _canonical(directions: Table) -> tuple[Table, list[int]]:
    """World axes x, y, z (rows, in the camera frame) to right, down, forward, and which world axis each is.

    Forward is the horizontal axis nearest to the viewing direction, so what a network must say is well defined.
    """
    axis = int(np.abs(directions[:2, 2]).argmax())
    forward = directions[axis] * np.sign(directions[axis, 2])
    down = -directions[2]
    return np.stack([np.cross(down, forward), down, forward]), [1 - axis, 2, axis]


def read_vanishing_points(file: Path) -> Tensor:
    """(9,) unit vectors to the vanishing points right, down, forward, in the camera frame.

    Raises:
        FileProblem: As ``read_pose``.
    """
    content = _metadata(file)
    stored = [_numbers(file, content, "vanishing_points_gaussian_sphere", axis, count=3) for axis in "xyz"]
    return torch.from_numpy(_canonical(np.stack(stored) @ _FROM_BLENDER)[0].flatten()).float()


def read_room_layout(file: Path) -> Tensor:
    """(9,) the room's box: centre in the camera frame and extents along right, down, forward (metres), rotation vector.

    The stored ranges have x and y exchanged against the camera's world (as the authors' code says).

    Raises:
        FileProblem: As ``read_pose``.
    """
    content = _metadata(file)
    pose = _pose(file, content)
    ranges = np.stack([_numbers(file, content, "bounding_box_ranges", axis, count=2) for axis in "yxz"])
    directions, order = _canonical(pose.axes.T)
    center = pose.axes @ (ranges.mean(1) - pose.eye)
    extents = (ranges[:, 1] - ranges[:, 0])[order]
    rotation = Rotation.from_matrix(directions.T).as_rotvec()
    return torch.from_numpy(np.concatenate([center, extents, rotation])).float()
