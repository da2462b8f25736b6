"""Taskonomy's files, written as its description says, read back; every number against the one written."""

import json
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from lightning_taskonomy.data.batch import SkipSample
from lightning_taskonomy.data.taskonomy import TaskonomyDataModule
from lightning_taskonomy.data.taskonomy.encodings import DOMAINS
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.tasks import IGNORE_INDEX, catalog, find
from lightning_taskonomy.tasks.catalog.taskonomy import OBJECTS

torch.set_num_threads(1)
SIZE = 16
BLENDER = np.diag([1.0, -1.0, -1.0])


def first_view(made: Any, keys: list[str], size: int = SIZE, **options: Any) -> dict[str, Tensor]:
    """Building corona, point 0, view 0: the first of the validation split."""
    data = TaskonomyDataModule(str(made.root), size=size, **options)
    return data.build("validation", keys)[0]


def pixels(made: Any, domain: str) -> np.ndarray:
    return np.asarray(Image.open(made.file(domain, "corona", 0, 0)))


def test_depth_is_metres_and_holes_are_missing(taskonomy: Any) -> None:
    sample = first_view(taskonomy, ["depth_z", "depth_euclidean"])
    stored = taskonomy.depth["corona", 0, 0].astype(np.float64)
    expected = torch.tensor(np.where(stored == 65535, np.nan, stored / 512)).float()
    torch.testing.assert_close(sample["depth_z"][0], expected, equal_nan=True)
    torch.testing.assert_close(sample["depth_euclidean"][0], expected + 100 / 512, equal_nan=True)
    assert int(sample["depth_z"].isnan().sum()) == 16
    image = torch.tensor(pixels(taskonomy, "rgb") / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(sample["image"], image)


def test_normals_are_unit_and_face_the_camera(taskonomy: Any) -> None:
    normals = first_view(taskonomy, ["normals"])["normals"]
    valid = ~normals[0].isnan()
    assert not valid[:4, :4].any() and valid.sum() == SIZE**2 - 16, "holes of the mesh have no normal"
    torch.testing.assert_close(normals.norm(dim=0)[valid], torch.ones(int(valid.sum())))
    assert (normals[2][valid] < 0).all()
    stored = pixels(taskonomy, "normal") / 127.5 - 1
    expected = stored / np.linalg.norm(stored, axis=-1, keepdims=True)
    torch.testing.assert_close(normals[:, valid], torch.tensor(expected).float().permute(2, 0, 1)[:, valid])


def test_normals_of_wall_floor_and_ceiling(taskonomy: Any) -> None:
    """What real files hold there: a frontal wall (127, 127, 0), a floor (127, 0, 127), a ceiling (127, 255, 127)."""
    known = {(127, 127, 0): [0, 0, -1], (127, 0, 127): [0, -1, 0], (127, 255, 127): [0, 1, 0]}
    for stored, normal in known.items():
        taskonomy.write(np.tile(np.array(stored, np.uint8), (SIZE, SIZE, 1)), "normal", "corona", 0, 0)
        read = first_view(taskonomy, ["normals"], mask_holes=False)["normals"]
        expected = torch.tensor(normal).float()[:, None, None].expand_as(read)
        torch.testing.assert_close(read, expected, atol=0.004, rtol=0)
    taskonomy.write(np.full((SIZE, SIZE, 3), 128, np.uint8), "normal", "corona", 0, 0)
    assert first_view(taskonomy, ["normals"], mask_holes=False)["normals"].isnan().all(), "grey is the background"


def differences(depth: Tensor, angle: float, apart: int = 4) -> Tensor:
    """Unit normals of points 2 * apart + 1 pixels apart along each axis, by the cross product, towards the camera."""
    size = depth.shape[-1]
    side = ((torch.arange(size) + 0.5) / size - 0.5) * 2 * math.tan(angle / 2)
    y, x = torch.meshgrid(side, side, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]) * depth
    across = points[:, apart:-apart, 2 * apart :] - points[:, apart:-apart, : -2 * apart]
    down = points[:, 2 * apart :, apart:-apart] - points[:, : -2 * apart, apart:-apart]
    normal = torch.linalg.cross(down, across, dim=0)
    return torch.nn.functional.pad(normal / normal.norm(dim=0), [apart] * 4, value=math.nan)


