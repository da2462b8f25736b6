"""Rooms against independent recomputation: geometry from depth, reprojection, closed forms."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from torch.utils.data import DataLoader

from lightning_taskonomy.data import pretext
from lightning_taskonomy.data.rooms import RoomsDataModule, RoomsDataset, render_view
from lightning_taskonomy.data.rooms.camera import look
from lightning_taskonomy.data.rooms.matching import PATCH, correspondences
from lightning_taskonomy.data.rooms.primitives import BALL, BOX, CYLINDER, Primitives
from lightning_taskonomy.data.rooms.render import KEYS, View
from lightning_taskonomy.data.rooms.shading import geometry
from lightning_taskonomy.data.rooms.sheet import label_sheet, picture_sheet
from lightning_taskonomy.data.rooms.style import gray
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import TaskKind
from lightning_taskonomy.tasks.catalog import catalog

torch.set_num_threads(1)
VIEWS = [(3, 0), (11, 1), (2_000_001, 2)]


@pytest.mark.parametrize("size", [32, 64])
def test_contract(size: int) -> None:
    sample = RoomsDataset([5], 1, size, RoomsDataset.available_keys, samples=1)[0]
    assert sample.keys() == RoomsDataset.available_keys | {"id"}
    tasks = [task for name, task in catalog().items() if "." not in name]
    assert len(tasks) == 26
    for task in tasks:
        target, picture = sample[task.target], sample[task.input]
        assert target.shape == task.label.shape((size, size)), task.name
        if task.is_classes:
            assert target.dtype == torch.int64
            if task.kind is not TaskKind.GROUPING:
                assert (((target >= 0) & (target < task.channels)) | (target == 255)).all(), task.name
        else:
            assert target.dtype == torch.float32
            assert target.isfinite().all(), task.name
        assert picture.dtype == torch.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        views = () if task.views == 1 else (task.views,)
        edge = size // 3 if task.input == "image_tiles" else size
        assert picture.shape == (*views, 3, edge, edge)
    for key in ("reshading", "edges_2d", "edges_occlusion", "keypoints_2d", "keypoints_3d"):
        assert 0 <= sample[key].min() < sample[key].max() <= 1, key
    assert (sample["curvature"][0] >= sample["curvature"][1]).all()
    assert sample["curvature"].abs().max() <= 20
    assert sample["depth_z"].min() > 0.05
    torch.testing.assert_close(sample["normals"].norm(dim=0), torch.ones(size, size), rtol=0, atol=1e-3)
    for key in ("segments_2d", "segments_25d"):
        assert sample[key].unique().tolist() == list(range(int(sample[key].max()) + 1))
        assert 2 <= len(sample[key].unique()) < 64
    for key in ("pair_fixated", "pair_nonfixated", "triplet"):
        assert torch.equal(sample[key][0], sample["image"])


def test_same_bits_whatever_the_order_the_keys_and_the_workers() -> None:
    rooms = RoomsDataset(
        [4, 9], 2, 32, ["image", "depth_z", "image_noisy", "pose_nonfixated", "segments_2d"], samples=1
    )
    forward = [rooms[k] for k in range(4)]
    backward = [rooms[k] for k in (3, 2, 1, 0)][::-1]
    loaded = list(DataLoader(rooms, batch_size=None, num_workers=1, multiprocessing_context="fork"))
    alone = RoomsDataset([9], 2, 32, ["depth_z"])[1]
    for first, second, third in zip(forward, backward, loaded, strict=True):
        for key in first:
            assert torch.equal(first[key], second[key]), key
            assert torch.equal(first[key], third[key]), key
    assert torch.equal(alone["depth_z"], forward[3]["depth_z"])
    assert torch.equal(alone["id"], forward[3]["id"])
    assert not torch.equal(forward[0]["image"], forward[1]["image"])


@pytest.mark.parametrize("place", VIEWS)
def test_normals_agree_with_depth(place: tuple[int, int]) -> None:
    size = 128
    seen = View(*place, size, 1)
    labels = seen.render(["depth_z", "normals"])
    points = seen.camera(0).back_project(labels["depth_z"][0].astype(np.float64)).reshape(size, size, 3)
    along, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    given = labels["normals"].transpose(1, 2, 0)[1:-1, 1:-1].astype(np.float64) @ seen.camera(0).axes
    angle = np.degrees(np.arccos(np.clip(-(normal * given).sum(-1), -1, 1)))
    index = seen.pixels()[:, 1].reshape(size, size)
    inner = np.all(
        [
            index[1:-1, 1:-1] == index[1 + a : size - 1 + a, 1 + b : size - 1 + b]
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
        ],
        0,
    )
    assert inner.mean() > 0.3
    assert np.median(angle[inner]) < 0.5  # the promise is 2 degrees
    assert np.percentile(angle[inner], 90) < 2
    rays = points[1:-1, 1:-1] - seen.camera(0).eye
    assert ((given * rays).sum(-1) < 0).all()  # they face the camera


@pytest.mark.parametrize("place", VIEWS)
def test_euclidean_depth(place: tuple[int, int]) -> None:
    seen = View(*place, 64, 1)
    labels = seen.render(["depth_z", "depth_euclidean"])
    points = seen.camera(0).back_project(labels["depth_z"][0].astype(np.float64))
    distance = np.linalg.norm(points - seen.camera(0).eye, axis=1)
    np.testing.assert_allclose(distance, labels["depth_euclidean"].ravel(), rtol=1e-5)
    np.testing.assert_allclose(points, seen.pixels()[:, 2:5], atol=1e-5)


@pytest.mark.parametrize(("second", "key"), [(1, "pose_fixated"), (2, "pose_nonfixated")])
@pytest.mark.parametrize("place", VIEWS)
def test_reprojection_by_depth_and_pose(place: tuple[int, int], second: int, key: str) -> None:
    """Points of view 0, moved by the pose into view 1: where view 1's depth agrees, it is the same surface point."""
    size = 96
    seen = View(*place, size, 1)
    labels = seen.render(["depth_z", key])
    matrix = seen.camera(0).intrinsics(size)
    v, u = np.mgrid[:size, :size] + 0.5
    depth = labels["depth_z"][0].astype(np.float64)
    points = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(matrix).T * depth.reshape(-1, 1)
    rotation, move = Rotation.from_rotvec(labels[key][:3]).as_matrix(), labels[key][3:]
    moved = (points - move) @ rotation  # X1 = R^T (X0 - t)
    projected = moved @ matrix.T
    projected = projected[:, :2] / projected[:, 2:]
    expected = seen.camera(second).project(seen.pixels()[:, 2:5], size)
    front = (expected[:, 2] > 0.1) & (moved[:, 2] > 0.1)
    assert np.abs(projected - expected[:, :2])[front].max() < 0.05
    other = seen.pixels(second)
    cell = np.floor(projected).astype(int)
    inside = front & (cell >= 0).all(1) & (cell < size).all(1)
    hit = cell[inside, 1] * size + cell[inside, 0]
    gap = np.linalg.norm(other[hit, 2:5] - seen.pixels()[inside, 2:5], axis=1)
    pixel = other[hit, 0] / (seen.camera(0).focal * size)
    facing = np.abs((other[hit, 5:8] * (other[hit, 2:5] - seen.camera(second).eye)).sum(1)) / np.linalg.norm(
        other[hit, 2:5] - seen.camera(second).eye, axis=1
    )
    assert inside.mean() > 0.2
    assert (gap * facing / pixel < 1).mean() > 0.5  # covisible: the surface seen there is within a pixel


