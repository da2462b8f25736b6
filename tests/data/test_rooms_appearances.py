"""Rooms in seven appearances: geometry against independent recomputation, and the indoor one as it always was."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_taskonomy.commands.data import data_render
from lightning_taskonomy.data.rooms import RoomsDataModule, RoomsDataset, render_view
from lightning_taskonomy.data.rooms.appearances import appearance, names
from lightning_taskonomy.data.rooms.appearances.base import COMMON, Sight
from lightning_taskonomy.data.rooms.camera import Camera, choose
from lightning_taskonomy.data.rooms.objects import objects
from lightning_taskonomy.data.rooms.render import KEYS, View
from lightning_taskonomy.data.rooms.scene import build_room
from lightning_taskonomy.data.rooms.seeds import Stream, generator
from lightning_taskonomy.data.rooms.shading import geometry, radiance, visibility
from lightning_taskonomy.data.rooms.sheet import appearance_sheet
from lightning_taskonomy.data.transforms import Joint
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import LabelKind, TaskKind, targets_of
from lightning_taskonomy.tasks.catalog import catalog, find
from lightning_taskonomy.tasks.catalog import rooms as tasks

torch.set_num_threads(1)
SEVEN = ("aerial", "close_up", "consumer", "driving", "indoor", "synthetic", "underwater")
each = pytest.mark.parametrize("name", SEVEN)


def _levels(prims: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, P) of points and primitives: 1 on the surface, less inside; from the implicit equations of the shapes."""
    local = points[:, None] - prims[None, :, 1:4]
    cos, sin = prims[None, :, 7], prims[None, :, 8]
    x, z = cos * local[..., 0] - sin * local[..., 2], sin * local[..., 0] + cos * local[..., 2]
    x, y, z = np.moveaxis((np.stack([x, local[..., 1], z], -1) / prims[None, :, 4:7]) ** 2, -1, 0)
    stands, lies = np.maximum(x + z, y), np.maximum(y + z, x)
    shapes = np.broadcast_to(prims[None, :, 0].astype(int), x.shape)
    return np.sqrt(np.choose(shapes, [np.maximum(np.maximum(x, y), z), x + y + z, stands, lies]))


def test_there_are_seven() -> None:
    assert names() == SEVEN
    with pytest.raises(InputError, match=r"no appearance 'arial'; did you mean 'aerial'.*allowed: aerial, close_up"):
        RoomsDataModule(appearance="arial")


def test_indoor_pictures_are_those_of_before() -> None:
    """Bit for bit what the parts give that there were before the appearances, put together as ``View`` did then."""
    building, view, size = 3, 1, 48
    rng = generator(Stream.CAMERA, building, view)
    room = build_room(building, int(rng.integers(3)))
    camera = choose(room, rng)
    tables = room.prims, room.nodes, room.size, room.lights, room.sun
    pixels = geometry(*tables[:3], camera.eye, camera.axes, camera.focal, size)
    light = radiance(
        *tables, camera.eye, camera.axes, camera.focal, pixels, visibility(*tables, pixels, size, 2), size, 2
    )
    rng = np.random.default_rng(np.random.SeedSequence((4, building, view, 0)))
    balance, level = 1 + rng.normal(0, 0.02, 3), np.mean(np.minimum(light, 2.0)) ** 0.8
    light = light * balance * (0.46 * np.exp(rng.normal(0, 0.1)) / max(level, 0.02))
    light = light**1.12 * 1.12
    light = light * (1 + light / 2.4**2) / (1 + light)
    noise = rng.standard_normal(light.shape, np.float32)
    signal = np.clip(light, 0, 1) ** (1 / 2.1) + noise * (0.005 + 0.008 * np.sqrt(np.clip(light, 0, 1)))
    picture = np.clip(np.rint(signal * 255), 0, 255).astype(np.uint8).T.reshape(3, size, size)
    given = View(building, view, size, 2).render(["image", "depth_z"])
    np.testing.assert_array_equal(given["image"], picture)
    np.testing.assert_array_equal(given["depth_z"], pixels[:, 0].reshape(1, size, size).astype(np.float32))
    sample = RoomsDataset([building], 2, size)[1]
    steps = np.rint(given["depth_z"].astype(np.float64) * 4096).astype(np.uint16)
    np.testing.assert_array_equal(sample["depth_z"], steps.astype(np.float32) * np.float32(1 / 4096))


def test_a_cache_of_indoor_rooms_is_the_one_of_before(tmp_path: Path) -> None:
    cache = RoomsDataset([1, 2], 2, 32, cache=tmp_path).cache
    other = RoomsDataset([1, 2], 2, 32, cache=tmp_path, appearance="aerial").cache
    assert cache is not None and other is not None
    assert cache.configuration.keys() == {"data", "version", "buildings", "views", "size", "samples", "count", "format"}
    assert cache.folder != other.folder


