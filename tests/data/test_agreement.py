"""Labels that geometry ties together: silent on right data, each planted disagreement named with what would fit."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lightning_taskonomy.commands.data import data_check
from lightning_taskonomy.data import RoomsDataModule, TaskDataModule
from lightning_taskonomy.data.agreement import Limits
from lightning_taskonomy.data.batch import Sample, Samples
from lightning_taskonomy.data.doctor import Report, check
from lightning_taskonomy.data.folder import Encoding, FolderDataModule
from lightning_taskonomy.data.geometry import rotation_matrix
from lightning_taskonomy.data.taskonomy import TaskonomyDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind, presence

torch.set_num_threads(1)
TIED = ["image", "depth_z", "depth_euclidean", "normals", "vanishing_points", "pair_fixated", "pose_fixated"]


class Changed:
    """Samples of which each is changed."""

    def __init__(self, samples: Any, change: Callable[[Sample], Sample], camera: bool = True) -> None:
        self.samples, self.change = samples, change
        if camera:
            self.camera = samples.camera

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.change(self.samples[index])


class ChangedRooms(RoomsDataModule):
    """Rooms whose labels were written by another convention."""

    def __init__(self, change: Callable[[Sample], Sample], camera: bool = True) -> None:
        super().__init__(size=64, views=3, train_buildings=2, validation_buildings=1, test_buildings=1, samples=1)
        self.change, self.known = change, camera

    def build(self, split: str, keys: Collection[str]) -> Samples:
        return Changed(super().build(split, keys), self.change, self.known)


def times(key: str, factor: Any) -> Callable[[Sample], Sample]:
    return lambda sample: sample | {key: sample[key] * torch.as_tensor(factor, dtype=torch.float32)}


def axes(x: float, y: float, z: float) -> Callable[[Sample], Sample]:
    return times("normals", [[[x]], [[y]], [[z]]])


def inverted(sample: Sample) -> Sample:
    pose = sample["pose_fixated"]
    turn = rotation_matrix(pose[:3]).float()
    return sample | {"pose_fixated": torch.cat([-pose[:3], -(turn.T @ pose[3:])])}


def rooms(change: Callable[[Sample], Sample], *keys: str, **options: Any) -> Report:
    return check(ChangedRooms(change, **options), splits=["train"], keys=keys or TIED)


def test_silent_on_rooms_as_they_are() -> None:
    report = rooms(dict)
    assert report.problems == []
    compared = "\n".join(report.splits["train"].compared)
    for labels in ("normals and depth_z", "vanishing_points", "pose_fixated meet", "pair_fixated", "depth_euclidean"):
        assert labels in compared
    assert report.to_dict()["splits"]["train"]["compared"] == report.splits["train"].compared
    assert rooms(dict, camera=False).problems == [], "with a fitted field of view"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (axes(1, 1, -1), ["z reversed fits at", "z reversed"]),
        (axes(1, -1, 1), ["y reversed fits at", "with y reversed"]),
        (axes(1, -1, -1), ["y and z reversed fits at"]),
        (lambda s: s | {"normals": s["normals"][[0, 2, 1]]}, ["(x, z, y) in place of (x, y, z) fits at"]),
        (times("depth_z", 1000 / 512), ["depth_z in the middle is 1.9", "their units differ"]),
        (lambda s: s | {"depth_z": s["depth_euclidean"]}, ["depth_z looks like distances from the camera"]),
        (inverted, ["pose_fixated", "with the pose inverted"]),
        (times("pose_fixated", [1, 1, 1, 100, 100, 100]), ["another unit? divided by 0.0"]),
        (times("vanishing_points", [1, 1, 1, -1, -1, -1, 1, 1, 1]), ["'down' points up in 100% of them"]),
    ],
)
def test_each_wrong_convention_of_rooms_is_named(change: Callable[[Sample], Sample], named: list[str]) -> None:
    problems = "\n".join(rooms(change).problems)
    for words in named:
        assert words in problems
    assert "normals and depth_z" not in problems or "normals" in named[0] or "fits at" in problems


def test_reversed_normals_are_named_without_a_camera_and_without_depth() -> None:
    problems = rooms(axes(1, 1, -1), "image", "normals", "depth_z", camera=False).problems
    assert len(problems) == 1 and "z reversed fits at" in problems[0] and "fitted field of view" in problems[0]
    (away,) = rooms(axes(1, 1, -1), "image", "normals").problems
    assert "of normals point away from the camera" in away
    assert rooms(dict, "image", "normals").problems == []


def test_the_worst_image_and_the_mean_are_told(box_room: Any) -> None:
    """A view of the floor differs little with z turned, one of a wall by twice its slant: one median tells little."""
    data = TaskonomyDataModule(str(box_room.write(turned=(1, 1, -1))), size=box_room.size)
    problem = next(p for p in check(data, splits=["train"]).problems if "normals and depth_z" in p)
    mean, worst = (float(problem.split(words)[0].split()[-1]) for words in (" deg on average", " deg in the worst"))
    assert worst > 120 > mean > 60 and "normals look turned: z reversed fits at 1." in problem
    assert problem.startswith("train: normals and depth_z differ by") and "_domain_rgb.png" in problem


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, []),
        (
            {"turned": (1, 1, -1)},
            ["z reversed fits at 1.", "of a direction of vanishing_points (6 images), 100% with z"],
        ),
        ({"turned": (1, -1, 1)}, ["y reversed fits at 1."]),
        ({"turned": (1, -1, -1)}, ["y and z reversed fits at 1."]),
        ({"order": (0, 2, 1)}, ["(x, z, y) in place of (x, y, z) fits at 1."]),
        ({"unit": 1000}, ["depth_z in the middle is 1.9", "divided by 1.9"]),
        ({"distance_as_depth": True}, ["depth_z looks like distances from the camera: so it fits at 1."]),
        ({"inverted": True}, ["depth_z in the middle is", "half of them differ"]),
    ],
)
def test_taskonomy_files_of_a_known_scene(box_room: Any, files: dict[str, Any], named: list[str]) -> None:
    report = check(TaskonomyDataModule(str(box_room.write(**files)), size=box_room.size), splits=["train"])
    assert bool(report.problems) is bool(named), report.problems
    assert all(words in "\n".join(report.problems) for words in named), report.problems
    assert report.splits["train"].compared[0].startswith("normals and depth_z differ by")


def test_a_fitted_field_of_view_is_that_of_the_scene(box_room: Any) -> None:
    """Without it in the metadata the pictures' own depth and normals tell it: 1.18 rad are 67.6 degrees."""
    root = box_room.write()
    for file in root.glob("point_info/*/*.json"):
        content = json.loads(file.read_text())
        del content["field_of_view_rads"]
        file.write_text(json.dumps(content))
    report = check(TaskonomyDataModule(str(root), size=box_room.size), splits=["train"])
    assert report.problems == []
    assert any(
        "fitted field of view of 65 deg" in line or "of 70 deg" in line for line in report.splits["train"].compared
    )


