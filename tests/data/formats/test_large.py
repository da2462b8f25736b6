"""A picture of 12,000 x 9,000 pixels whole, of which Pillow would warn; tests of tiles have it cut."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.formats.coco import COCODataModule
from lightning_taskonomy.data.formats.voc2012 import VOC2012DataModule

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture with a label per pixel, in VOC's layout, and with a box, in COCO's."""
    root = tmp_path_factory.mktemp("large")
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "annotations"):
        (root / folder).mkdir(parents=True)
    Image.new("L", (12_000, 9_000), 90).save(root / "JPEGImages" / "a.jpg")
    (root / "train2017").symlink_to(root / "JPEGImages")
    label = Image.new("L", (12_000, 9_000), 3)
    label.paste(15, (9_000, 0, 12_000, 9_000))
    label.save(root / "SegmentationClass" / "a.png", compress_level=1)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 9_000, "width": 12_000}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "bbox": [1_200, 900, 6_000, 4_500], "iscrowd": 0}],
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return root


@pytest.mark.slow
def test_classes_of_a_large_picture(root: Path) -> None:
    """A quarter of it, at the right, is of another class: after resizing too. It takes 4 GB."""
    sample = VOC2012DataModule(str(root), size=(90, 120)).build("train", ["image", "semantic"])[0]
    assert sample["image"].shape == (3, 90, 120) and sample["image"].sub(90 / 255).abs().max() < 2 / 255
    assert (sample["semantic"][:, :90] == 3).all() and (sample["semantic"][:, 90:] == 15).all()


@pytest.mark.slow
def test_a_box_in_a_large_picture(root: Path) -> None:
    sample = COCODataModule(str(root), size=(90, 120)).build("train", ["image", "boxes"])[0]
    assert sample["image"].shape == (3, 90, 120) and sample["image"].sub(90 / 255).abs().max() < 2 / 255
    assert sample["boxes"].tolist() == [[12, 9, 72, 54]]
