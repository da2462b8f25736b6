"""MPII and StanfordExtra: points, boxes made from them, breeds; written files and real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.ops import box_iou

from lightning_taskonomy.data.formats.mpii import MPIIDataModule
from lightning_taskonomy.data.formats.stanford_dogs import StanfordDogsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog import mpii, stanford_dogs

torch.set_num_threads(1)
SHARED = Path(__file__).parents[3].parent / "shared" / "realdata"
KEYS = ["image", "boxes", "points", "crowd_boxes"]


def picture(file: Path, width: int = 60, height: int = 40) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file)


@pytest.mark.parametrize("module", [mpii, stanford_dogs])
def test_mirrors_exchange_left_and_right(module: Any) -> None:
    for place, name in zip(module.MIRROR, module.POINTS, strict=True):
        sides = {"left": "right", "right": "left"}
        side, _, rest = name.partition("_")
        assert module.POINTS[place] == (f"{sides[side]}_{rest}" if side in sides else name)
        assert module.SIGMAS[place] == module.SIGMAS[module.POINTS.index(name)]


def test_mpii_json(tmp_path: Path) -> None:
    """Two persons of one image: point 9 (top of the head) at MATLAB's pixel (11, 6), and two points 10 pixels apart."""
    (tmp_path / "annot").mkdir()
    joints = [[-1.0, -1.0] for _ in range(16)]
    seen = [0] * 16
    first = {"image": "a.jpg", "center": [20, 20], "scale": 0.1, "joints": [*joints[:9], [11, 6], *joints[10:]]}
    second = {"image": "a.jpg", "center": [40, 20], "scale": 0.1, "joints": [[31, 21], [41, 21], *joints[2:]]}
    persons = [
        {**first, "joints_vis": [*seen[:9], 1, *seen[10:]]},
        {**second, "joints_vis": [1, 1, *seen[2:]]},
    ]
    (tmp_path / "annot" / "valid.json").write_text(json.dumps(persons))
    picture(tmp_path / "images" / "a.jpg")
    samples = MPIIDataModule(str(tmp_path)).build("official_test", KEYS)
    sample = samples[0]
    assert len(samples) == 1 and sample["points"].shape == (2, 16, 2)
    assert sample["points"][0, 9].tolist() == [10.5, 5.5] and int(sample["points"].isnan().sum()) == 2 * 32 - 6
    # a person of scale 0.1 is 20 pixels high; their box reaches 2 pixels beyond the points
    torch.testing.assert_close(sample["boxes"], torch.tensor([[8.5, 3.5, 12.5, 7.5], [28.5, 18.5, 42.5, 22.5]]))
    (tmp_path / "annot" / "trainval.json").write_text(json.dumps([{"image": "a.jpg", "center": [1, 1], "scale": 1}]))
    assert not MPIIDataModule(str(tmp_path)).build("trainval", KEYS)[0][presence("points")]
    with pytest.raises(InputError, match=r"has no train\.json beside trainval\.json, valid\.json"):
        MPIIDataModule(str(tmp_path)).build("train", KEYS)
    persons[0]["joints"] = [[1, 2]]
    (tmp_path / "annot" / "valid.json").write_text(json.dumps(persons))
    with pytest.raises(InputError, match=r"valid\.json: person 1 has 1 points, not 16"):
        MPIIDataModule(str(tmp_path)).build("validation", KEYS)


def test_mpii_release(tmp_path: Path) -> None:
    """The structure of ``mpii_human_pose_v1_u12_1.mat``, as its README and the devkit describe it."""
    empty = np.empty((0, 0))
    point = np.array(
        [(11.0, 6.0, 9, 1), (15.0, 8.0, 8, empty)], [("x", "O"), ("y", "O"), ("id", "O"), ("is_visible", "O")]
    )
    place = {"x": 20.5, "y": 10.5}
    rect = [("annopoints", "O"), ("scale", "O"), ("objpos", "O")]
    two = np.array([({"point": point}, 0.1, place), (empty, 0.05, place)], rect)
    images = np.empty(3, [("image", "O"), ("annorect", "O")])
    images[0] = ({"name": "a.jpg"}, two)
    images[1] = ({"name": "b.jpg"}, {"scale": 0.1, "objpos": place})
    images[2] = ({"name": "c.jpg"}, {"annopoints": {"point": point[:1][0]}, "scale": 0.1, "objpos": place})
    release = {"annolist": images, "img_train": np.array([1, 0, 1]), "version": "12"}
    savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.jpg")
    samples = MPIIDataModule(str(tmp_path)).build("train", KEYS)
    assert [file.name for file in samples.images] == ["a.jpg", "c.jpg"]  # type: ignore[attr-defined]
    sample = samples[0]
    assert sample["points"][0, [9, 8]].tolist() == [[10.5, 5.5], [14.5, 7.5]]
    torch.testing.assert_close(sample["boxes"], torch.tensor([[8.5, 3.5, 16.5, 9.5]]))
    # the other person, 10 pixels high about (20, 10), has no points: a region to ignore
    torch.testing.assert_close(sample["crowd_boxes"], torch.tensor([[15.0, 5.0, 25.0, 15.0]]))
    with pytest.raises(InputError, match="has labels of the training images alone; validate on some"):
        MPIIDataModule(str(tmp_path)).build("test", KEYS)
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b" " * 200)
    with pytest.raises(InputError, match=r"mpii_human_pose_v1_u12_1\.mat: damaged") as caught:
        MPIIDataModule(str(tmp_path)).build("train", KEYS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not (SHARED / "mpii").is_dir(), reason=f"no MPII at {SHARED}")
