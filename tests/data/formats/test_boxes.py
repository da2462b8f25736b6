"""BDD100K, Trash-ICRA19, KITTI and DOTA: boxes in the layouts that their releases document, and real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.formats.bdd100k import BDD100KDataModule
from lightning_taskonomy.data.formats.dota import DOTADataModule
from lightning_taskonomy.data.formats.kitti_objects import KITTIObjectsDataModule
from lightning_taskonomy.data.formats.underwater_trash import UnderwaterTrashDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog import bdd100k, dota, kitti_objects, underwater_trash

torch.set_num_threads(1)
SHARED = Path(__file__).parents[3].parent / "shared" / "realdata"
KEYS = ["image", "boxes", "object_classes", "crowd_boxes", "crowd_classes"]


def picture(file: Path, width: int = 12, height: int = 8) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file)


def label(category: str, box: tuple[int, int, int, int] | None, **attributes: bool) -> dict[str, Any]:
    sides = None if box is None else dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
    return {"category": category, "attributes": attributes} | ({} if sides is None else {"box2d": sides})


@pytest.mark.parametrize("release", [2020, 2018])
def test_bdd(tmp_path: Path, release: int) -> None:
    """``doc/source/format.rst``, ``download.rst`` and ``configs/det.toml`` of bdd100k; Scalabel's boxes."""
    person, light = ("pedestrian", "traffic light") if release == 2020 else ("person", "traffic light")
    frames: list[dict[str, Any]] = [
        {
            "name": "a.jpg",
            "labels": [
                label(person, (2, 1, 4, 6), occluded=True), label(light, (0, 0, 11, 7)),
                label(person, (5, 5, 9, 7), crowd=True), label("other vehicle", (1, 1, 2, 2)), label("lane", None),
            ],
        },
        {"name": "b.jpg", "labels": None},
        {"name": "c.jpg"},
        {"name": "d.jpg", "labels": [label("unicorn", (0, 0, 1, 1))]},
    ]  # fmt: skip
    file = {2020: "det_20/det_train.json", 2018: "bdd100k_labels_images_train.json"}[release]
    (tmp_path / "labels" / file).parent.mkdir(parents=True)
    (tmp_path / "labels" / file).write_text(json.dumps(frames if release == 2018 else {"frames": frames}))
    for frame in frames:
        picture(tmp_path / "images" / "100k" / "train" / frame["name"])
    samples = BDD100KDataModule(str(tmp_path)).build("train", KEYS)
    sample = samples[0]
    assert sample["boxes"].tolist() == [[2, 1, 5, 7], [0, 0, 12, 8]]  # the last pixel is within
    assert [bdd100k.CLASSES[n] for n in sample["object_classes"].tolist()] == ["pedestrian", "traffic light"]
    assert sample["crowd_boxes"].tolist() == [[5, 5, 10, 8], [1, 1, 3, 3]]
    assert [bdd100k.CLASSES[n] for n in sample["crowd_classes"].tolist()] == ["pedestrian", "car"]
    assert all(bool(samples[index][presence("boxes")]) and not len(samples[index]["boxes"]) for index in (1, 2))
    with pytest.raises(InputError, match=r"a label of d\.jpg is of category 'unicorn', but there are pedestrian"):
        samples[3]
    frames.append({"name": "a.jpg"})
    (tmp_path / "labels" / file).write_text(json.dumps(frames))
    with pytest.raises(InputError, match=r"two frames are called a\.jpg; remove one"):
        BDD100KDataModule(str(tmp_path)).build("train", KEYS)
    with pytest.raises(
        InputError, match=r"has no labels/det_20/det_val\.json or labels/bdd100k_labels_images_val\.json"
    ):
        BDD100KDataModule(str(tmp_path)).build("test", KEYS)


