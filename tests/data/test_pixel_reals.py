"""Real samples of data sets with a class or a depth per pixel, read in their official layouts.

Where the samples are not in that layout, links make it. Metrics are those of the project, as ``objective`` gives them.
"""

import builtins
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix
from torch import Tensor

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Samples
from lightning_taskonomy.data.camvid import CamVidDataModule
from lightning_taskonomy.data.cityscapes import CityscapesDataModule
from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.data.formats.ade20k import ADE20KDataModule
from lightning_taskonomy.data.formats.coco_panoptic import COCOPanopticDataModule
from lightning_taskonomy.data.formats.isaid import ISAIDDataModule
from lightning_taskonomy.data.formats.kitti import KITTIDepthDataModule, KITTISemanticDataModule
from lightning_taskonomy.data.formats.mapillary import MapillaryDataModule
from lightning_taskonomy.data.formats.pascal_context import PascalContextDataModule
from lightning_taskonomy.data.formats.suim import SUIMDataModule
from lightning_taskonomy.data.formats.sunrgbd import SUNRGBDDataModule
from lightning_taskonomy.data.formats.voc2012 import VOC2012DataModule
from lightning_taskonomy.data.nyuv2 import NYUv2DataModule
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, find
from lightning_taskonomy.tasks.catalog.coco_panoptic import CATEGORIES

torch.set_num_threads(1)
REAL = Path(__file__).parents[2].parent / "shared" / "realdata"


def link(target: Path, source: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def names_in(folder: Path, *suffixes: str) -> list[str]:
    return sorted(file.stem for file in folder.iterdir() if file.suffix in suffixes)


def context(root: Path) -> TaskDataModule:
    """Its colours are those of VOC's palette; the numbers behind them are read."""
    link(root / "JPEGImages", REAL / "pascal_context/JPEGImages")
    link(root / "SegmentationClassContext", REAL / "pascal_context/labels_index_derived")
    (root / "train.txt").write_text("\n".join(names_in(root / "JPEGImages", ".jpg")))
    return PascalContextDataModule(str(root))


def labelme(root: Path) -> TaskDataModule:
    for folder in ("JPEGImages", "SegmentationClass"):
        link(root / folder, REAL / "voc_labelme_multitask" / folder)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(names_in(root / "JPEGImages", ".jpg")))
    return VOC2012DataModule(str(root))


def kitti(root: Path) -> TaskDataModule:
    """The sample's six classes by index, in the numbers of the official files."""
    official = np.full(256, 0, np.uint8)
    official[:6] = (23, 11, 7, 8, 21, 26)  # sky, building, road, sidewalk, vegetation (tree), car
    stored = np.asarray(Image.open(REAL / "kitti_semseg/label_index_derived/000099.png"))
    (root / "training/semantic").mkdir(parents=True)
    Image.fromarray(official[stored]).save(root / "training/semantic/000099_10.png")
    link(root / "training/image_2/000099_10.png", REAL / "kitti_semseg/image/000099.png")
    return KITTISemanticDataModule(str(root))


def kitti_depth(root: Path) -> TaskDataModule:
    drive = "2011_09_26_drive_0001_sync"
    link(root / drive[:10] / drive / "image_02/data", REAL / "kitti_depth/image")
    link(root / "train" / drive / "proj_depth/groundtruth/image_02", REAL / "kitti_depth/groundtruth")
    return KITTIDepthDataModule(str(root))


def sun(root: Path) -> TaskDataModule:
    link(root / "SUNRGBD", REAL / "sunrgbd/SUNRGBD")
    images = sorted((REAL / "sunrgbd/SUNRGBD").glob("*/image/*.jpg"))
    (root / "sunrgbd_training_images.txt").write_text(
        "\n".join(f"SUNRGBD/{i.parents[1].name}/image/{i.name}" for i in images)
    )
    return SUNRGBDDataModule(str(root))