def test_depth_against_the_metadata_alone(box_room: Any) -> None:
    """One view of a point has no pair; how far away its point is says the unit all the same."""
    root = box_room.write(unit=1000)
    for file in root.glob("rgb/*/*_view_1_*"):
        file.unlink()
    data = TaskonomyDataModule(str(root), size=box_room.size)
    (problem,) = check(data, splits=["train"], keys=["image", "depth_z"]).problems
    assert "times the metadata's distance (median of 3 images); another unit? divided by 1.9" in problem


@pytest.mark.parametrize(
    ("signs", "named"), [((1, 1, 1), None), ((1, 1, -1), "z reversed"), ((-1, 1, 1), "x reversed")]
)
def test_a_folder_of_ones_own(box_room: Any, tmp_path: Path, signs: tuple[int, ...], named: str | None) -> None:
    """Normals in a picture, 127.5-centred; depth in millimetres; nothing says the field of view."""
    for number, aim in enumerate(((0.3, 0.9, -0.2), (-0.7, 0.4, -0.75), (0.9, -0.5, 0.45))):
        eye = np.array([0.2, -0.4, 1.4])
        seen = box_room.see(eye, box_room.looking_at(eye, eye + aim))
        files = {
            "image": (seen["colours"] * 255).astype(np.uint8),
            "depth_z": (seen["depth"] * 1000).round().astype(np.uint16),
            "normals": ((seen["normals"] * signs + 1) * 127.5).round().astype(np.uint8),
        }
        for key, content in files.items():
            (tmp_path / "train" / key).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(tmp_path / "train" / key / f"{number}.png")
    encodings = {"depth_z": Encoding(scale=0.001)}
    report = check(FolderDataModule(str(tmp_path), tasks=["depth_z", "normals"], encodings=encodings), splits=["train"])
    assert report.problems == [] if named is None else f"{named} fits at " in report.problems[0]
    assert "with a fitted field of view of" in report.splits["train"].compared[0]


