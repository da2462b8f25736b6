"""What the geometry of labels rests on, against planes, triangles and other libraries."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from lightning_taskonomy.data.geometry import (
    AXES,
    Intrinsics,
    angles_between,
    axes_name,
    axis_meeting,
    boxes_of_masks,
    depth_of_distance,
    facing_away,
    normals_from_depth,
    rotation_matrix,
    share_along,
    warped,
)

torch.set_num_threads(1)


def test_the_48_exchanges_of_axes() -> None:
    assert AXES.shape == (48, 3, 3) and len({tuple(axes.flatten().tolist()) for axes in AXES}) == 48
    torch.testing.assert_close(torch.linalg.det(AXES).abs(), torch.ones(48))
    torch.testing.assert_close(AXES @ AXES.mT, torch.eye(3).expand(48, 3, 3))
    assert torch.equal(AXES[0], torch.eye(3)) and axes_name(AXES[0]) == "as read"
    names = {
        "z reversed": [1, 2, -3], "x and y reversed": [-1, -2, 3], "x, y and z reversed": [-1, -2, -3],
        "(x, -z, y) in place of (x, y, z)": [1, -3, 2], "(y, z, x) in place of (x, y, z)": [2, 3, 1],
    }  # fmt: skip
    vector = torch.tensor([1.0, 2.0, 3.0])
    for name, image in names.items():
        (axes,) = (axes for axes in AXES if (axes @ vector).tolist() == image)
        assert axes_name(axes) == name


def test_a_lens() -> None:
    """A field of view of 90 degrees across 8 pixels: the outer edges lie at 45 degrees."""
    lens = Intrinsics.of_view((6, 8), math.pi / 2)
    rays = lens.rays((6, 8))
    torch.testing.assert_close(rays[0, 0], (torch.arange(8) + 0.5 - 4) / 4)
    torch.testing.assert_close(rays[1, :, 0], (torch.arange(6) + 0.5 - 3) / 4)
    half = lens.resized((6, 8), (3, 4)).rays((3, 4))
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(rays, 2))
    depth = torch.rand(1, 6, 8) + 1
    torch.testing.assert_close(depth_of_distance(depth * rays.norm(dim=0), lens), depth)


def test_angles_between_normals() -> None:
    """A third of the pixels 40 degrees off: the median is 0, the mean a third of 40; z turned round, as by hand."""
    turn = math.radians(40)
    normals = torch.tensor([0.0, 0.0, -1.0])[:, None, None].repeat(1, 15, 20)
    other = normals.clone()
    other[:, :5] = torch.tensor([math.sin(turn), 0.0, -math.cos(turn)])[:, None, None]
    angles = angles_between(normals, other)
    torch.testing.assert_close(angles[0], torch.tensor([0.0, 40 / 3]), atol=0.05, rtol=0)
    reversed_z = next(index for index, axes in enumerate(AXES) if axes_name(axes) == "z reversed")
    torch.testing.assert_close(angles[reversed_z], torch.tensor([180.0, (360 + 140) / 3]), atol=0.05, rtol=0)
    normals[:, 2:] = float("nan")
    assert angles_between(normals, other).isnan().all(), "40 pixels tell nothing"


def test_what_faces_the_camera_and_lies_along_directions() -> None:
    lens = Intrinsics.of_view((10, 10), math.radians(60))
    wall = torch.tensor([0.0, 0.0, -1.0])[:, None, None].repeat(1, 10, 10)
    wall[:, 7:] = torch.tensor([0.0, -1.0, 0.0])[:, None, None]
    assert facing_away(wall, lens).item() == 0 and facing_away(-wall, lens).item() == 1
    frame = torch.eye(3)
    tilted = torch.from_numpy(Rotation.from_euler("x", 20, degrees=True).as_matrix()).float()
    assert share_along(wall, frame)[0] == 1 and share_along(wall, tilted)[0] == 0


def test_where_two_axes_meet() -> None:
    """Both cameras look at a point 4 m ahead of the first; from 3 m aside it is 5 m away."""
    aside = math.atan2(3, 4)
    turn = Rotation.from_euler("y", -aside)
    pose = torch.tensor([*turn.as_rotvec(), 3.0, 0.0, 0.0]).float()
    torch.testing.assert_close(rotation_matrix(pose[:3]), torch.from_numpy(turn.as_matrix()), atol=1e-6, rtol=0)
    along, gap, angle = axis_meeting(pose)
    assert along == pytest.approx(4, abs=1e-5) and gap == pytest.approx(0, abs=1e-5)
    assert angle == pytest.approx(math.degrees(aside), abs=1e-4)
    assert axis_meeting(pose + torch.tensor([0, 0, 0, 0, 0.5, 0]))[1] == pytest.approx(0.5, abs=1e-5)
    assert axis_meeting(torch.tensor([0, 0, 0, 1.0, 0, 0]))[2] == 0, "parallel axes meet nowhere"


def test_a_second_view_of_a_wall() -> None:
    """A wall 2 m ahead, the second camera 0.25 m to the right: everything moves left by focal * 0.25 / 2 pixels."""
    lens = Intrinsics((40.0, 40.0), (31.5, 23.5))
    second = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    seen = warped(second, torch.full((1, 48, 64), 2.0), torch.tensor([0, 0, 0, 0.25, 0, 0]), lens)
    torch.testing.assert_close(seen[:, :, 5:], second[:, :, :-5], atol=1e-3, rtol=0)
    assert seen[:, :, :5].isnan().all()


def test_boxes_of_masks() -> None:
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 2:5, 1:7] = True
    masks[1, 0, 7] = True
    boxes = boxes_of_masks(masks)
    assert boxes[:2].tolist() == [[1, 2, 7, 5], [7, 0, 8, 1]] and boxes[2].isnan().all()
    assert boxes_of_masks(masks[:0]).shape == (0, 4)


def test_normals_of_planes() -> None:
    """Planes n . P = c seen by a camera, exactly; a step between two of them is missing."""
    focal, centre = (60.0, 70.0), (31.0, 25.0)
    x = (torch.arange(64) - centre[0]) / focal[0]
    y = (torch.arange(48)[:, None] - centre[1]) / focal[1]
    rays = torch.stack(torch.broadcast_tensors(x, y, torch.ones(48, 64)))
    for normal in ([0.0, 0.0, -1.0], [0.6, 0.0, -0.8], [0.1, -0.7, -0.7]):
        unit = torch.nn.functional.normalize(torch.tensor(normal), dim=0)
        depth = (-3 / torch.einsum("i,ihw->hw", unit, rays))[None]
        normals = normals_from_depth(depth, focal, centre, reach=3)
        assert normals[:, :3].isnan().all() and normals[:, :, -3:].isnan().all()
        inside = normals[:, 3:-3, 3:-3]
        torch.testing.assert_close(inside, unit[:, None, None].expand_as(inside), atol=1e-4, rtol=0)
    step = torch.where(torch.arange(64) < 32, 1.0, 3.0).expand(1, 48, 64)
    assert normals_from_depth(step, focal, centre, reach=3)[0, 10, 29:35].isnan().all()
    step = step.clone()
    step[0, 20, 10] = float("nan")
    assert normals_from_depth(step, focal, centre, reach=3)[0, 17:24, 7:14].isnan().all()
