"""COCO: boxes, points, crowds and ids in its JSON, against faster-coco-eval's reader and the masks of real images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomHorizontalFlip

from lightning_taskonomy.data.batch import SkipSample
from lightning_taskonomy.data.formats.coco import COCODataModule, COCOKeypointsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog.coco import CLASSES, KEYPOINTS, MIRROR, POINTS

torch.set_num_threads(1)
REAL = Path(__file__).parents[3].parent / "shared" / "realdata" / "coco_tiny"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no COCO at {REAL}")
KEYS = ["image", "boxes", "object_classes", "points", "crowd_boxes", "crowd_classes"]

Change = Callable[[dict[str, Any]], object]


def written(root: Path, change: Change = lambda content: None, file: str = "instances") -> Path:
    """Two images of 12 x 8 pixels in COCO's layout, one with a person, a crowd and a toothbrush, one with nothing."""
    rle = {"size": [8, 12], "counts": [8, 16, 72]}
    points = [*[0, 0, 0] * 15, 2, 3, 1, 4, 5, 2]
    entries = (
        (1, 1, [1.5, 2, 4, 5], {"iscrowd": 0, "segmentation": [[1, 2, 3, 4, 5, 6]], "keypoints": points}),
        (2, 1, [1, 0, 2, 8], {"iscrowd": 1, "segmentation": rle, "keypoints": [0] * 51}),
        (3, 90, [6, 1, 3, 3], {"iscrowd": 0, "segmentation": []}),
    )
    content: dict[str, Any] = {
        "images": [{"id": n, "file_name": name, "height": 8, "width": 12} for n, name in ((7, "a.jpg"), (9, "b.jpg"))],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": category, "bbox": box, **rest}
            for number, category, box, rest in entries
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}],
    }
    if file == "person_keypoints":
        del content["annotations"][2]
    change(content)
    for part in ("train2017", "val2017"):
        (root / part).mkdir(exist_ok=True)
        for name in ("a.jpg", "b.jpg"):
            Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(root / part / name)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{file}_{part}.json").write_text(json.dumps(content))
    return root


def test_boxes_classes_crowds_and_images_without_objects(tmp_path: Path) -> None:
    samples = COCODataModule(str(written(tmp_path))).build("train", KEYS)
    sample, empty = samples[0], samples[1]
    assert sample["boxes"].tolist() == [[1.5, 2, 5.5, 7], [6, 1, 9, 4]] and sample["object_classes"].tolist() == [0, 79]
    assert sample["crowd_boxes"].tolist() == [[1, 0, 3, 8]] and sample["crowd_classes"].tolist() == [0]
    assert int(sample["id"]) == 7 and "points" not in sample
    assert empty["boxes"].shape == (0, 4) and bool(empty[presence("boxes")]) and empty["object_classes"].shape == (0,)


def test_points_by_visibility(tmp_path: Path) -> None:
    written(tmp_path, file="person_keypoints")
    sample = COCOKeypointsDataModule(str(tmp_path)).build("official_test", KEYS)[0]
    assert sample["points"].shape == (1, 17, 2) and bool(sample["points"][0, :15].isnan().all())
    assert sample["points"][0, 15:].tolist() == [[2.5, 3.5], [4.5, 5.5]]  # hidden and visible, in the middle of a pixel
    assert sample["crowd_boxes"].tolist() == [[1, 0, 3, 8]]
    assert [POINTS[place].replace("left", "right") for place in MIRROR] == [p.replace("left", "right") for p in POINTS]
    assert all(("left" in POINTS[place]) is ("right" in name) for place, name in zip(MIRROR, POINTS, strict=True))
    assert KEYPOINTS.targets["points"].mirror == MIRROR


def test_batches_of_mirrored_and_enlarged_images(tmp_path: Path) -> None:
    """Twice as wide and high, then mirrored: x becomes 24 - 2 x, and left points stand in the places of right ones."""
    data = COCOKeypointsDataModule(
        str(written(tmp_path, file="person_keypoints")),
        size=(16, 24),
        batch_size=2,
        keys=["image", "boxes", "points", "crowd_boxes"],
        transforms=[RandomHorizontalFlip(1.0)],
    )
    (batch,) = data.train_dataloader()
    row = batch["id"].tolist().index(7)
    assert batch["image"].shape == (2, 3, 16, 24) and batch[presence("boxes")].tolist() == [True, True]
    torch.testing.assert_close(batch["boxes"][row], torch.tensor([[24 - 11.0, 4, 24 - 3, 14]]))
    torch.testing.assert_close(batch["crowd_boxes"][row], torch.tensor([[24 - 6.0, 0, 24 - 2, 16]]))
    assert batch["points"][row, 0, 16].tolist() == [24 - 5, 7] and batch["points"][row, 0, 15].tolist() == [24 - 9, 11]
    assert bool(batch["boxes"][1 - row].isnan().all())