def test_egomotion_composes() -> None:
    motion = render_view(7, 0, 32, ["egomotion"])["egomotion"].astype(np.float64).reshape(3, 6)
    rotations, moves = Rotation.from_rotvec(motion[:, :3]).as_matrix(), motion[:, 3:]
    np.testing.assert_allclose(rotations[0] @ rotations[1], rotations[2], atol=1e-6)
    np.testing.assert_allclose(rotations[0] @ moves[1] + moves[0], moves[2], atol=1e-6)


@pytest.mark.parametrize("place", VIEWS)
def test_fixated_pairs_look_at_one_point(place: tuple[int, int]) -> None:
    seen = View(*place, 33, 1)
    middle = 33 * 16 + 16
    np.testing.assert_allclose(seen.pixels(0)[middle, 2:5], seen.pixels(1)[middle, 2:5], atol=1e-3)
    assert np.linalg.norm(seen.camera(0).eye - seen.camera(1).eye) > 0.04


@pytest.mark.parametrize("place", VIEWS)
def test_vanishing_points_and_layout_follow_the_pose(place: tuple[int, int]) -> None:
    seen = View(*place, 64, 1)
    labels = seen.render(["vanishing_points", "room_layout", "normals", "semantic"])
    directions = labels["vanishing_points"].reshape(3, 3).astype(np.float64)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(directions), 1, atol=1e-6)
    assert directions[2, 2] > 0.6
    assert directions[0, 0] > 0
    assert directions[1, 1] > 0
    np.testing.assert_allclose(directions[1], seen.camera(0).axes @ [0, -1, 0], atol=1e-6)
    normals, semantic = labels["normals"].reshape(3, -1), labels["semantic"].ravel()
    aligned = np.abs(directions @ normals[:, semantic <= 2]).max(0)  # walls, floor, ceiling face one of the three
    np.testing.assert_allclose(np.median(aligned), 1, atol=1e-5)
    center, extents, turn = np.split(labels["room_layout"].astype(np.float64), 3)
    frame = Rotation.from_rotvec(turn).as_matrix()
    np.testing.assert_allclose(frame.T, directions, atol=1e-5)
    points = (seen.pixels()[:, 2:5] - seen.camera(0).eye) @ seen.camera(0).axes.T
    local = (points - center) @ frame
    assert (np.abs(local) < extents / 2 + 1e-3).all()  # the box holds all that is seen ...
    assert (np.abs(np.abs(local) - extents / 2).min(1) < 1e-3).mean() > 0.05  # ... and its faces are seen
    assert np.abs(np.abs(np.linalg.norm(turn))) < np.radians(70)


