"""What geometry says that labels of one image have in common: the camera frame is x right, y down, z forward.

Pure functions of tensors; ``data.agreement`` compares a data set's labels by them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import tan

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "AXES",
    "Intrinsics",
    "angles_between",
    "axes_name",
    "axis_meeting",
    "boxes_of_masks",
    "depth_of_distance",
    "facing_away",
    "inverse_planes",
    "normals_from_depth",
    "normals_of_planes",
    "outside",
    "rotation_matrix",
    "share_along",
    "unit_normals",
    "warped",
]

AXES = torch.tensor(
    [
        [[sign if column == source else 0.0 for column in range(3)] for source, sign in zip(order, signs, strict=True)]
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
)
"""(48, 3, 3) what vectors become whose axes are exchanged or reversed; the first leaves them as they are."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera.

    Args:
        focal: Focal lengths along x and y, in pixels.
        centre: Where the optical axis meets the image, x and y in pixels, 0 at the centre of the first pixel.
        fixation: Metres along the axis to the first surface, where something besides the depth says it.
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    fixation: float | None = None

    @classmethod
    def of_view(cls, size: tuple[int, int], angle: float, fixation: float | None = None) -> "Intrinsics":
        """Square pixels and the axis through the middle.

        Args:
            size: Height and width of the image.
            angle: Field of view across its width, in radians.
            fixation: As ``Intrinsics``.
        """
        focal = size[1] / 2 / tan(angle / 2)
        return cls((focal, focal), ((size[1] - 1) / 2, (size[0] - 1) / 2), fixation)

    def resized(self, size: tuple[int, int], to: tuple[int, int]) -> "Intrinsics":
        """The camera of the image resized from one height and width to another."""
        y, x = to[0] / size[0], to[1] / size[1]
        centre = ((self.centre[0] + 0.5) * x - 0.5, (self.centre[1] + 0.5) * y - 0.5)
        return Intrinsics((self.focal[0] * x, self.focal[1] * y), centre, self.fixation)

    def rays(self, size: tuple[int, int]) -> Tensor:
        """(3, H, W) what each pixel's centre looks along, z = 1."""
        x = (torch.arange(size[1]) - self.centre[0]) / self.focal[0]
        y = (torch.arange(size[0])[:, None] - self.centre[1]) / self.focal[1]
        return torch.stack(torch.broadcast_tensors(x, y, torch.ones(size)))


def normals_from_depth(
    depth: Tensor, focal: tuple[float, float], centre: tuple[float, float], reach: int = 7
) -> Tensor:
    """Unit normals, towards the camera, of planes fitted to the depths around each pixel by least squares.

    A plane's inverse depth is linear in the image, and a structured-light camera's errors are alike in inverse depth;
    so one line fit along each axis does it. (Eigen and Fergus, ICCV 2015, fit planes to points likewise.) The unit of
    the depth does not matter.

    Args:
        depth: Metres along the optical axis, (1, H, W), NaN where missing.
        focal: Focal lengths along x and y, in pixels.
        centre: Where the optical axis meets the image, x and y in pixels counted from 0.
        reach: The window is 2 * reach + 1 pixels on each side.

    Returns:
        (3, H, W), x right, y down, z forward. NaN at the border, where a depth in the window is missing, and where the
        window is not a plane (deviations above 2 % of the inverse depth).
    """
    return normals_of_planes(inverse_planes(depth, reach), focal, centre, reach)


def inverse_planes(depth: Tensor, reach: int) -> Tensor:
    """The fits of ``normals_from_depth``, which need no camera: (3, H, W) inverse depth and its slopes along x and y.

    The border of ``reach`` pixels is cut off; NaN where a depth in the window is missing or the window is not a plane.
    """
    inverse = 1 / depth
    spread = reach * (reach + 1) / 3  # the mean square of the offsets -reach ... reach
    windows = _moments(_moments(torch.cat([inverse, inverse.square()]), -2, reach), -1, reach)
    (mean, slope_x), slope_y, square = windows[:, 0, 0], windows[0, 1, 0], windows[0, 0, 1]  # along x, y, which map
    slope_x, slope_y = slope_x / spread, slope_y / spread
    residual = square - mean.square() - spread * (slope_x.square() + slope_y.square())
    return torch.where(residual < (0.02 * mean).square(), torch.stack([mean, slope_x, slope_y]), torch.nan)