def test_normals_are_those_of_the_depth_and_the_floor_faces_up(box_room: Any) -> None:
    """A room of six known planes, written as the real files are: depth, normals and vanishing points fit each other."""
    data = TaskonomyDataModule(str(box_room.write()), size=box_room.size)
    samples = data.build("train", ["normals", "depth_z", "vanishing_points"])
    floors = 0
    for index in range(len(samples)):
        sample = samples[index]
        by_depth, read = differences(sample["depth_z"], 1.18), sample["normals"]
        angles = torch.rad2deg(torch.acos((by_depth * read).sum(0).clamp(-1, 1)))
        assert angles[~angles.isnan()].median() < 1.2
        down = sample["vanishing_points"].reshape(3, 3)[1]
        upward = read[:, (read * -down[:, None, None]).sum(0) > 0.9]
        if upward.shape[1] > 100:
            floors += 1
            floor = torch.nn.functional.normalize(upward.mean(1), dim=0)
            assert torch.rad2deg(torch.acos(floor @ -down)) < 1
    assert floors >= 2


def test_other_dense_labels(taskonomy: Any) -> None:
    keys = ["curvature", "reshading", "edges_2d", "edges_occlusion", "keypoints_2d", "keypoints_3d", "segments_2d"]
    sample = first_view(taskonomy, keys, mask_holes=False)
    curvature = torch.tensor((pixels(taskonomy, "principal_curvature")[..., :2] - 127.0) / 127).permute(2, 0, 1)
    torch.testing.assert_close(sample["curvature"], curvature.float())
    torch.testing.assert_close(
        sample["reshading"][0], torch.tensor(pixels(taskonomy, "reshading")[..., 0] / 255).float()
    )
    for key, domain in (("edges_2d", "edge_texture"), ("keypoints_3d", "keypoints3d")):
        torch.testing.assert_close(sample[key][0], torch.tensor(pixels(taskonomy, domain) / 65535).float())
    segments, stored = sample["segments_2d"].flatten(), torch.tensor(pixels(taskonomy, "segment_unsup2d")).flatten()
    assert torch.equal(segments[:, None] == segments, stored[:, None] == stored), "the same partition"