def _still(shape: int, half: tuple[float, float, float]) -> np.ndarray:
    parts = Primitives(np.random.default_rng(0))
    for label in ("floor", "ceiling", "wall", "wall", "wall", "wall"):
        parts.add(BOX, (0, 0, 0), (3, 1, 3), label, gray(0.5), instance=parts.instance())
    parts.add(shape, (0, 1.2, 0), half, "ball", gray(0.5), instance=parts.instance(), yaw=0.4)
    prims, nodes, _ = parts.table()
    camera = look(np.array([0.0, 1.2, -2.0]), np.array([0.0, 0.0, 1.0]), 0.0, 0.9)
    pixels = geometry(prims, nodes, np.array([3.0, 2.5, 3.0]), camera.eye, camera.axes, camera.focal, 65)
    return pixels[pixels[:, 1] == 6]


def test_ball_is_exact() -> None:
    pixels = _still(BALL, (0.4, 0.4, 0.4))
    assert len(pixels) > 100
    np.testing.assert_allclose(pixels[:, 10:12], 1 / 0.4, rtol=1e-6)
    radius = pixels[:, 2:5] - [0, 1.2, 0]
    np.testing.assert_allclose(np.linalg.norm(radius, axis=1), 0.4, rtol=1e-9)
    np.testing.assert_allclose(pixels[:, 5:8], radius / 0.4, atol=1e-9)


def test_cylinder_and_box_curvature() -> None:
    side = _still(CYLINDER, (0.3, 0.5, 0.3))
    side = side[np.abs(side[:, 6]) < 0.5]
    np.testing.assert_allclose(side[:, 10], 1 / 0.3, rtol=1e-6)
    np.testing.assert_array_equal(side[:, 11], 0)
    np.testing.assert_array_equal(_still(BOX, (0.3, 0.4, 0.2))[:, 10:12], 0)


def test_ellipsoid_curvature_agrees_with_finite_differences() -> None:
    """Weingarten map from normals at nearby points: dN = -S dP, eigenvalues k1, k2."""
    a, b, c = 0.5, 0.3, 0.4
    cos, sin = np.cos(0.4), np.sin(0.4)
    pixels = _still(BALL, (a, b, c))[::37]
    pixels = pixels[np.abs(pixels[:, 7]) > 0.3]

    def normal(p: np.ndarray) -> np.ndarray:
        q = p - [0, 1.2, 0]
        local = np.array([cos * q[0] - sin * q[2], q[1], sin * q[0] + cos * q[2]]) / np.square([a, b, c])
        world = np.array([cos * local[0] + sin * local[2], local[1], -sin * local[0] + cos * local[2]])
        return world / np.linalg.norm(world)

    for row in pixels:
        p, n = row[2:5], row[5:8]
        np.testing.assert_allclose(normal(p), n, atol=1e-9)
        u = np.cross(n, [0.3, 1, 0.2])
        u /= np.linalg.norm(u)
        frame = np.stack([u, np.cross(n, u)])
        shape = np.array([frame @ (normal(p + 1e-5 * e) - normal(p - 1e-5 * e)) / 2e-5 for e in frame])
        np.testing.assert_allclose(np.sort(np.linalg.eigvalsh((shape + shape.T) / 2))[::-1], row[10:12], rtol=1e-4)