@dataclass(frozen=True)
class Sample:
    """Real files of one data set.

    Args:
        folder: Below the samples.
        data: Its data module; may make files and links in a folder.
        task: Whose labels.
        split: Where they are.
        count: Samples of that split.
        names: Classes, or range of depths, that are there.
    """

    folder: str
    data: Callable[[Path], TaskDataModule]
    task: str
    split: str
    count: int
    names: tuple[object, ...] = ()


SAMPLES = {
    "camvid": Sample("camvid", lambda _: CamVidDataModule(str(REAL / "camvid")), "camvid.semantic_segmentation",
                     "validation", 21, ("sky", "road", "car")),
    "cityscapes": Sample("cityscapes", lambda _: CityscapesDataModule(str(REAL / "cityscapes"), size=(256, 512)),
                         "cityscapes.semantic_33", "train", 4, ("ego vehicle", "road", "sky", "car")),
    "nyuv2": Sample("nyuv2", lambda _: NYUv2DataModule(str(REAL / "nyuv2/mtan_npy_derived")), "depth_z",
                    "validation", 1, (0.5, 10.0)),
    "ade20k": Sample("ade20k", lambda _: ADE20KDataModule(str(REAL / "ade20k/ADEChallengeData2016")),
                     "ade20k.semantic_segmentation", "official_test", 3, ("wall", "sky")),
    "coco": Sample("coco128_panoptic", lambda _: COCOPanopticDataModule(str(REAL / "coco128_panoptic")),
                   "coco_panoptic.semantic_segmentation", "official_test", 20, ("person", "sky-other-merged")),
    "voc": Sample("voc2012_seg", lambda _: VOC2012DataModule(str(REAL / "voc2012_seg/VOC2012")),
                  "voc2012.semantic_segmentation", "train", 6, ("background",)),
    "labelme": Sample("voc_labelme_multitask", labelme, "voc2012.semantic_segmentation", "train", 3, ("person",)),
    "context": Sample("pascal_context", context, "pascal_context.semantic_segmentation", "train", 4,
                      ("bird", "grass", "water", "motorbike", "person")),
    "kitti": Sample("kitti_semseg", kitti, "kitti.semantic_segmentation", "train", 1, ("road", "sky", "car")),
    "kitti_depth": Sample("kitti_depth", kitti_depth, "kitti.depth_z", "train", 3, (2.0, 90.0)),
    "mapillary": Sample("mapillary_vistas",
                        lambda _: MapillaryDataModule(str(REAL / "mapillary_vistas/v1.2"), size=(374, 498)),
                        "mapillary.semantic_segmentation", "train", 1,
                        ("road", "sky", "car", "lane marking - crosswalk")),
    "suim": Sample("suim", lambda _: SUIMDataModule(str(REAL / "suim")), "suim.semantic_segmentation",
                   "official_test", 8, ("background", "human diver", "wreck", "robot", "reef", "fish")),
    "sun": Sample("sunrgbd", sun, "sunrgbd.depth_z", "train", 2, (0.4, 10.0)),
    "isaid": Sample("isaid", lambda root: ISAIDDataModule(str(REAL / "isaid"), cache=str(root)),
                    "isaid.semantic_segmentation", "official_test", 10,
                    ("background", "small vehicle", "large vehicle")),
}  # fmt: skip
each = pytest.mark.parametrize("name", SAMPLES)


def labels_of(name: str, root: Path) -> tuple[Task, list[dict[str, Tensor]]]:
    sample = SAMPLES[name]
    if not (REAL / sample.folder).is_dir():
        pytest.skip(f"no samples at {REAL / sample.folder}")
    task = find(sample.task)
    samples = sample.data(root).build(sample.split, ["image", task.target])
    assert len(samples) == sample.count
    return task, [samples[index] for index in range(min(len(samples), 8))]


def metric_of(task: Task, name: str, pairs: list[tuple[Tensor, Tensor]]) -> float:
    metric = objective(task).metrics(task)[name]
    for preds, target in pairs:
        metric.update(preds[None], target[None])
    return float(metric.compute())