def test_300_segments_stay_apart(taskonomy: Any) -> None:
    """In 16 bits and in colours; ids are whole numbers, all different."""
    numbers = np.arange(320).reshape(16, 20) * 181
    colours = np.stack([numbers // 256, numbers % 256, 0 * numbers], -1).astype(np.uint8)
    for stored in (numbers.astype(np.uint16), colours):
        taskonomy.write(stored, "segment_unsup2d", "corona", 0, 0)
        segments = DOMAINS["segments_2d"].read(taskonomy.file("segment_unsup2d", "corona", 0, 0))
        assert segments.dtype == torch.int64 and len(segments.unique()) == 320 and (segments >= 0).all()


def test_holes_mask_only_what_the_mesh_says(taskonomy: Any) -> None:
    keys = ["reshading", "edges_occlusion", "edges_2d", "segments_25d", "semantic"]
    sample = first_view(taskonomy, keys)
    assert sample["reshading"][0, :4, :4].isnan().all() and sample["edges_occlusion"][0, :4, :4].isnan().all()
    assert (sample["segments_25d"][:4, :4] == -100).all()
    assert not sample["edges_2d"].isnan().any()


def test_semantics(taskonomy: Any) -> None:
    sample = first_view(taskonomy, ["semantic", "object_class", "scene_class"])
    stored = torch.tensor(pixels(taskonomy, "segment_semantic").astype(np.int64))
    assert torch.equal(sample["semantic"], torch.where(stored == 0, -100, stored - 1))
    task = find("taskonomy.semantic_segmentation")
    assert task.channels == 17 and task.class_names is not None and task.class_names[0] == "background"
    objects = np.load(taskonomy.file("class_object", "corona", 0, 0, ".npy"))
    assert int(sample["object_class"]) == objects.argmax() and sample["object_class"].shape == ()
    scenes = np.load(taskonomy.file("class_scene", "corona", 0, 0, ".npy"))
    names = find("taskonomy.scene_classification").class_names
    assert names is not None and len(names) == 63
    kept = {203: "kitchen", 52: "bedroom", 363: "youth hostel"}
    for number, name in kept.items():
        scenes[:] = 0
        scenes[number] = 1
        np.save(taskonomy.file("class_scene", "corona", 0, 0, ".npy"), scenes)
        assert names[int(first_view(taskonomy, ["scene_class"])["scene_class"])] == name


def test_the_100_objects_are_the_authors_among_imagenets_1000(taskonomy: Any) -> None:
    """By the numbers of torchvision's classes and the WordNet names of timm's."""
    from timm.data import ImageNetInfo
    from torchvision.models import ResNet152_Weights

    task, imagenet, numbers = find("taskonomy.object_classification_100"), ImageNetInfo(), list(OBJECTS)
    assert task.class_names is not None and task.channels == len(set(numbers)) == 100 and numbers == sorted(numbers)
    categories = ResNet152_Weights.DEFAULT.meta["categories"]
    assert [categories[number] for number in numbers] == list(task.class_names)
    some = {0: "n02672831", 3: "n02747177", 23: "n03179701", 42: "n03637318", 97: "n07579787", 99: "n15075141"}
    for place, synset in some.items():  # lines of imagenet_selected_classes.txt in StanfordVL/taskonomy
        assert imagenet.index_to_label_name(numbers[place]) == synset
    file = taskonomy.file("class_object", "corona", 0, 0, ".npy")
    outputs = np.zeros(1000)
    outputs[[0, 526, 620]] = [9, 1, 2]  # a tench is none of the 100, so the laptop is the most probable one
    np.save(file, outputs)
    sample = first_view(taskonomy, ["object_class", "object_class_100"])
    assert int(sample["object_class"]) == 0 and task.class_names[int(sample["object_class_100"])] == "laptop"


@pytest.mark.parametrize("count", [1, 63, 365])
def test_a_file_of_another_number_of_classes_is_no_label(taskonomy: Any, count: int, caplog: Any) -> None:
    np.save(taskonomy.file("class_object", "corona", 0, 0, ".npy"), np.full(count, 1 / count))
    sample = first_view(taskonomy, ["object_class", "object_class_100"])
    assert int(sample["object_class"]) == int(sample["object_class_100"]) == IGNORE_INDEX
    assert f"damaged ({count} class probabilities instead of 1000)" in caplog.text


def test_object_255_of_1000_is_learnt_and_measured(taskonomy: Any) -> None:
    """Its number stands for missing labels in many files of other data sets, not here."""
    outputs = np.zeros(1000)
    outputs[255] = 1
    np.save(taskonomy.file("class_object", "corona", 0, 0, ".npy"), outputs)
    target = first_view(taskonomy, ["object_class"])["object_class"][None]
    assert target.tolist() == [255]
    task, preds = find("taskonomy.object_classification"), torch.zeros(1, 1000, requires_grad=True)
    error, valid = objective(task).errors(preds, target)
    assert valid.all() and float(error.detach()) == pytest.approx(np.log(1000))
    error.sum().backward()
    assert preds.grad is not None and int(preds.grad.argmin()) == 255
    for predicted, accuracy in ((0, 0.0), (255, 1.0)):
        metric = objective(task).metrics(task)["accuracy"]
        metric.update(torch.eye(1000)[predicted][None], target)
        assert float(metric.compute()) == accuracy


def test_a_fixated_pair_meets_in_the_point(taskonomy: Any) -> None:
    """Both cameras see the point on their axis: the pose carries the one to the other."""
    sample = first_view(taskonomy, ["pair_fixated", "pose_fixated"])
    assert torch.equal(sample["pair_fixated"][0], sample["image"])
    point = taskonomy.points["corona", 0]
    distances = [np.linalg.norm(taskonomy.cameras["corona", 0, view][0] - point) for view in (0, 1)]
    pose = sample["pose_fixated"].double().numpy()
    seen = Rotation.from_rotvec(pose[:3]).apply([0, 0, distances[1]]) + pose[3:]
    np.testing.assert_allclose(seen, [0, 0, distances[0]], atol=1e-5)
    second = np.asarray(Image.open(taskonomy.file("rgb", "corona", 0, 1))) / 255
    torch.testing.assert_close(sample["pair_fixated"][1], torch.tensor(second).permute(2, 0, 1).float())


def test_a_nonfixated_pair_moves_world_points_rightly(taskonomy: Any) -> None:
    sample = first_view(taskonomy, ["pair_nonfixated"])
    pose = sample["pose_nonfixated"].double().numpy()
    world = np.array([0.3, -0.2, 0.7])
    local = {}
    for where in (("corona", 0, 0), ("corona", 1, 0), ("corona", 1, 1)):
        eye, turn = taskonomy.cameras[where]
        local[where] = BLENDER @ turn.T @ (world - eye)
    moved = {where: Rotation.from_rotvec(pose[:3]).apply(at) + pose[3:] for where, at in local.items()}
    errors = [np.abs(moved["corona", 1, view] - local["corona", 0, 0]).max() for view in (0, 1)]
    assert min(errors) < 1e-5, "its partner is one of the two views that see the point"
    partner = int(np.argmin(errors))
    picture = np.asarray(Image.open(taskonomy.file("rgb", "corona", 1, partner))) / 255
    torch.testing.assert_close(sample["pair_nonfixated"][1], torch.tensor(picture).permute(2, 0, 1).float())


def test_a_triplet_without_a_third_view_has_no_label(taskonomy: Any, caplog: pytest.LogCaptureFixture) -> None:
    sample = first_view(taskonomy, ["triplet", "egomotion"])
    assert sample["triplet"].shape == (3, 3, SIZE, SIZE) and sample["egomotion"].shape == (18,)
    assert sample["egomotion"].isnan().all() and "no other views" in caplog.text


def test_egomotion_closes(taskonomy: Any) -> None:
    for domain, suffix in (("rgb", ".png"), ("point_info", ".json")):
        content = taskonomy.file(domain, "corona", 1, 0, suffix).read_bytes()
        taskonomy.file(domain, "corona", 0, 2, suffix).write_bytes(content)
    poses = first_view(taskonomy, ["triplet", "egomotion"])["egomotion"].double().numpy().reshape(3, 6)
    first, second, direct = ((Rotation.from_rotvec(p[:3]), p[3:]) for p in poses)
    np.testing.assert_allclose((first[0] * second[0]).as_matrix(), direct[0].as_matrix(), atol=1e-5)
    np.testing.assert_allclose(first[0].apply(second[1]) + first[1], direct[1], atol=1e-5)


def test_points_match_in_half_of_the_pairs(taskonomy: Any) -> None:
    samples = TaskonomyDataModule(str(taskonomy.root), size=SIZE).build("train", ["pair_matching", "matching"])
    labels = set()
    for index in range(len(samples)):
        sample = samples[index]
        building, point = ("allens", "beech")[index // 6], index % 6 // 2
        same = taskonomy.file("rgb", building, point, 1 - index % 2)
        picture = torch.tensor(np.asarray(Image.open(same)) / 255).permute(2, 0, 1).float()
        assert bool(sample["matching"]) == torch.allclose(sample["pair_matching"][1], picture)
        labels.add(int(sample["matching"]))
    assert labels == {0, 1}


def test_vanishing_points_and_layout(taskonomy: Any) -> None:
    sample = first_view(taskonomy, ["vanishing_points", "room_layout"])
    eye, turn = taskonomy.cameras["corona", 0, 0]
    frame = sample["vanishing_points"].double().numpy().reshape(3, 3)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(frame) > 0.99
    np.testing.assert_allclose(frame[1], BLENDER @ turn.T @ [0, 0, -1], atol=1e-5, err_msg="down")
    assert frame[2, 2] > np.abs(frame[0, 2]), "forward is nearer to the viewing direction than right"

    layout = sample["room_layout"].double().numpy()
    box = np.array([[-4.0, 5.0], [-3.0, 6.0], [-1.5, 1.5]])
    corners = np.array([[x, y, z] for x in box[0] for y in box[1] for z in box[2]])
    expected = (corners - eye) @ turn @ BLENDER
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    vertices = layout[:3] + Rotation.from_rotvec(layout[6:]).apply(signs * layout[3:6])
    distance = np.linalg.norm(expected[:, None] - vertices, axis=-1)
    assert distance.min(0).max() < 1e-4 and distance.min(1).max() < 1e-4, "the same eight corners"
    np.testing.assert_allclose(Rotation.from_rotvec(layout[6:]).as_matrix().T, frame, atol=1e-5)


def test_pose_of_the_first_release(taskonomy: Any) -> None:
    """Metadata under points/..._domain_fixatedpose.json is found too, as are Omnidata's nested folders."""
    expected = first_view(taskonomy, ["pose_fixated"])["pose_fixated"]
    (taskonomy.root / "points").mkdir()
    for building in (taskonomy.root / "point_info").iterdir():
        building.rename(taskonomy.root / "points" / building.name)
    (taskonomy.root / "point_info").rmdir()
    for file in (taskonomy.root / "points").glob("*/*.json"):
        file.rename(file.with_name(file.name.replace("point_info", "fixatedpose")))
    (taskonomy.root / "rgb").rename(taskonomy.root / "taskonomy")
    (taskonomy.root / "rgb").mkdir()
    (taskonomy.root / "taskonomy").rename(taskonomy.root / "rgb" / "taskonomy")
    assert torch.equal(first_view(taskonomy, ["pose_fixated"])["pose_fixated"], expected)


def test_damaged_and_missing_files_are_listed_not_fatal(taskonomy: Any, caplog: pytest.LogCaptureFixture) -> None:
    truncated = taskonomy.file("normal", "corona", 0, 0)
    truncated.write_bytes(truncated.read_bytes()[:200])
    missing = taskonomy.file("class_scene", "corona", 0, 0, ".npy")
    missing.unlink()
    broken = taskonomy.file("point_info", "corona", 0, 0, ".json")
    broken.write_text('{"camera_location": ')
    picture = taskonomy.file("rgb", "corona", 0, 1)
    picture.write_bytes(picture.read_bytes()[:300])
    keys = ["normals", "depth_z", "scene_class", "vanishing_points"]
    samples: Any = TaskonomyDataModule(str(taskonomy.root), size=SIZE).build("validation", keys)
    with caplog.at_level(logging.WARNING):
        sample = samples[0]
        assert sample["normals"].isnan().all() and sample["normals"].shape == (3, SIZE, SIZE)
        assert int(sample["scene_class"]) == -100 and sample["vanishing_points"].isnan().all()
        assert not sample["depth_z"].isnan().all()
        with pytest.raises(SkipSample):
            samples[1]
        samples[0]
    problems = {problem.file: problem.reason for problem in samples.problems}
    assert problems.keys() == {truncated, missing, broken, picture}
    assert problems[missing] == "missing" and problems[truncated].startswith("damaged (")
    assert sum(str(truncated) in line for line in caplog.text.splitlines()) == 1, "said once"


def test_a_label_of_another_size_stops(taskonomy: Any) -> None:
    taskonomy.write(np.zeros((8, 12, 3), np.uint8) + 200, "normal", "corona", 0, 0)
    with pytest.raises(InputError, match=r"_domain_normal\.png is 12x8 pixels but its image .*_rgb\.png is 16x16"):
        first_view(taskonomy, ["normals"])


def test_resized_together(taskonomy: Any) -> None:
    keys = ["normals", "depth_z", "semantic", "pair_fixated", "pose_fixated"]
    sample = first_view(taskonomy, keys, size=8)
    assert {key: tuple(sample[key].shape) for key in keys} == {
        "normals": (3, 8, 8), "depth_z": (1, 8, 8), "semantic": (8, 8), "pair_fixated": (2, 3, 8, 8),
        "pose_fixated": (6,),
    }  # fmt: skip
    assert torch.equal(sample["pair_fixated"][0], sample["image"])


def test_both_spellings_of_names_are_read(taskonomy: Any) -> None:
    """The folder segment_semantic holds ``segmentsemantic``, class_scene ``class_places``; some have renamed them."""
    keys = ["semantic", "scene_class", "vanishing_points"]
    expected = first_view(taskonomy, keys)
    assert taskonomy.file("segment_semantic", "corona", 0, 0).name == "point_0_view_0_domain_segmentsemantic.png"
    assert (expected["semantic"] != -100).any() and expected["scene_class"] >= 0
    renamed = {"segmentsemantic": "segment_semantic", "class_places": "class_scene", "_point_info": "_fixatedpose"}
    for old, new in renamed.items():
        for file in taskonomy.root.glob(f"*/corona/*{old}.*"):
            file.rename(file.with_name(file.name.replace(old, new)))
    again = first_view(taskonomy, keys)
    assert all(torch.equal(again[key], expected[key]) for key in keys)


@pytest.mark.parametrize(("key", "folder"), [("normals", "normal"), ("semantic", "segment_semantic")])
def test_a_folder_in_which_no_file_is_named_rightly(taskonomy: Any, key: str, folder: str) -> None:
    for building in (taskonomy.root / folder).iterdir():
        for file in list(building.iterdir()):
            file.rename(file.with_name(file.name.replace("_domain_", "-")))
        (building / "._point_0_view_0_domain_normal.png").write_bytes(b"\x00\x05\x16\x07")
    with pytest.raises(InputError, match=rf"{folder}: no file is named BUILDING/point_P_view_V_domain_") as caught:
        first_view(taskonomy, [key])
    ending = {"normals": "normal", "semantic": "segmentsemantic"}[key]
    assert "there is corona/point_" in str(caught.value) and f"-{ending}.png" in str(caught.value)
    assert "\n" not in str(caught.value) and "._" not in str(caught.value)


def test_what_is_not_there_is_said(taskonomy: Any, tmp_path: Any) -> None:
    with pytest.raises(InputError, match="holds no images; expected"):
        TaskonomyDataModule(str(tmp_path / "nowhere")).build("train", ["image"])
    with pytest.raises(InputError, match=r"train_val_test_full\.csv is missing"):
        TaskonomyDataModule(str(taskonomy.root), partition="full").build("train", ["image"])
    with pytest.raises(InputError, match="no split 'val'; allowed: test, train, validation"):
        TaskonomyDataModule(str(taskonomy.root)).build("val", ["image"])
    (taskonomy.root / "keypoints3d").rename(taskonomy.root / "elsewhere")
    (taskonomy.root / "nonfixated_matches").rename(taskonomy.root / "nowhere")
    with pytest.raises(InputError, match="no folder 'nonfixated_matches', where 'pose_nonfixated' is from"):
        TaskonomyDataModule(str(taskonomy.root)).build("train", ["pose_nonfixated"])
    (taskonomy.root / "normal").rename(taskonomy.root / "normals")
    with pytest.raises(
        InputError, match="no folder 'normal', where 'normals' is; download it too; did you mean 'normals'"
    ):
        TaskonomyDataModule(str(taskonomy.root)).build("train", ["normals"])
    with pytest.raises(InputError, match="no folder 'keypoints3d'"):
        TaskonomyDataModule(str(taskonomy.root)).build("train", ["keypoints_3d"])
    bad = tmp_path / "bad.csv"
    bad.write_text("name,fold\nallens,1\n")
    with pytest.raises(InputError, match="id,train,val,test"):
        TaskonomyDataModule(str(taskonomy.root), split_file=str(bad)).build("train", ["image"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_split_file_with_a_mark_of_byte_order(taskonomy: Any, encoding: str) -> None:
    file = taskonomy.root / "train_val_test_tiny.csv"
    plain = TaskonomyDataModule(str(taskonomy.root)).build("train", ["image"])
    file.write_bytes("\r\n".join(file.read_text().splitlines()).encode(encoding))
    marked = TaskonomyDataModule(str(taskonomy.root)).build("train", ["image"])
    assert len(marked) == 12 and [v["id"] for v in marked] == [v["id"] for v in plain]
    file.write_text("id,train,val,test\nallens,1,0,0\n")
    with pytest.raises(InputError, match=r"tiny\.csv has no building of split 'test'"):
        TaskonomyDataModule(str(taskonomy.root)).build("test", ["image"])


def test_semantic_numbers_that_there_are_not(taskonomy: Any) -> None:
    label = pixels(taskonomy, "segment_semantic").copy() % 18
    label[0, :3] = 18
    taskonomy.write(label, "segment_semantic", "allens", 0, 0)
    with pytest.raises(
        InputError, match=r"segmentsemantic\.png holds class 18 at 3 of \d+ pixels, but there are 1 to 17"
    ):
        TaskonomyDataModule(str(taskonomy.root)).build("train", ["semantic"])[0]


def test_absent_buildings_are_counted(taskonomy: Any, caplog: pytest.LogCaptureFixture) -> None:
    with (taskonomy.root / "train_val_test_tiny.csv").open("a") as file:
        file.write("zion,1,0,0\n")
    samples = TaskonomyDataModule(str(taskonomy.root), size=SIZE).build("train", ["image"])
    assert len(samples) == 12 and "1 of 3 buildings of split train are not there, the first is zion" in caplog.text


def test_ids_are_stable_and_distinct(taskonomy: Any) -> None:
    data = TaskonomyDataModule(str(taskonomy.root), size=SIZE)
    ids = {split: [int(samples[i]["id"]) for i in range(len(samples))] for split in ("train", "validation", "test")
           for samples in [data.build(split, ["image"])]}  # fmt: skip
    assert len({*ids["train"], *ids["validation"], *ids["test"]}) == 24
    for file in (taskonomy.root / "rgb" / "allens").glob("point_0_*"):
        file.unlink()
    assert [int(s["id"]) for s in map(data.build("train", ["image"]).__getitem__, range(10))] == ids["train"][2:]


def test_every_task_of_the_dictionary_has_its_keys(taskonomy: Any) -> None:
    data = TaskonomyDataModule(str(taskonomy.root), size=SIZE)
    tasks = [task for name, task in catalog().items() if "." not in name]
    keys = sorted({key for task in tasks for key in (task.input, task.target)})
    sample = data.dataset("validation", keys=keys)[0]
    assert sample.keys() == {*keys, "id"}
    assert json.dumps({key: list(sample[key].shape) for key in ("color_bins", "image_tiles")}) == (
        '{"color_bins": [4, 4], "image_tiles": [9, 3, 5, 5]}'
    )
