"""Where a camera stands and how two of them relate. Camera frame: x right, y down, z forward."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

__all__ = ["Pose", "relative_pose"]

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Place and direction of a camera.

    Args:
        eye: (3,) its centre in the world, metres.
        axes: (3, 3) rows right, down, forward in the world: ``axes @ (p - eye)`` is a point in its frame.
    """

    eye: Table
    axes: Table


def relative_pose(first: Pose, second: Pose) -> Table:
    """(6,) the second camera in the first one's frame: rotation vector in radians, then its centre in metres.

    A point X in the second camera's frame is ``R @ X + t`` in the first's, with R the rotation vector's matrix.
    """
    rotation = Rotation.from_matrix(first.axes @ second.axes.T).as_rotvec()
    return np.concatenate([rotation, first.axes @ (second.eye - first.eye)])