@each
def test_real_labels(name: str, tmp_path: Path) -> None:
    """All that is there is read, sizes agree, what must be in the pictures is; the truth scores as perfect."""
    task, samples = labels_of(name, tmp_path)
    pairs = []
    for sample in samples:
        target = sample[task.target]
        assert sample["image"].shape[-2:] == target.shape[-2:] and sample["image"].shape[0] == 3
        assert sample["image"].min() >= 0 and sample["image"].max() < 1.00001 and sample["image"].std() > 0.01
        pairs.append((target.clamp(min=0) if task.is_classes else target.nan_to_num(1.0), target))
    expected = SAMPLES[name].names
    if task.is_classes:
        present = {number for _, target in pairs for number in target.unique().tolist()} - {IGNORE_INDEX}
        assert task.class_names is not None and max(present) < task.channels
        assert {task.class_names[number] for number in present} >= {*expected}
        assert metric_of(task, "miou", pairs) == pytest.approx(1, abs=1e-6)
    else:
        valid = torch.cat([target[~target.isnan()] for _, target in pairs])
        low, high = expected
        assert isinstance(low, float) and isinstance(high, float) and low < valid.min() and valid.max() < high
        assert metric_of(task, "rmse", pairs) == 0.0 and metric_of(task, "delta1", pairs) == 1.0