def test_underwater_trash(tmp_path: Path) -> None:
    """Names as in the release; folders as its readers name them."""
    folder = tmp_path / "dataset" / "val"
    entry = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>6</xmax><ymax>5</ymax></bndbox></object>"
    names = ("platstic", "rov", "papper", "timestamp", "bio", "plastic")
    for stem in ("a", "b"):
        picture(folder / f"{stem}.jpg")
    (folder / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    text = "".join(entry.format(name, left) for left, name in enumerate(names))
    (folder / "a.xml").write_text(f"<annotation>{text}</annotation>")
    samples = UnderwaterTrashDataModule(str(tmp_path)).build("validation", KEYS)
    sample = samples[0]
    called = [underwater_trash.CLASSES[n] for n in sample["object_classes"].tolist()]
    assert called == ["plastic", "rov", "bio", "plastic"] and sample["boxes"][:, 0].tolist() == [0, 1, 4, 5]
    assert sample["crowd_boxes"].tolist() == [[2, 1, 6, 5]] and sample["crowd_classes"].tolist() == [-100]
    assert not samples[1][presence("boxes")]
    (problem,) = samples.problems  # type: ignore[attr-defined]
    assert problem.file == folder / "b.jpg" and "b.xml: missing" in problem.reason
    assert len(UnderwaterTrashDataModule(str(tmp_path / "dataset")).build("validation", KEYS)) == 2
    (folder / "a.jpg").unlink()
    assert len(UnderwaterTrashDataModule(str(tmp_path)).build("validation", KEYS)) == 2  # its annotations name it
    with pytest.raises(InputError, match="has no image in test; root must hold dataset/test"):
        UnderwaterTrashDataModule(str(tmp_path)).build("test", KEYS)


def test_kitti(tmp_path: Path) -> None:
    picture(tmp_path / "training" / "image_2" / "000000.png")
    file = tmp_path / "training" / "label_2" / "000000.txt"
    file.parent.mkdir()
    rest = "-1 -1 -1 -1000 -1000 -1000 -10"
    file.write_text(f"Car 0.00 0 -1.57 1.5 2 9 7.25 {rest}\nDontCare -1 -1 -10 0 0 4 4 {rest}\n\n")
    samples = KITTIObjectsDataModule(str(tmp_path)).build("train", KEYS)
    assert samples[0]["boxes"].tolist() == [[1.5, 2, 9, 7.25]] and samples[0]["object_classes"].tolist() == [0]
    assert samples[0]["crowd_boxes"].tolist() == [[0, 0, 4, 4]] and samples[0]["crowd_classes"].tolist() == [-100]
    file.write_text("Car 0.00 0 -1.57 1.5 2 9\n")
    assert not KITTIObjectsDataModule(str(tmp_path)).build("train", KEYS)[0][presence("boxes")]
    file.write_text(f"Unicorn 0.00 0 -1.57 1.5 2 9 7.25 {rest}\n")
    with pytest.raises(InputError, match=r"000000\.txt, line 1: no type 'Unicorn'; there are Car"):
        KITTIObjectsDataModule(str(tmp_path)).build("train", KEYS)[0]
    with pytest.raises(InputError, match="KITTIObjects has no split 'test'; only its training images have labels"):
        KITTIObjectsDataModule(str(tmp_path)).build("test", KEYS)


def test_dota(tmp_path: Path) -> None:
    """A square that stands on a corner: the box around it."""
    picture(tmp_path / "val" / "images" / "P1.png")
    file = tmp_path / "val" / "labelTxt" / "P1.txt"
    file.parent.mkdir()
    file.write_text("imagesource:GoogleEarth\ngsd:0.1\n4 0 8 4 4 8 0 4 ship 0\n8 0 9 0 9 1 8 1 harbor 1\n")
    sample = DOTADataModule(str(tmp_path)).build("official_test", KEYS)[0]
    assert sample["boxes"].tolist() == [[0, 0, 8, 8]] and sample["crowd_boxes"].tolist() == [[8, 0, 9, 1]]
    assert (
        dota.CLASSES[int(sample["object_classes"])] == "ship" and dota.CLASSES[int(sample["crowd_classes"])] == "harbor"
    )
    file.write_text("4 0 8 4 4 8 0 ship 0\n")
    samples = DOTADataModule(str(tmp_path)).build("official_test", KEYS)
    assert not samples[0][presence("boxes")]
    (problem,) = samples.problems  # type: ignore[attr-defined]
    assert "line 1 is not eight numbers" in problem.reason


@pytest.mark.skipif(not (SHARED / "kitti_object").is_dir(), reason=f"no KITTI at {SHARED}")
def test_real_kitti() -> None:
    """Counted by hand in its three label files."""
    samples = KITTIObjectsDataModule(str(SHARED / "kitti_object")).build("train", KEYS)
    names = [[kitti_objects.CLASSES[n] for n in samples[i]["object_classes"].tolist()] for i in range(len(samples))]
    crowds = [len(samples[index]["crowd_boxes"]) for index in range(len(samples))]
    for index, file in enumerate(sorted((SHARED / "kitti_object" / "training" / "label_2").glob("*.txt"))):
        kinds = [line.split()[0] for line in file.read_text().splitlines()]
        assert names[index] == [kind for kind in kinds if kind != "DontCare"] and crowds[index] == kinds.count(
            "DontCare"
        )
    assert samples[1]["boxes"][0].tolist() == pytest.approx([599.41, 156.40, 629.75, 189.25], abs=1e-3)


@pytest.mark.skipif(not (SHARED / "dota").is_dir(), reason=f"no DOTA at {SHARED}")
def test_real_dota() -> None:
    samples = DOTADataModule(str(SHARED / "dota")).build("train", KEYS)
    for index in range(len(samples)):
        sample = samples[index]
        file = SHARED / "dota" / "labelTxt" / f"{samples.images[index].stem}.txt"  # type: ignore[attr-defined]
        rows = [line.split() for line in file.read_text().splitlines()[2:]]
        assert len(rows) == len(sample["boxes"]) + len(sample["crowd_boxes"])
        corners = np.array([row[:8] for row in rows if row[9] == "0"], dtype=np.float32).reshape(-1, 4, 2)
        around = np.concatenate([corners.min(1), corners.max(1)], 1)
        height, width = sample["image"].shape[-2:]
        np.testing.assert_allclose(sample["boxes"], around.clip(0, [width, height] * 2))