def test_limits_are_options(box_room: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = TaskonomyDataModule(str(box_room.write()), size=box_room.size)
    data_check(data)
    assert capsys.readouterr().out.endswith("no problem found\n")
    with pytest.raises(InputError, match="the data has problems"):
        data_check(data, angle=0.1)
    assert "more than 0.1; no exchange or reversal of axes fits better" in capsys.readouterr().out
    assert check(data, splits=["train"], compare=0).splits["train"].compared == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angle": -5}, "angle is -5; give a number above 0, at most 180"),
        ({"ratio": 0.9}, "ratio is 0.9; give a number above 1"),
        ({"overlap": float("nan")}, "overlap is nan; give a number above 0, at most 1"),
        ({"limit": 0}, "limit is 0 and compare 16; give at least 1 sample"),
        ({"compare": -1}, "compare -1; give at least 1 sample, and 0 or more to compare"),
    ],
)
def test_limits_that_would_hide_what_is_wrong(box_room: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data_check(TaskonomyDataModule(str(box_room.write())), **options)


LABELS = {
    label.key: label
    for label in (
        Label("boxes", LabelKind.BOXES, 4),
        Label("masks", LabelKind.MASKS),
        Label("kinds", LabelKind.OBJECT_CLASSES, 3),
        Label("middles", LabelKind.POINTS),
        Label("semantic", LabelKind.CLASSES, 4),
    )
}
SIZE = (32, 48)


class Disks(TaskDataModule):
    """Disks in pictures: three, none, not labelled, two; kind k is class k + 1 of the map."""

    def __init__(self, change: Callable[[Sample], Sample] = dict) -> None:
        super().__init__()
        self.change = change

    @property
    def keys_offered(self) -> Collection[str]:
        return {"image", *LABELS}

    @property
    def targets(self) -> Mapping[str, Label]:
        return LABELS

    def build(self, split: str, keys: Collection[str]) -> Samples:
        y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
        samples = []
        disks = [[(10, 8, 5, 0), (30, 20, 8, 1), (20, 26, 4, 2)], [], None, [(40, 10, 6, 2), (12, 20, 7, 0)]]
        for number, objects in enumerate(disks):
            image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(number))
            rows = torch.tensor(objects or []).float().reshape(-1, 4)
            masks = (x - rows[:, 0, None, None]) ** 2 + (y - rows[:, 1, None, None]) ** 2 < rows[:, 2, None, None] ** 2
            semantic = torch.zeros(SIZE, dtype=torch.int64)
            for mask, (*_, kind) in zip(masks, objects or [], strict=True):
                semantic[mask] = kind + 1
            sample = {
                "image": image, "id": torch.tensor(number), "masks": masks, "kinds": rows[:, 3].long(),
                "boxes": torch.cat([rows[:, :2] - rows[:, 2:3], rows[:, :2] + rows[:, 2:3]], 1),
                "middles": rows[:, None, :2], "semantic": semantic,
            }  # fmt: skip
            flags = {presence(key): torch.tensor(objects is not None) for key, label in LABELS.items() if label.is_set}
            sample = self.change(sample) | (flags if objects is None or number else {})
            samples.append({key: value for key, value in sample.items() if key in {"id", *keys, *flags}})
        return samples


def disks(change: Callable[[Sample], Sample] = dict) -> Report:
    return check(Disks(change), splits=["train"])


def test_no_object_and_not_labelled_are_two_things() -> None:
    report = disks()
    assert report.problems == []
    boxes = report.splits["train"].keys["boxes"]
    assert (boxes.samples, boxes.objects) == (3, 5), "one image has no object, another no label"
    assert report.splits["train"].keys["semantic"].samples == 4
    assert "boxes: labelled in 3 images, 5 objects" in str(report)
    assert not any(presence("boxes") in line for line in str(report).splitlines())


def test_objects_of_how_many_classes_need_not_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELS, "kinds", Label("kinds", LabelKind.OBJECT_CLASSES))
    assert disks().problems == []


def boxes(change: Callable[[Tensor], Tensor]) -> Callable[[Sample], Sample]:
    return lambda sample: sample | {"boxes": change(sample["boxes"])}