def test_real_mpii() -> None:
    """Heads are above hips and left of a person who faces the camera is at the right: most of these five do."""
    samples = MPIIDataModule(str(SHARED / "mpii")).build("train", KEYS)
    persons = json.loads((SHARED / "mpii" / "annotations" / "test_mpii.json").read_text())
    assert len(samples) == 5
    above = 0
    for index, person in enumerate(persons):
        sample = samples[index]
        points = sample["points"][0]
        expected = np.where(np.array(person["joints_vis"])[:, None] > 0, np.array(person["joints"]) - 0.5, np.nan)
        np.testing.assert_allclose(points, expected, rtol=1e-5)
        above += bool(points[9, 1] < points[6, 1])
        box = sample["boxes"][0]
        inside = (points >= box[:2]) & (points <= box[2:]) | points.isnan()
        assert bool(inside.all())
    assert above >= 4


def dogs(root: Path) -> list[dict[str, Any]]:
    """Three dogs of two breeds."""
    rows = []
    for name in ("Chihuahua_7", "African_hunting_dog_1", "Chihuahua_8"):
        breed, _, number = name.rpartition("_")
        folder = {"Chihuahua": "n02085620", "African_hunting_dog": "n02116738"}[breed]
        name = f"{folder}-{breed}/{folder}_{number}.jpg"
        picture(root / "Images" / name)
        joints = [[0, 0, 0] for _ in range(24)]
        joints[16], joints[17], joints[20] = [30, 10.25, 1.0], [31, 14, 0], [5, 5, 1]
        rows.append(
            {"img_path": name, "img_width": 60, "img_height": 40, "joints": joints, "img_bbox": [10, 5, 40, 30]}
        )
    (root / "StanfordExtra_v12.json").write_text(json.dumps(rows))
    return rows


def test_stanford_dogs(tmp_path: Path) -> None:
    rows = dogs(tmp_path)
    samples = StanfordDogsDataModule(str(tmp_path)).build("train", [*KEYS, "breed"])
    sample = samples[0]
    assert len(samples) == 3 and sample["boxes"].tolist() == [[10, 5, 50, 35]] and sample["points"].shape == (1, 20, 2)
    assert sample["points"][0, 16:18].tolist() == [[30, 10.25], [31, 14]] and int(sample["points"].isnan().sum()) == 36
    assert [int(samples[index]["breed"]) for index in range(3)] == [0, 119, 0]
    with pytest.raises(InputError, match="has no list 'test': without train_list"):
        StanfordDogsDataModule(str(tmp_path)).build("test", KEYS)
    for name, numbers in (("train", [2, 0]), ("val", [1])):
        np.save(tmp_path / f"{name}_StanfordExtra_v12.npy", np.array(numbers))
    data = StanfordDogsDataModule(str(tmp_path))
    assert [file.name for file in data.build("train", KEYS).images] == ["n02085620_8.jpg", "n02085620_7.jpg"]  # type: ignore[attr-defined]
    assert len(data.build("validation", KEYS)) == 1
    for name, part in (("train", rows[:2]), ("test", rows[2:])):
        files = np.empty((len(part), 1), object)
        files[:, 0] = [row["img_path"] for row in part]
        savemat(tmp_path / f"{name}_list.mat", {"file_list": files, "labels": np.ones((len(part), 1))})
    data = StanfordDogsDataModule(str(tmp_path))
    assert [len(data.build(split, KEYS)) for split in ("train", "test")] == [2, 1]
    np.save(tmp_path / "val_StanfordExtra_v12.npy", np.array([3]))
    (tmp_path / "train_list.mat").unlink()
    with pytest.raises(InputError, match="names dogs beyond the 3"):
        StanfordDogsDataModule(str(tmp_path)).build("validation", KEYS)


@pytest.mark.skipif(not (SHARED / "stanford_extra").is_dir(), reason=f"no StanfordExtra at {SHARED}")
def test_real_stanford_dogs() -> None:
    """The outline of a dog, which faster-coco-eval reads, says where its box is; its points are in it."""
    from faster_coco_eval import mask

    root = SHARED / "stanford_extra"
    samples = StanfordDogsDataModule(str(root)).build("train", [*KEYS, "breed"])
    rows = json.loads((root / "StanfordExtra_sample.json").read_text())
    definitions = (root / "keypoint_definitions.csv").read_text().splitlines()[1:]
    assert [line.split(",")[3] for line in definitions] == ["y"] * 20 + ["n"] * 4
    breeds: set[str] = set()
    overlaps: list[float] = []
    for index, row in enumerate(rows):
        sample = samples[index]
        height, width = sample["image"].shape[-2:]
        x, y, w, h = mask.toBbox([{"size": [height, width], "counts": row["seg"]}])[0].tolist()
        box = sample["boxes"][0]
        overlaps.append(float(box_iou(box[None], torch.tensor([[x, y, x + w, y + h]]))))
        points = sample["points"][0]
        marked = ~points.isnan().any(1)
        assert marked.sum() == sum(any(joint[:2]) for joint in row["joints"][:20])
        near = ((points > box[:2] - 0.1 * w) & (points < box[2:] + 0.1 * w)).all(1)
        assert (near & marked).sum() >= 0.9 * marked.sum()
        assert samples.targets["breed"].classes == 120  # type: ignore[attr-defined]
        name = stanford_dogs.BREED.class_names[int(sample["breed"])]  # type: ignore[index]
        assert name.replace(" ", "_") == row["img_path"].split("/")[0].partition("-")[2]
        breeds.add(name)
    assert min(overlaps) > 0.75 and np.mean(overlaps) > 0.9
    assert len(breeds) == 4 and not samples.problems  # type: ignore[attr-defined]