def normals_of_planes(planes: Tensor, focal: tuple[float, float], centre: tuple[float, float], reach: int) -> Tensor:
    """The normals (3, H, W) of ``inverse_planes`` seen by a camera, NaN at the border that was cut off."""
    mean, slope_x, slope_y = planes
    height, width = mean.shape
    x = torch.arange(width, dtype=mean.dtype) + reach - centre[0]
    y = (torch.arange(height, dtype=mean.dtype) + reach - centre[1])[:, None]
    plane = torch.stack([slope_x * focal[0], slope_y * focal[1], mean - slope_x * x - slope_y * y])
    return F.pad(-F.normalize(plane, dim=0), [reach] * 4, value=float("nan"))


def _moments(maps: Tensor, axis: int, reach: int) -> Tensor:
    """Averages over windows along an axis, of the values and of offset times value: (2, ...), the axis shortened."""
    length = maps.shape[axis] - 2 * reach
    sums = torch.zeros(2, *(length if dim == axis % maps.dim() else side for dim, side in enumerate(maps.shape)))
    for offset in range(-reach, reach + 1):
        part = maps.narrow(axis, reach + offset, length)
        sums[0] += part
        sums[1] += offset * part
    return sums / (2 * reach + 1)


def unit_normals(vectors: Tensor) -> Tensor:
    """Stored normals (3, ...) made of length 1; NaN where they are shorter than 0.5, which stands for none."""
    length = vectors.norm(dim=0)
    return torch.where(length > 0.5, vectors / length, torch.nan)


def depth_of_distance(distance: Tensor, camera: Intrinsics) -> Tensor:
    """Depth along the optical axis (1, H, W) of a distance from the camera's centre (1, H, W)."""
    lengths: Tensor = camera.rays((distance.shape[-2], distance.shape[-1])).norm(dim=0)
    return distance / lengths


def angles_between(normals: Tensor, reference: Tensor, axes: Tensor = AXES, least: int = 100) -> Tensor:
    """By each exchange of axes, median and mean of the angles between the normals so changed and others.

    The median is little disturbed by a few bad pixels; an axis that is reversed on few of them shows in the mean alone.

    Args:
        normals: Unit vectors (3, H, W), NaN where missing.
        reference: Those to compare with, likewise.
        axes: (N, 3, 3) exchanges.
        least: Fewer pixels that have both say nothing.

    Returns:
        (N, 2) degrees, NaN where too few pixels have both.
    """
    valid = ~(normals.isnan().any(0) | reference.isnan().any(0))
    if int(valid.sum()) < least:
        return torch.full((len(axes), 2), torch.nan)
    here, there = _thinned(normals[:, valid]), _thinned(reference[:, valid])
    cosine = (axes @ here * there).sum(1)
    angles = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    return torch.stack([angles.median(dim=1).values, angles.mean(1)], 1)


