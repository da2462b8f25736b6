"""The data doctor: counts and ranges against what was written; every planted fault is found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.data.folder import FolderDataModule
from lightning_taskonomy.data.rooms import RoomsDataModule
from lightning_taskonomy.data.taskonomy import TaskonomyDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task, TaskKind

torch.set_num_threads(1)


def test_a_sound_download(taskonomy: Any) -> None:
    report = check(TaskonomyDataModule(str(taskonomy.root), size=16), keys=["image", "depth_z", "scene_class"])
    assert report.ok and report.problems == [] and {n: s.images for n, s in report.splits.items()} == {
        "train": 12, "validation": 6, "test": 6,
    }  # fmt: skip
    stored = np.stack([depth for (building, _, _), depth in taskonomy.depth.items() if building == "darden"])
    metres = stored[stored != 65535] / 512
    summary = report.splits["test"].keys["depth_z"]
    assert (summary.samples, summary.values, summary.valid) == (6, stored.size, metres.size)
    np.testing.assert_allclose(
        [summary.low, summary.high, summary.mean], [metres.min(), metres.max(), metres.mean()], rtol=1e-5
    )
    assert report.splits["train"].buildings == ["allens", "beech"]
    assert sum(report.splits["train"].keys["scene_class"].histogram.values()) == 12
    text = str(report)
    assert "test: 6 of 6 images of 1 buildings" in text and text.endswith("no problem found")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["ok"] is True


def test_everything_that_is_there_is_read(taskonomy: Any) -> None:
    shutil.rmtree(taskonomy.root / "keypoints2d")
    report = check(TaskonomyDataModule(str(taskonomy.root), size=16), splits=["test"])
    keys = report.splits["test"].keys
    assert "keypoints_2d" not in keys and "keypoints_3d" in keys and "pose_fixated" in keys
    assert any("no folder 'keypoints2d'" in note for note in report.notes)


@pytest.mark.parametrize("given", [None, ("image", "depth")])
def test_labels_asked_for_that_cannot_be_read(tmp_path: Path, given: tuple[str, ...] | None) -> None:
    """Two files of one name, and names of no image: problems, not notes."""
    for split in ("train", "validation"):
        for folder, name in (("image", "0.png"), ("depth", "0.png" if split == "train" else "0_depth.png")):
            (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / split / folder / name)
    np.save(tmp_path / "train" / "depth" / "0.npy", np.ones((8, 8)))
    (tmp_path / "test" / "image").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "test" / "image" / "0.png")
    data = FolderDataModule(str(tmp_path), tasks=[Task("depth", TaskKind.DENSE, "depth")])
    problems = check(data, keys=given).problems
    assert any("train: " in line and "would both be '0'" in line for line in problems)
    assert any("there is 0_depth.png, where 0.png belongs to 0.png; rename the files" in line for line in problems)


def test_keys_that_are_not_offered_and_inputs_made_from_the_picture(taskonomy: Any) -> None:
    with pytest.raises(InputError, match="TaskonomyDataModule has no 'dept_z'; did you mean 'depth_z'"):
        check(TaskonomyDataModule(str(taskonomy.root), size=16, keys=["image", "dept_z"]))
    data = TaskonomyDataModule(str(taskonomy.root), size=16, keys=["image", "image_noisy", "depth_z"])
    report = check(data, splits=["test"])
    assert report.ok and {*report.splits["test"].keys} == {"image", "depth_z"}


def test_rooms_are_sound_in_all_their_labels_and_an_old_cache_is_a_problem(tmp_path: Path) -> None:
    """Other data sets have fewer classes under the key ``semantic``."""
    options: Any = {"size": 32, "views": 2, "train_buildings": 4, "validation_buildings": 1, "cache": str(tmp_path)}
    report = check(RoomsDataModule(**options), splits=["train", "validation"], compare=0)
    assert report.problems == [] and max(report.splits["train"].keys["semantic"].histogram) > 16
    for record in tmp_path.glob("*/cache.json"):
        content = json.loads(record.read_text())
        if content["count"] == 2:  # that of the validation images
            record.write_text(json.dumps({name: value for name, value in content.items() if name != "convention"}))
    (problem,) = check(RoomsDataModule(**options), splits=["train", "validation"], compare=0).problems
    assert problem.startswith("validation: cache ") and "holds labels by convention 1" in problem


def test_planted_faults_are_found(taskonomy: Any) -> None:
    truncated = taskonomy.file("rgb", "corona", 0, 0)
    truncated.write_bytes(truncated.read_bytes()[:100])
    taskonomy.file("normal", "corona", 1, 0).unlink()
    taskonomy.write(np.full((5, 4, 3), 200, np.uint8), "normal", "corona", 2, 0)
    shutil.copy(taskonomy.file("rgb", "allens", 0, 0), taskonomy.file("rgb", "darden", 0, 0))
    with (taskonomy.root / "train_val_test_tiny.csv").open("a") as file:
        file.write("beech,0,0,1\n")
    report = check(TaskonomyDataModule(str(taskonomy.root), size=16), keys=["image", "normals"])
    assert not report.ok
    text = "\n".join(report.problems)
    assert f"validation: {truncated}: damaged (" in text
    assert "point_1_view_0_domain_normal.png: missing" in text
    assert "point_2_view_0_domain_normal.png is 4x5 pixels but its image" in text
    assert "train and test share 1 buildings: beech" in text
    assert "train and test share 7 identical images" in text
    assert report.splits["validation"].read == 4 and report.splits["validation"].images == 6
    assert str(report).endswith(f"{len(report.problems)} problems found")


def test_constant_and_empty_labels_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for key in ("image", "depth_z"):
        (tmp_path / "train" / key).mkdir(parents=True)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(tmp_path / "train" / "image" / f"{name}.png")
        np.save(tmp_path / "train" / "depth_z" / f"{name}.npy", np.full((4, 4), 2.0))
    data = FolderDataModule(str(tmp_path), tasks=["depth_z", "normals"])
    report = check(data, limit=2)
    assert report.splits["train"].read == 2
    assert "train: every value of depth_z is 2" in report.notes
    assert [problem.split(": there")[0] for problem in report.problems] == ["train: no image has a label normals"]
    assert any(note.startswith("test: ") and "no image of split" in note for note in report.notes)
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["splits"]["train"]["keys"]["normals"]["low"] is None
    )


def test_a_root_without_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image of split 'train'; expected") as caught:
        check(FolderDataModule(str(tmp_path), tasks=["depth_z"]))
    assert "\n" not in str(caught.value)