@each
def test_depth_puts_each_pixel_on_a_surface_of_its_class(name: str) -> None:
    seen = View(4, 1, 32, 1, name)
    labels = seen.render(["depth_z", "depth_euclidean", "semantic"])
    depth, prims, unit = labels["depth_z"][0].astype(float), seen.room.prims, seen.room.unit
    endless = np.isin(labels["semantic"], [tasks.CLASSES.index(one) for one in appearance(name).endless])
    np.testing.assert_array_equal(np.isnan(depth), endless)
    assert np.nanmax(labels["depth_euclidean"]) < appearance(name).reach
    world = seen.camera(0).back_project(np.nan_to_num(depth, nan=1.0) / unit)
    distance = np.linalg.norm(world - seen.camera(0).eye, axis=1).reshape(depth.shape) * unit
    np.testing.assert_allclose(labels["depth_euclidean"][0][~endless], distance[~endless], rtol=1e-5)
    levels, faces = _levels(prims[6:], world), np.abs(world / seen.room.size)
    shell = (world[:, 1] < 1e-4) | (faces.max(1) > 1 - 1e-4)
    on = np.abs(levels - 1) < 2e-3
    for k in np.flatnonzero(~endless.ravel()):
        classes = {*prims[6:][on[k], 20], *(prims[:6, 20] if shell[k] else ())}
        assert labels["semantic"].ravel()[k] in classes
        assert levels[k].min() > 1 - 2e-3  # inside nothing


@each
def test_boxes_are_tight_around_what_is_seen(name: str) -> None:
    seen = View(6, 0, 64, 1, name)
    labels = seen.render(["boxes", "object_classes", "semantic"])
    instances = seen.room.prims[seen.pixels()[:, 1].astype(int), 21].reshape(64, 64)
    expected = set()
    for number in np.unique(instances):
        rows, columns = np.nonzero(instances == number)
        semantic = tasks.CLASSES[labels["semantic"][rows[0], columns[0]]]
        if semantic not in tasks.STUFF and len(rows) >= 5:  # above a thousandth of the pixels
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            expected.add((*map(float, box), float(tasks.THINGS.index(semantic))))
    assert expected
    assert {tuple(row) for row in np.c_[labels["boxes"], labels["object_classes"]].tolist()} == expected
    assert labels["boxes"].dtype == np.float32 and labels["object_classes"].dtype == np.int64


def _corners(part: np.ndarray, camera: Camera) -> dict[str, np.ndarray]:
    """The points of a primitive by name: all corners, then named by where they lie from the viewer."""
    towards = (camera.axes[1] - camera.axes[2]) * [1, 0, 1]
    half, shape = part[4:7], int(part[0])
    axes = np.array([[part[7], 0, -part[8]], [part[8], 0, part[7]]])  # its x and z in the world
    if shape in (1, 2) and np.isclose(half[0], half[2], rtol=0):  # round: it has no sides
        towards = towards / np.linalg.norm(towards)
        axes = np.array([np.cross([0, 1, 0], towards), towards])
    scale = {0: (1, 1, 1), 1: (3**-0.5,) * 3, 2: (2**-0.5, 1, 2**-0.5), 3: (1, 2**-0.5, 2**-0.5)}[shape]
    near = max((*axes, *-axes), key=lambda axis: axis @ towards)
    right = np.cross([0, 1, 0], near)
    named = {}
    for signs in np.ndindex(2, 2, 2):
        x, y, z = (2 * np.array(signs) - 1) * scale * half
        offset = x * axes[0] + z * axes[1]
        words = ["right" if offset @ right > 0 else "left", "top" if y > 0 else "bottom"]
        words.append("near" if offset @ near > 0 else "far")
        named[" ".join(words)] = part[1:4] + offset + [0, y, 0]
    return named


def _largest_parts(seen: View) -> list[np.ndarray]:
    """The largest primitive of each object, those that cover most pixels first."""
    prims = seen.room.prims
    areas = np.bincount(prims[seen.pixels()[:, 1].astype(int), 21].astype(int))
    parts = []
    for number in np.argsort(-areas, kind="stable"):
        rows = prims[prims[:, 21] == number]
        if areas[number] > len(seen.pixels()) / 1000 and tasks.CLASSES[int(rows[0, 20])] not in tasks.STUFF:
            parts.append(rows[np.argmax(rows[:, 4] * rows[:, 5] * rows[:, 6])])
    return parts