def _thinned(vectors: Tensor, most: int = 4000) -> Tensor:
    return vectors[:, :: max(1, -(-vectors.shape[1] // most))]


def axes_name(axes: Tensor) -> str:
    """In words what an exchange of axes does: "z reversed", or "(x, -z, y) in place of (x, y, z)"."""
    sources, signs = axes.abs().argmax(1).tolist(), axes.sum(1).tolist()
    if sources == [0, 1, 2]:
        reversed_axes = [name for name, sign in zip("xyz", signs, strict=True) if sign < 0]
        return f"{_listed(reversed_axes)} reversed" if reversed_axes else "as read"
    named = ", ".join(("-" if sign < 0 else "") + "xyz"[source] for source, sign in zip(sources, signs, strict=True))
    return f"({named}) in place of (x, y, z)"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def facing_away(normals: Tensor, camera: Intrinsics, axes: Tensor = AXES[:1]) -> Tensor:
    """By each exchange of axes, the share of normals that point away from the camera, though it sees their surface.

    Args:
        normals: Unit vectors (3, H, W), NaN where missing.
        camera: Which one.
        axes: (N, 3, 3) exchanges; none by default.

    Returns:
        (N,), NaN without a normal.
    """
    valid = ~normals.isnan().any(0)
    vectors, rays = (_thinned(t[:, valid]) for t in (normals, camera.rays((normals.shape[-2], normals.shape[-1]))))
    return (((axes @ vectors) * rays).sum(1) > 0).float().mean(1)


def share_along(normals: Tensor, frame: Tensor, within: float = 5.0, axes: Tensor = AXES) -> Tensor:
    """By each exchange of axes, the share of normals that lie along a direction of a scene, either way.

    Args:
        normals: Unit vectors (3, H, W), NaN where missing.
        frame: Three directions (9,) or (3, 3).
        within: Degrees.
        axes: (N, 3, 3) exchanges.

    Returns:
        (N,), NaN without a normal.
    """
    vectors = _thinned(normals[:, ~normals.isnan().any(0)])
    cosine = (frame.reshape(3, 3) @ (axes @ vectors)).abs().amax(1)
    return (cosine > torch.deg2rad(torch.tensor(within)).cos()).float().mean(1)


def rotation_matrix(vector: Tensor) -> Tensor:
    """(3, 3) of a rotation vector (3,), radians."""
    x, y, z = vector.double().tolist()
    turn: Tensor = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    return turn


def axis_meeting(pose: Tensor) -> tuple[float, float, float]:
    """Where the optical axes of two cameras come nearest to each other.

    Args:
        pose: (6,) rotation vector and centre of the second camera in the first one's frame.

    Returns:
        How far along the first axis, how far apart the axes pass there, both in the pose's unit, and the angle between
        them in degrees.
    """
    axis, centre = rotation_matrix(pose[:3])[:, 2], pose[3:].double()
    cosine = float(axis[2])
    across = 1 - cosine**2
    if across < 1e-12:
        return float("inf"), float(centre[:2].norm()), 0.0
    along, onward = float(centre[2]), float(axis @ centre)
    first, second = (along - cosine * onward) / across, (cosine * along - onward) / across
    gap = centre + second * axis - torch.tensor([0.0, 0.0, first], dtype=torch.float64)
    angle = float(torch.rad2deg(torch.atan2(torch.tensor(across).sqrt(), torch.tensor(cosine))))
    return first, float(gap.norm()), angle


def warped(image: Tensor, depth: Tensor, pose: Tensor, camera: Intrinsics) -> Tensor:
    """What a second view shows at the points that the first one sees.

    Args:
        image: The second view, (C, H, W).
        depth: Of the first, metres along its axis (1, H, W), NaN where missing.
        pose: (6,) the second camera in the first one's frame.
        camera: Of both.

    Returns:
        (C, H, W), NaN where the point is missing or lies outside the second view. What hides it there is not known.
    """
    height, width = depth.shape[-2:]
    turn = rotation_matrix(pose[:3]).float()
    points = (camera.rays((height, width)) * depth).flatten(1) - pose[3:, None]
    x, y, z = (turn.T @ points).reshape(3, height, width)
    column, row = x / z * camera.focal[0] + camera.centre[0], y / z * camera.focal[1] + camera.centre[1]
    seen = (z > 0) & (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    grid = torch.stack([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1], -1).nan_to_num(2.0)
    sampled = F.grid_sample(image[None], grid[None], align_corners=True)[0]
    return torch.where(seen, sampled, torch.nan)


def outside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Which points lie more than a pixel, which may be rounding, outside an image: (...) bool; NaN does not.

    Args:
        points: (..., 2) x and y in pixels.
        size: Height and width of the image.
    """
    return ((points < -1) | (points > points.new_tensor([size[1] + 1, size[0] + 1]))).any(-1)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """(n, 4) the smallest boxes around masks (n, H, W), from outer corner to outer corner; NaN for an empty mask."""
    from torchvision.ops import masks_to_boxes

    boxes = torch.full((len(masks), 4), torch.nan)
    full = masks.flatten(1).any(1)
    if full.any():
        boxes[full] = masks_to_boxes(masks[full]).float() + torch.tensor([0.0, 0.0, 1.0, 1.0])
    return boxes