def one(row: list[float]) -> Callable[[Sample], Sample]:
    """The first box of the first image is another."""
    return lambda s: s | {"boxes": torch.cat([torch.tensor([row]), s["boxes"][1:]])} if s["id"] == 0 else s


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (boxes(lambda b: b[:, [1, 0, 3, 2]]), "read as x and y exchanged they fit at 1.00"),
        (
            boxes(lambda b: torch.cat([b[:, :2], b[:, 2:] - b[:, :2]], 1)),
            "read as left, top, width and height they fit",
        ),
        (boxes(lambda b: torch.cat([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], 1)), "read as centre, width and"),
        (boxes(lambda b: b / torch.tensor([48, 32, 48, 32])), "read as shares of the image's width and height they"),
        (one([30.0, 2, 38, 12]), "0.00 in the worst (train 0), 1 of them by less than 0.5"),
        (one([float("nan"), 1, 2, 3]), "boxes with NaN: 1 times, first in train 0"),
        (one([9.0, 8, 9, 20]), "boxes of no area: 1 times, first in train 0"),
        (one([5.0, 3, 60, 13]), "boxes that reach outside the image: 1 times, first in train 0"),
        (lambda s: s | {"kinds": s["kinds"] + 1}, "kinds of class 3, but there are 0 to 2: 2 times in 2 images"),
        (lambda s: s | {"middles": s["middles"] + 20}, "middles outside the image: "),
        (lambda s: s | {"semantic": s["semantic"] + 1}, "semantic of class 4, but there are 0 to 3: "),
        (lambda s: s | {"semantic": s["semantic"].flip(0)}, "they disagree"),
        (lambda s: s | {"masks": s["masks"][:1]}, "boxes and masks differ in number: 3 boxes and 1 masks in train 0"),
    ],
)
def test_wrong_objects_are_named(change: Callable[[Sample], Sample], named: str) -> None:
    assert any(named in problem for problem in disks(change).problems), disks(change).problems


@pytest.mark.parametrize(("shift", "named"), [(0, None), (9, "by less than 0.5"), (60, "0.npy")])
def test_boxes_and_masks_in_files(tmp_path: Path, shift: int, named: str | None) -> None:
    """Moved aside boxes lie beside their masks, or outside the image, which names the file."""
    sample = Disks().build("train", Disks().keys_offered)[0]
    for key in ("image", "boxes", "masks"):
        (tmp_path / "train" / key).mkdir(parents=True)
    pixels = (sample["image"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "train" / "image" / "0.png")
    np.save(tmp_path / "train" / "boxes" / "0.npy", sample["boxes"].numpy() + np.float32([shift, 0, shift, 0]))
    np.save(tmp_path / "train" / "masks" / "0.npy", sample["masks"].numpy().astype(np.uint8))
    options = dict.fromkeys(("head", "loss", "score", "decode"), "math.sin")
    task = Task("disks", TaskKind.SET, "boxes", labels=(LABELS["boxes"], LABELS["masks"]), **options)  # type: ignore[arg-type]
    problems = check(FolderDataModule(str(tmp_path), tasks=[task]), splits=["train"]).problems
    assert problems == [] if named is None else any(named in problem for problem in problems), problems


def test_what_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nowhere is not a folder; give the folder of the data set"):
        check(FolderDataModule("nowhere", tasks=["depth_z"]))


def test_absurd_depths(tmp_path: Path) -> None:
    """A number for no measurement that is read as metres, and a zero: which file, how often."""
    for key in ("image", "depth_z"):
        (tmp_path / "train" / key).mkdir(parents=True)
    for name in "ab":
        depth = np.full((8, 8), 2.0, np.float32)
        depth[0] = {"a": 1e20, "b": 0}[name]
        np.save(tmp_path / "train" / "depth_z" / f"{name}.npy", depth)
        Image.fromarray(np.full((8, 8, 3), ord(name), np.uint8)).save(tmp_path / "train" / "image" / f"{name}.png")
    problems = check(FolderDataModule(str(tmp_path), tasks=["depth_z"])).problems
    assert len(problems) == 2
    assert "depth_z of more than 10000 m" in problems[0] and problems[0].endswith("8 times, first in " + str(
        tmp_path / "train" / "depth_z" / "a.npy"
    ))  # fmt: skip
    assert "depth_z of 0 m or less" in problems[1] and "b.npy" in problems[1]
    known = FolderDataModule(
        str(tmp_path), tasks=["depth_z"], encodings={"depth_z": Encoding(missing=(0, float(np.float32(1e20))))}
    )
    assert check(known).problems == []


def test_default_limits() -> None:
    assert Limits() == Limits(angle=15.0, ratio=1.1, overlap=0.5)