@each
def test_points_are_corners_that_the_picture_shows(name: str) -> None:
    """A marked point has the depth of a pixel around it; one that is not has something nearer in front of it.

    Not all: the picture's pixels miss what is thinner than they are.
    """
    agree, marked, hidden = 0, 0, 0
    for building in range(2):
        seen = View(building, 0, 256, 1, name)
        points, parts = seen.render(["points"])["points"].astype(float), _largest_parts(seen)
        assert len(points) == len(parts)
        depth = seen.pixels()[:, 0].reshape(256, 256)
        for part, given in zip(parts, points, strict=True):
            corners = _corners(part, seen.camera(0))
            world = np.array([corners[point] for point in tasks.POINTS])
            np.testing.assert_allclose(_levels(part[None], world), 1)  # on the surface
            for (x, y, z), place in zip(seen.camera(0).project(world, 256), given, strict=True):
                inside = z > 0 and 0 <= x <= 256 and 0 <= y <= 256
                column, row = np.clip((int(x), int(y)) if inside else (0, 0), 0, 255)
                around = depth[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                if np.isfinite(place).all():
                    assert inside
                    np.testing.assert_allclose(place, (x, y), atol=1e-3)
                    marked += 1
                    agree += bool((np.abs(around - z) < 0.03 * z).any())
                elif inside:
                    hidden += 1
                    agree += bool(around.min() < z)
    assert marked >= 4 and hidden >= 4
    assert agree >= 0.96 * (marked + hidden)


@each
def test_a_mirrored_picture_has_the_points_of_the_mirrored_scene(name: str) -> None:
    seen, flip = View(2, 1, 64, 1, name), np.array([-1.0, 1, 1])
    room, camera = seen.room, seen.camera(0)
    prims, nodes = room.prims.copy(), room.nodes.copy()
    prims[:, 1] *= -1
    prims[:, 8] *= -1
    nodes[:, [0, 3]] = -nodes[:, [3, 0]]
    axes = camera.axes * flip * np.array([[-1], [1], [1]])
    mirrored = Camera(camera.eye * flip, axes, camera.focal)
    pixels = geometry(prims, nodes, room.size, mirrored.eye, mirrored.axes, mirrored.focal, 64)
    expected = objects(pixels, replace(room, prims=prims, nodes=nodes), mirrored)
    keys = ["boxes", "object_classes", "points"]
    sample = {key: torch.from_numpy(value) for key, value in seen.render(keys).items()}
    joint = Joint([v2.RandomHorizontalFlip(1)], targets_of([tasks.DETECTION, tasks.KEYPOINTS]))
    flipped = joint({"image": torch.zeros(3, 64, 64), **sample})
    for key in keys:
        np.testing.assert_allclose(flipped[key].numpy(), expected[key], atol=1e-3, err_msg=key)
    assert np.isfinite(expected["points"]).any()


@each
def test_a_cached_sample_is_the_rendered_one(name: str, tmp_path: Path) -> None:
    options = {"buildings": [3, 5], "views": 1, "size": 32, "samples": 1, "appearance": name}
    keys = sorted(COMMON - {"edges_2d", "keypoints_2d", "segments_2d"})
    cached = RoomsDataset(**options, keys=keys, cache=tmp_path)
    cached.prepare()
    for k in range(2):
        fresh, again = RoomsDataset(**options, keys=keys)[k], RoomsDataset(**options, keys=keys, cache=tmp_path)[k]
        assert fresh.keys() == {*keys, "id"} == again.keys()
        for key, value in fresh.items():
            torch.testing.assert_close(again[key], value, rtol=0, atol=0, equal_nan=True)
        assert fresh["boxes"].shape == (len(fresh["object_classes"]), 4)
        exact = render_view((3, 5)[k], 0, 32, ["depth_z"], samples=1, appearance=name)["depth_z"]
        np.testing.assert_allclose(fresh["depth_z"], exact, rtol=0, atol=appearance(name).reach / 65536)


@each
def test_batches_have_sets_of_objects(name: str) -> None:
    module = RoomsDataModule(
        appearance=name, size=32, views=2, train_buildings=2, samples=1, batch_size=2,
        keys=["image", "semantic", "depth_z", "boxes", "object_classes", "points"],
    )  # fmt: skip
    batch = next(iter(module.train_dataloader()))
    count = batch["boxes"].shape[1]
    assert batch["boxes"].shape == (2, count, 4)
    assert batch["object_classes"].shape == (2, count)
    assert batch["points"].shape == (2, count, 8, 2)
    assert batch["boxes_labelled"].all()
    assert set(module.own_tasks) >= set(tasks.FURTHER)
    assert module.targets["semantic"].channels == (21 if name == "indoor" else len(tasks.CLASSES))


def test_the_tasks_of_all_appearances() -> None:
    assert tasks.CLASSES[:21] == tasks.SEMANTIC_CLASSES
    assert tasks.THINGS[:18] == tasks.OBJECT_CLASSES
    assert sorted((*tasks.THINGS, *tasks.STUFF)) == sorted(tasks.CLASSES)
    assert find("rooms.detection") is tasks.DETECTION and find("rooms.keypoints") is tasks.KEYPOINTS
    assert "detection" not in catalog()
    assert {task.kind for task in tasks.FURTHER} == {TaskKind.SEGMENTATION, TaskKind.SET, TaskKind.DENSE}
    assert tasks.KEYPOINTS.targets["points"].kind is LabelKind.POINTS
    for name, place in zip(tasks.POINTS, tasks.MIRROR, strict=True):
        swapped = {"left": "right", "right": "left"}[name.split()[0]]
        assert tasks.POINTS[place] == " ".join([swapped, *name.split()[1:]])


def test_what_an_appearance_lacks_is_refused() -> None:
    assert set(RoomsDataModule(appearance="driving").keys_offered) == COMMON < KEYS
    with pytest.raises(InputError, match="rooms has no 'room_layout' of appearance 'driving'"):
        RoomsDataset([0], 1, 32, ["room_layout"], appearance="driving")
    with pytest.raises(InputError, match="rooms has no 'room_layout' of appearance 'driving'"):
        render_view(0, 0, 32, ["room_layout"], appearance="driving")
    with pytest.raises(InputError, match="no 'semantik'; did you mean 'semantic'"):
        render_view(0, 0, 32, ["semantik"])


@each
def test_scenes_do_not_repeat_those_of_other_appearances(name: str) -> None:
    pictures = [View(1, 0, 32, 1, other).image() for other in SEVEN]
    assert all((pictures[SEVEN.index(name)] != picture).any() for k, picture in enumerate(pictures) if SEVEN[k] != name)
    assert View(1, 0, 32, 1, name).image().std() > 10


def test_cameras_are_those_of_their_domains() -> None:
    down = np.array([0.0, -1, 0])
    for building in range(4):
        aerial, street = View(building, 0, 32, 1, "aerial"), View(building, 0, 32, 1, "driving")
        assert aerial.camera(0).axes[2] @ down > np.cos(np.radians(15))
        assert 20 < np.median(aerial.render(["depth_z"])["depth_z"]) < 65  # metres
        assert abs(street.camera(0).axes[2] @ down) < 0.15
        assert 1 < street.camera(0).eye[1] * street.room.unit < 2
        near = View(building, 0, 32, 1, "close_up").render(["boxes", "depth_z"])
        left, top, right, bottom = near["boxes"][0]
        assert max(right - left, bottom - top) > 0.4 * 32
        assert np.nanmin(near["depth_z"]) < 3
        classes = {tasks.CLASSES[k] for k in np.unique(street.render(["semantic"])["semantic"])}
        assert {"road", "building", "sky"} <= classes


def test_water_attenuates_exponentially_and_veils() -> None:
    """With r = L t + V (1 - t), t = exp(-b d): r - V falls by one factor over each further metre, fastest for red."""
    room = View(0, 0, 32, 1, "underwater").room

    def after(metres: float) -> np.ndarray:
        pixels = np.zeros((16, 15))  # normals of length 0: no caustics
        sight = Sight(room, View(0, 0, 32, 1, "underwater").camera(0), pixels, np.full(16, metres), _rng())
        medium = appearance("underwater").medium
        assert medium is not None
        return medium(np.full((16, 3), 0.9), sight)[0]

    veil, at = after(np.inf), [after(d) - after(np.inf) for d in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(at[0], 0.9 - veil, rtol=1e-6)
    np.testing.assert_allclose(at[1] ** 2, at[0] * at[2], rtol=1e-6)
    factors = at[1] / at[0]
    assert factors[0] < factors[1:].min()
    assert veil[0] < veil[1:].min()


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_synthetic_pictures_have_no_noise_and_few_colours() -> None:
    synthetic, indoor = (View(1, 0, 64, 1, name).image().reshape(3, -1) for name in ("synthetic", "indoor"))
    assert np.unique(synthetic, axis=1).shape[1] < 0.2 * np.unique(indoor, axis=1).shape[1]


def test_the_command_draws_an_appearance(tmp_path: Path) -> None:
    data_render(tmp_path / "sheet.png", size=32, buildings=1, samples=1, appearance="close_up")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 300
    with pytest.raises(InputError, match="no appearance 'closeup'; did you mean 'close_up'"):
        data_render(tmp_path / "sheet.png", appearance="closeup")


def test_sheet_has_a_row_per_appearance() -> None:
    one, two = (
        Image.open(io.BytesIO(appearance_sheet(rows, 32, dpi=30, samples=1, columns=1)))
        for rows in (["aerial"], ["aerial", "close_up"])
    )
    assert one.width == two.width and two.height > 1.8 * one.height