def opened_by(samples: Samples, copy: Path) -> list[Path]:
    """The pictures and arrays in a folder that the first sample is made of."""
    opened: list[str] = []
    plain = io.open

    def noted(file: Any, *args: Any, **options: Any) -> Any:
        opened.append(str(file))
        return plain(file, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        for module in (builtins, io):
            patch.setattr(module, "open", noted)
        samples[0]
    files = {Path(file) for file in opened if Path(file).suffix in (".png", ".jpg", ".bmp", ".npy")}
    return sorted(file for file in files if copy in file.resolve().parents)


@each
def test_a_damaged_copy_is_diagnosed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first sample each file in turn is cut in half and named; without its picture the sample is left out."""
    sample, copy = SAMPLES[name], tmp_path / "copy"
    if not (REAL / sample.folder).is_dir():
        pytest.skip(f"no samples at {REAL / sample.folder}")
    shutil.copytree(REAL / sample.folder, copy / sample.folder)
    monkeypatch.setattr(sys.modules[__name__], "REAL", copy)
    keys = ["image", find(sample.task).target]

    def data(root: str) -> TaskDataModule:
        return sample.data(tmp_path / root)

    sound = check(data("sound"), keys=keys, splits=[sample.split])
    pictures = opened_by(data("pictures").build(sample.split, ["image"]), copy)
    files = opened_by(data("both").build(sample.split, keys), copy)
    assert pictures and (len(files) > len(pictures) or name == "kitti")  # whose label is written here
    resolved = [picture.resolve() for picture in pictures]
    for number, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        report = check(data(f"damaged {number}"), keys=keys, splits=[sample.split])
        new = [problem for problem in report.problems if problem not in sound.problems]
        assert any(file.name in problem for problem in new), (file, new)
        assert (len(report.skip) > len(sound.skip)) == (file.resolve() in resolved)
        file.write_bytes(content)


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if "depth_z" not in sample.task])
def test_miou_is_that_of_scikit_learns_confusion_matrix(name: str, tmp_path: Path) -> None:
    """Of labels moved by a few pixels, over the classes that are in truth or prediction."""
    task, samples = labels_of(name, tmp_path)
    pairs = []
    for sample in samples[:3]:
        target = sample[task.target]
        pairs.append((target.roll((5, -9), (0, 1)).clamp(min=0), target))
    preds, target = (torch.cat([pair[n].flatten() for pair in pairs]).numpy() for n in (0, 1))
    valid = target != IGNORE_INDEX
    table = confusion_matrix(target[valid], preds[valid], labels=range(task.channels))
    union = table.sum(0) + table.sum(1) - table.diagonal()
    expected = (table.diagonal()[union > 0] / union[union > 0]).mean()
    assert 0.1 < expected < 1
    assert metric_of(task, "miou", pairs) == pytest.approx(expected, abs=1e-6)


def test_voc_as_torchvision_reads_it(tmp_path: Path) -> None:
    if not (REAL / "voc2012_seg").is_dir():
        pytest.skip(f"no samples at {REAL / 'voc2012_seg'}")
    from torchvision.datasets import VOCSegmentation

    link(tmp_path / "VOCdevkit/VOC2012", REAL / "voc2012_seg/VOC2012")
    theirs = VOCSegmentation(str(tmp_path), year="2012", image_set="val")
    ours = VOC2012DataModule(str(tmp_path / "VOCdevkit/VOC2012")).build("official_test", ["image", "semantic"])
    assert len(ours) == len(theirs) == 3
    for index, (image, mask) in enumerate(theirs):
        stored = torch.tensor(np.asarray(mask)).long()
        assert torch.equal(ours[index]["semantic"], torch.where(stored == 255, IGNORE_INDEX, stored))
        torch.testing.assert_close(ours[index]["image"], torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255)


def test_panoptic_coco_agrees_with_its_semantic_masks(tmp_path: Path) -> None:
    """The samples' other files have the category id of each pixel, made by others."""
    _, samples = labels_of("coco", tmp_path)
    root = REAL / "coco128_panoptic"
    content = json.loads((root / "annotations/panoptic_val2017.json").read_text())
    ids = {category["id"]: category["name"] for category in content["categories"]}
    names = sorted(entry["file_name"] for entry in content["annotations"])
    assert {name: tuple(ids.values()).count(name) for name in CATEGORIES} == dict.fromkeys(CATEGORIES, 1)
    for sample, name in zip(samples, names, strict=False):
        mask = np.asarray(Image.open(root / "semantic_segmentation/masks/val2017" / name))
        classes = sample["semantic"].numpy()
        for number in np.unique(mask):
            expected = IGNORE_INDEX if number == 0 else CATEGORIES.index(ids[int(number)]) + 1
            assert np.mean(classes[mask == number] == expected) > 0.99


def test_depths_of_sun_by_the_toolboxs_formula(tmp_path: Path) -> None:
    """bitor(bitshift(depth, -3), bitshift(depth, 13)) / 1000, in 16 bits."""
    _, samples = labels_of("sun", tmp_path)
    files = sorted((REAL / "sunrgbd/SUNRGBD").glob("*/depth_bfx/*.png"))
    for sample, file in zip(samples, files, strict=True):
        stored = np.asarray(Image.open(file)).astype(np.uint16)
        metres = ((stored >> np.uint16(3)) | (stored << np.uint16(13))).astype(np.float32) / 1000
        expected = torch.tensor(np.where(stored == 0, np.nan, metres))[None]
        torch.testing.assert_close(sample["depth_z"], expected, equal_nan=True)


def test_tiles_of_isaid(tmp_path: Path) -> None:
    """As the paper's authors cut: 1147 x 1023 pixels give 2 x 2 tiles, 824 x 1464 give 2 x 3."""
    _, samples = labels_of("isaid", tmp_path)
    assert all(sample["image"].shape == (3, 800, 800) for sample in samples)
    whole = Image.open(REAL / "isaid/val/images/P0003.png").convert("RGB")
    assert whole.size == (1147, 1023)
    last = torch.tensor(np.asarray(whole))[223:1023, 347:1147].permute(2, 0, 1) / 255
    torch.testing.assert_close(samples[3]["image"], last)


def test_ade20ks_names_are_those_of_its_list() -> None:
    listing = REAL / "ade20k/ADEChallengeData2016/objectInfo150.csv"
    if not listing.is_file():
        pytest.skip(f"no list at {listing}")
    rows = [line.split(",")[-1].split(";") for line in listing.read_text().splitlines()[1:]]
    names = find("ade20k.semantic_segmentation").class_names
    assert names is not None and len(rows) == 150
    assert all({*name.split()} <= {*row} for name, row in zip(names, rows, strict=True))