CHANGES: dict[str, tuple[Change, str]] = {
    "images of one id": (lambda c: c["images"][1].update(id=7), "images a.jpg and b.jpg share id 7; remove one"),
    "annotations of one id": (lambda c: c["annotations"][1].update(id=1), "two annotations have id 1; remove one"),
    "a text for a number": (lambda c: c["images"][0].update(id="7"), 'id is "7", not a whole number'),
    "three numbers": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "annotation 1: bbox is .1, 2, 3., not 4"),
    "no list": (lambda c: c.pop("annotations"), "the file has no 'annotations'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_files_that_are_refused(tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    with pytest.raises(InputError, match=message) as caught:
        COCODataModule(str(written(tmp_path, change))).build("train", ["image"])
    assert "\n" not in str(caught.value) and "instances_train2017.json" in str(caught.value)


def test_annotations_that_are_refused_or_left_out(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 91, "name": "unicorn"})
        content["annotations"] += [
            {"id": 4, "image_id": 9, "category_id": 91, "bbox": [0, 0, 1, 1]},
            {"id": 5, "image_id": 88, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"id": 6, "image_id": 7, "category_id": 1, "bbox": [3, 3, 0, 2]},
        ]

    samples = COCODataModule(str(written(tmp_path, change))).build("train", KEYS)
    with pytest.raises(InputError, match="annotation 4 is of category 91, 'unicorn', which is none of COCO's 80"):
        samples[1]
    assert len(samples[0]["boxes"]) == 2 and samples.remarks() == [  # type: ignore[attr-defined]
        f"{tmp_path}/annotations/instances_train2017.json: 1 annotations are of images that it does not list, such as 5"
    ]
    written(tmp_path, lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 7), "person_keypoints")
    with pytest.raises(InputError, match="annotation 1 has a visibility other than 0"):
        COCOKeypointsDataModule(str(tmp_path)).build("train", KEYS)[0]


def test_files_and_splits_that_are_not_there(tmp_path: Path) -> None:
    data = COCODataModule(str(written(tmp_path)))
    (tmp_path / "train2017" / "a.jpg").unlink()
    with pytest.raises(SkipSample):
        data.build("train", ["image"])[0]
    with pytest.raises(InputError, match="COCO has no split 'vall'; allowed: official_test, test"):
        data.build("vall", ["image"])
    with pytest.raises(InputError, match=r"has no annotations/person_keypoints_train2017\.json; root must hold"):
        COCOKeypointsDataModule(str(tmp_path)).build("train", ["image"])


@real
@pytest.mark.parametrize("split", ["train", "official_test"])
def test_real_boxes_lie_on_their_masks(split: str) -> None:
    """Polygons and run lengths say where an object is too; faster-coco-eval reads them and the annotations."""
    from faster_coco_eval import COCO, mask

    part = {"train": "train2017", "official_test": "val2017"}[split]
    coco = COCO(str(REAL / "annotations" / f"instances_{part}.json"))
    samples = COCODataModule(str(REAL)).build(split, KEYS)
    names = [category["name"] for category in coco.loadCats(coco.getCatIds())]
    assert tuple(names) == CLASSES and len(samples) == 50
    overlaps, crowds, without = [], 0, 0
    for index in range(len(samples)):
        sample = samples[index]
        number = int(sample["id"])
        height, width = sample["image"].shape[-2:]
        assert (coco.imgs[number]["height"], coco.imgs[number]["width"]) == (height, width)
        entries = coco.loadAnns(coco.getAnnIds(number, iscrowd=False))
        expected = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
        torch.testing.assert_close(sample["boxes"], torch.tensor(expected).reshape(-1, 4), atol=1e-3, rtol=0)
        classes = [CLASSES.index(coco.cats[entry["category_id"]]["name"]) for entry in entries]
        assert sample["object_classes"].tolist() == classes
        without += not entries
        crowds += len(sample["crowd_boxes"])
        for entry, box in zip(entries, sample["boxes"].tolist(), strict=True):
            outline = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in entry["segmentation"]])
            low, high = outline.min(0), outline.max(0)
            cut = np.prod(np.minimum(high, box[2:]) - np.maximum(low, box[:2]))
            overlaps.append(cut / (np.prod(high - low) + np.prod(np.subtract(box[2:], box[:2])) - cut))
        for entry, box in zip(coco.loadAnns(coco.getAnnIds(number, iscrowd=True)), sample["crowd_boxes"], strict=True):
            x, y, w, h = mask.toBbox(mask.frPyObjects(entry["segmentation"], height, width)).flatten().tolist()
            torch.testing.assert_close(box, torch.tensor([x, y, x + w, y + h]), atol=1.0, rtol=0)
    assert np.mean(overlaps) > 0.99 and crowds == 5 and without == {"train": 1, "official_test": 2}[split]


@real
def test_real_points_lie_in_their_boxes() -> None:
    samples = COCOKeypointsDataModule(str(REAL)).build("train", KEYS)
    marked, inside, persons = 0, 0, 0
    for index in range(len(samples)):
        sample = samples[index]
        points, boxes = sample["points"], sample["boxes"][:, None]
        marked += int((~points.isnan().any(-1)).sum())
        inside += int(((points > boxes[..., :2] - 1) & (points < boxes[..., 2:] + 1)).all(-1).sum())
        persons += int((~points.isnan()).flatten(1).any(1).sum())
    assert persons == 57 and inside > 0.9 * marked  # some are a little outside