def test_rays_agree_with_brute_force() -> None:
    """The tree of bounds leaves nothing out: marching along rays meets no surface before the one that was found."""
    seen = View(8, 0, 32, 1)
    rng = np.random.default_rng(1)
    prims, eye = seen.room.prims, seen.camera(0).eye
    for pixel in seen.pixels()[rng.integers(0, 32 * 32, 40)]:
        steps = eye + np.linspace(0.02, 0.998, 400)[:, None] * (pixel[2:5] - eye)
        local = steps[:, None] - prims[None, 6:, 1:4]
        cos, sin = prims[None, 6:, 7], prims[None, 6:, 8]
        x, z = cos * local[..., 0] - sin * local[..., 2], sin * local[..., 0] + cos * local[..., 2]
        unit = np.stack([x, local[..., 1], z], -1) / prims[None, 6:, 4:7]
        shape = prims[None, 6:, 0]
        square = unit**2
        level = np.where(shape == 0, square.max(-1), square.sum(-1))
        level = np.where(shape == 2, np.maximum(square[..., 0] + square[..., 2], square[..., 1]), level)
        level = np.where(shape == 3, np.maximum(square[..., 1] + square[..., 2], square[..., 0]), level)
        assert (level > 0.99).all()


def test_matching_patches_show_one_point() -> None:
    counts = {0: 0, 1: 0}
    for building in range(8):
        seen = View(building, 0, 96, 1)
        labels = seen.render(["pair_matching", "matching"])
        first, second = labels["pair_matching"].astype(float)
        counts[int(labels["matching"])] += 1
        assert first.shape == (3, 96, 96)
        if labels["matching"]:
            middle = slice(32, 64)
            a, b = first[:, middle, middle].mean((1, 2)), second[:, middle, middle].mean((1, 2))
            assert np.abs(a - b).mean() < 60
    assert counts[0] and counts[1]
    seen = View(1, 0, 64, 1)
    grid = np.stack(np.meshgrid(np.arange(64), np.arange(64)), -1).reshape(-1, 2).astype(float)
    where, visible = correspondences(grid, seen.pixels(0), seen.pixels(0), seen.camera(0))
    assert visible.all()  # a view matches itself everywhere
    np.testing.assert_allclose(where, grid, atol=1e-6)
    assert PATCH == 3


def test_views_are_full() -> None:
    """Of many views, nearly all show four classes of objects or more, and few are nose to wall."""
    classes, nearest = [], []
    for building in range(24):
        labels = render_view(building, 3, 32, ["semantic", "depth_z"])
        ids, counts = np.unique(labels["semantic"], return_counts=True)
        classes.append(int(((ids >= 3) & (counts >= 4)).sum()))
        nearest.append(float(np.median(labels["depth_z"])))
    assert np.mean(np.array(classes) >= 4) > 0.8, classes
    assert min(nearest) > 0.6, nearest


def test_splits_never_meet() -> None:
    module = RoomsDataModule(
        size=32, views=2, train_buildings=3, validation_buildings=2, test_buildings=2, batch_size=2
    )
    ids = {split: {int(s) for s in _ids(module, split)} for split in ("train", "validation", "test")}
    assert [len(ids[split]) for split in ids] == [6, 4, 4]
    assert not ids["train"] & ids["validation"] | ids["train"] & ids["test"] | ids["validation"] & ids["test"]
    with pytest.raises(InputError, match="no split 'trial'"):
        module.build("trial", ["image"])


def _ids(module: RoomsDataModule, split: str) -> list[torch.Tensor]:
    samples = module.build(split, ["scene_class"])
    return [samples[k]["id"] for k in range(len(samples))]


def test_batches_have_what_is_asked_for() -> None:
    module = RoomsDataModule(
        size=32, views=2, train_buildings=2, samples=1, batch_size=2, keys=["image_tiles", "permutation", "normals"]
    )
    batch = next(iter(module.train_dataloader()))
    assert batch.keys() == {"image_tiles", "permutation", "normals", "id"}
    assert batch["normals"].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 31}, "size is 31 pixels; allowed: 32 to 512"),
        ({"size": 1024}, "allowed: 32 to 512"),
        ({"samples": 0}, "samples is 0; allowed: 1 to 8"),
        ({"keys": ["depht_z"]}, "no 'depht_z'; did you mean 'depth_z'"),
        ({"views": 0}, "0 views per building"),
        ({"buildings": [-1]}, "must be 0 or more"),
    ],
)
def test_bad_input(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RoomsDataset(**{"buildings": [0], "views": 1, "size": 32, "keys": ["depth_z"], **options})[0]


def test_derived_keys_are_known() -> None:
    assert not KEYS & pretext.KEYS


def test_sheets_are_pictures_of_the_expected_size() -> None:
    picture = Image.open(io.BytesIO(picture_sheet([(1, 0), (1, 1), (2, 0)], 32, columns=2, samples=1)))
    assert picture.size == (64, 64)
    assert Image.open(io.BytesIO(label_sheet([(1, 0)], 32, dpi=30, samples=1))).width > 400
