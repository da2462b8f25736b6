"""Data sets with a class or a depth per pixel: tiny files in each one's documented layout, and what can be wrong."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from lightning_taskonomy.data.batch import SkipSample
from lightning_taskonomy.data.formats.ade20k import ADE20KDataModule
from lightning_taskonomy.data.formats.bdd10k import BDD10KDataModule
from lightning_taskonomy.data.formats.camvid32 import CamVid32DataModule
from lightning_taskonomy.data.formats.coco_panoptic import COCOPanopticDataModule
from lightning_taskonomy.data.formats.idd import IDDDataModule
from lightning_taskonomy.data.formats.kitti import KITTIDepthDataModule, KITTISemanticDataModule
from lightning_taskonomy.data.formats.mapillary import MapillaryDataModule
from lightning_taskonomy.data.formats.pascal_context import PascalContextDataModule
from lightning_taskonomy.data.formats.pixels import PixelDataModule
from lightning_taskonomy.data.formats.scannet import ScanNetDataModule
from lightning_taskonomy.data.formats.suim import SUIMDataModule
from lightning_taskonomy.data.formats.sunrgbd import SUNRGBDDataModule
from lightning_taskonomy.data.formats.vgallery import VGalleryDataModule
from lightning_taskonomy.data.formats.vkitti2 import VKITTI2DataModule
from lightning_taskonomy.data.formats.voc2012 import VOC2012DataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.catalog.coco_panoptic import CATEGORIES

torch.set_num_threads(1)
NONE = None


def write(file: Path, pixels: NDArray[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".mat":
        savemat(file, {"LabelMap": pixels})
    else:
        Image.fromarray(pixels).save(file)


@dataclass(frozen=True)
class Case:
    """One data set: where image and label of each part's files lie, and what each pixel of a label means by name.

    Args:
        module: Its data module.
        parts: By part of the files, images with their labels, as paths below the root.
        meaning: What stands in the file, and the class's name or metres; None is missing.
        key: The label's key.
        dtype: Of the label file.
        wrong: What no label holds, and what is said then.
        lists: Text files.
        options: Of the module.
    """

    module: type[PixelDataModule]
    parts: Mapping[str, list[tuple[str, str]]]
    meaning: Mapping[Any, Any]
    key: str = "semantic"
    dtype: Any = np.uint8
    wrong: Any = None
    lists: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        pixels = np.array([list(self.meaning)], dtype=self.dtype).repeat(2, 0)
        for pairs in self.parts.values():
            for image, label in pairs:
                write(root / image, np.full((*pixels.shape[:2], 3), 77, np.uint8))
                write(root / label, pixels)
        for name, text in self.lists.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    def data(self, root: Path, **options: Any) -> PixelDataModule:
        return self.module(str(root), **{**self.options, **options})


def both(train: str, evaluated: str, *names: str) -> dict[str, list[tuple[str, str]]]:
    """An image and a label for training, two of each that are evaluated: patterns with {part} and {n}."""
    parts = {train: [0], evaluated: [1, 2]}
    return {
        part: [tuple(name.format(part=part, n=n) for name in names) for n in numbers]  # type: ignore[misc]
        for part, numbers in parts.items()
    }


def coco(folder: str) -> dict[str, str]:
    categories = [{"id": 2 * n + 1, "name": name} for n, name in enumerate(CATEGORIES)]
    segments = [{"id": 7, "category_id": 1}, {"id": 256 * 5 + 3, "category_id": 3}, {"id": 65536, "category_id": 265}]
    texts = {}
    for part, numbers in (("train2017", [0]), ("val2017", [1, 2])):
        annotations = [{"file_name": f"{n:012d}.png", "image_id": n, "segments_info": segments} for n in numbers]
        texts[f"{folder}/panoptic_{part}.json"] = json.dumps({"categories": categories, "annotations": annotations})
    return texts


CITYSCAPES = {0: NONE, 1: "ego vehicle", 3: NONE, 4: "static", 7: "road", 24: "person", 33: "bicycle", 255: NONE}
VIRTUAL = "{part}/frames/{kind}/Camera_0/{name}_{n}.{end}"
CASES = {
    "ade20k": Case(
        ADE20KDataModule,
        both("training", "validation", "images/{part}/A_{n}.jpg", "annotations/{part}/A_{n}.png"),
        {0: NONE, 1: "wall", 2: "building", 3: "sky", 21: "car", 150: "flag"}, wrong=(151, "class 151 at 1 of"),
    ),
    "mapillary": Case(
        MapillaryDataModule,
        both("training", "validation", "{part}/images/{n}.jpg", "{part}/labels/{n}.png"),
        {0: "bird", 13: "road", 27: "sky", 55: "car", 64: "ego vehicle", 65: NONE}, wrong=(66, "class 66 at 1 of"),
    ),
    "mapillary_2": Case(
        MapillaryDataModule,
        both("training", "validation", "{part}/images/{n}.jpg", "{part}/v1.2/labels/{n}.png"),
        {0: "bird", 65: NONE},
    ),
    "voc": Case(
        VOC2012DataModule, both("train", "val", "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png"),
        {0: "background", 1: "aeroplane", 15: "person", 20: "tvmonitor", 255: NONE}, wrong=(21, "class 21 at 1 of"),
        lists={"ImageSets/Segmentation/train.txt": "0\n", "ImageSets/Segmentation/val.txt": "1\n2\n"},
    ),
    "voc_aug": Case(
        VOC2012DataModule, both("trainaug", "val", "JPEGImages/{n}.jpg", "SegmentationClassAug/{n}.png"),
        {0: "background", 20: "tvmonitor", 255: NONE},
        lists={"ImageSets/Segmentation/trainaug.txt": "0\n", "ImageSets/Segmentation/val.txt": "1\n2\n"},
        options={"training_list": "trainaug"},
    ),
    "context_png": Case(
        PascalContextDataModule, both("train", "val", "JPEGImages/{n}.jpg", "SegmentationClassContext/{n}.png"),
        {0: "background", 1: "aeroplane", 3: "bird", 14: "motorbike", 15: "person", 36: "grass", 59: "wood"},
        wrong=(60, "class 60 at 1 of"), lists={"train.txt": "0\n", "val.txt": "1\r\n2\r\n"},
    ),
    "context_mat": Case(
        PascalContextDataModule, both("train", "val", "JPEGImages/{n}.jpg", "trainval/{n}.mat"),
        {1: "background", 2: "aeroplane", 25: "bird", 284: "person", 397: "table", 459: "background", 458: "wood"},
        dtype=np.uint16,
        lists={"ImageSets/SegmentationContext/train.txt": "0\n", "ImageSets/SegmentationContext/val.txt": "1\n2\n"},
    ),
    "bdd": Case(
        BDD10KDataModule,
        both("train", "val", "images/10k/{part}/{n}.jpg", "labels/sem_seg/masks/{part}/{n}.png"),
        {0: "road", 10: "sky", 18: "bicycle", 255: NONE}, wrong=(19, "class 19 at 1 of"),
    ),
    "bdd_first": Case(
        BDD10KDataModule, both("train", "val", "seg/images/{part}/{n}.jpg", "seg/labels/{part}/{n}_train_id.png"),
        {0: "road", 13: "car", 255: NONE},
    ),
    "idd": Case(
        IDDDataModule,
        both("train", "val", "leftImg8bit/{part}/5/{n}_leftImg8bit.png", "gtFine/{part}/5/{n}_gtFine_labelids.png"),
        {0: "road", 16: "trailer", 17: NONE, 18: "vehicle fallback", 33: "sky", 34: "fallback background", 39: NONE},
        wrong=(40, "class 40 at 1 of"),
    ),
    "scannet": Case(
        ScanNetDataModule,
        both("0", "1", "scannet_frames_25k/scene{part}/color/{n}.jpg", "scannet_frames_25k/scene{part}/label/{n}.png"),
        {0: NONE, 1: "wall", 5: "chair", 24: "refrigerator", 40: "other prop"}, wrong=(41, "class 41 at 1 of"),
        lists={"scannetv2_train.txt": "scene0\n", "scannetv2_val.txt": "scene1\nscene_that_is_not_there\n"},
    ),
    "scannet_20": Case(
        ScanNetDataModule,
        both("0", "1", "scannet_frames_25k/scene{part}/color/{n}.jpg", "scannet_frames_25k/scene{part}/label/{n}.png"),
        {0: NONE, 1: "wall", 13: NONE, 14: "desk", 36: "bathtub", 39: "other furniture", 40: NONE}, key="semantic_20",
        lists={"scannetv2_train.txt": "scene0\n", "scannetv2_val.txt": "scene1\n"},
    ),
    "suim": Case(
        SUIMDataModule, both("train_val", "TEST", "{part}/images/f_{n}_.jpg", "{part}/masks/f_{n}_.bmp"),
        {(0, 0, 0): "background", (0, 0, 255): "human diver", (0, 255, 0): "plant", (0, 255, 255): "wreck",
         (255, 0, 0): "robot", (255, 0, 255): "reef", (255, 255, 0): "fish", (255, 255, 255): "sea floor",
         (250, 3, 1): "robot"},
    ),
    "camvid": Case(
        CamVid32DataModule,
        both("train", "val", "701_StillsRaw_full/F_{n}.png", "LabeledApproved_full/F_{n}_L.png"),
        {(0, 0, 0): NONE, (64, 128, 64): "animal", (128, 64, 128): "road", (64, 192, 0): "wall"},
        wrong=((1, 1, 1), r"colour \(1, 1, 1\), which is of no class"),
        lists={"train.txt": "/SegNet/CamVid/train/F_0.png /SegNet/CamVid/trainannot/F_0.png\n",
               "val.txt": "/SegNet/CamVid/val/F_1.png /x/F_1.png\n/SegNet/CamVid/val/F_2.png /x/F_2.png\n"},
    ),
    "kitti": Case(
        KITTISemanticDataModule,
        {"train": [("training/image_2/000000_10.png", "training/semantic/000000_10.png")],
         "val": [(f"training/image_2/{n}_10.png", f"training/semantic/{n}_10.png") for n in ("000001", "000196")]},
        CITYSCAPES, wrong=(34, "class 34 at 1 of"),
    ),
    "kitti_depth": Case(
        KITTIDepthDataModule,
        both("train", "val", "2011_09_26/2011_09_26_drive_{n}_sync/image_02/data/00.png",
             "{part}/2011_09_26_drive_{n}_sync/proj_depth/groundtruth/image_02/00.png"),
        {0: NONE, 256: 1.0, 5 * 256 + 64: 5.25, 21_760: 85.0}, key="depth_z", dtype=np.uint16,
    ),
    "vkitti": Case(
        VKITTI2DataModule,
        both("Scene01/clone", "Scene18/rain", VIRTUAL.format(part="{part}", kind="rgb", name="rgb", n="{n}", end="jpg"),
             VIRTUAL.format(part="{part}", kind="classSegmentation", name="classgt", n="{n}", end="png")),
        {(0, 0, 0): "background", (210, 0, 200): "terrain", (100, 60, 100): "road", (0, 139, 139): "van"},
        wrong=((9, 9, 9), "which is of no class"),
    ),
    "vkitti_depth": Case(
        VKITTI2DataModule,
        both("Scene02/fog", "Scene18/rain", VIRTUAL.format(part="{part}", kind="rgb", name="rgb", n="{n}", end="jpg"),
             VIRTUAL.format(part="{part}", kind="depth", name="depth", n="{n}", end="png")),
        {1: 0.01, 1234: 12.34, 8000: 80.0, 8001: NONE, 65535: NONE}, key="depth_z", dtype=np.uint16,
    ),
    "vkitti_sky": Case(
        VKITTI2DataModule,
        both("Scene02/fog", "Scene18/rain", VIRTUAL.format(part="{part}", kind="rgb", name="rgb", n="{n}", end="jpg"),
             VIRTUAL.format(part="{part}", kind="depth", name="depth", n="{n}", end="png")),
        {8001: 80.01, 65534: 655.34, 65535: NONE}, key="depth_z", dtype=np.uint16, options={"farthest": None},
    ),
    "vgallery": Case(
        VGalleryDataModule,
        both("training", "testing", "{part}/gallery_light1_loop1/frames/rgb/camera_0/rgb_{n}.jpg",
             "{part}/gallery_light1_loop1/frames/classsegmentation/camera_0/classgt_{n}.png"),
        {(0, 0, 0): "background", (255, 127, 80): "wall", (128, 0, 0): "painting", (0, 255, 0): "human"},
        wrong=((0, 254, 0), "which is of no class"),
    ),
    "vgallery_depth": Case(
        VGalleryDataModule,
        both("training", "testing", "{part}/gallery_light1_loop1/frames/rgb/camera_0/rgb_{n}.jpg",
             "{part}/gallery_light1_loop1/frames/depth/camera_0/depth_{n}.png"),
        {21: 0.21, 1489: 14.89, 1490: NONE, 65535: NONE}, key="depth_z", dtype=np.uint16,
    ),
    "vgallery_far": Case(
        VGalleryDataModule,
        both("training", "testing", "{part}/gallery_light1_loop1/frames/rgb/camera_0/rgb_{n}.jpg",
             "{part}/gallery_light1_loop1/frames/depth/camera_0/depth_{n}.png"),
        {1490: 14.9, 65534: 655.34, 65535: NONE}, key="depth_z", dtype=np.uint16, options={"farthest": None},
    ),
    "sunrgbd": Case(
        SUNRGBDDataModule,
        {"training": [("SUNRGBD/kv1/a/image/0.jpg", "sunrgbd_train_test_labels/img-005051.png")],
         "testing": [(f"SUNRGBD/kv1/{n}/image/0.jpg", f"sunrgbd_train_test_labels/img-00000{n}.png") for n in (1, 2)]},
        {0: NONE, 1: "wall", 5: "chair", 37: "bag"}, wrong=(38, "class 38 at 1 of"),
        lists={"sunrgbd_training_images.txt": "SUNRGBD/kv1/a/image/0.jpg\n",
               "sunrgbd_testing_images.txt": "SUNRGBD/kv1/1/image/0.jpg\nSUNRGBD/kv1/2/image/0.jpg\n"},
    ),
    "sunrgbd_depth": Case(
        SUNRGBDDataModule,
        both("a", "b", "SUNRGBD/{part}/{n}/image/x.jpg", "SUNRGBD/{part}/{n}/depth_bfx/y.png"),
        {0: NONE, 8: 0.001, 8 * 1000: 1.0, 8 * 8000: 8.0, 8 * 8191: 8.0, 1: 8.0, 65535: 8.0}, key="depth_z",
        dtype=np.uint16,
        lists={"sunrgbd_training_images.txt": "SUNRGBD/a/0/image/x.jpg\n",
               "sunrgbd_testing_images.txt": "SUNRGBD/b/1/image/x.jpg\nSUNRGBD/b/2/image/x.jpg\n"},
    ),
    "sunrgbd_far": Case(
        SUNRGBDDataModule,
        both("a", "b", "SUNRGBD/{part}/{n}/image/x.jpg", "SUNRGBD/{part}/{n}/depth_bfx/y.png"),
        {0: NONE, 8: 0.001, 8 * 1000: 1.0, 8 * 8191: 8.191, 1: 8.192, 65535: 65.535}, key="depth_z", dtype=np.uint16,
        options={"farthest": None},
        lists={"sunrgbd_training_images.txt": "SUNRGBD/a/0/image/x.jpg\n",
               "sunrgbd_testing_images.txt": "SUNRGBD/b/1/image/x.jpg\nSUNRGBD/b/2/image/x.jpg\n"},
    ),
    "coco": Case(
        COCOPanopticDataModule,
        both("train2017", "val2017", "{part}/{n:012d}.jpg", "annotations/panoptic_{part}/{n:012d}.png"),
        {(0, 0, 0): NONE, (7, 0, 0): "person", (3, 5, 0): "bicycle", (0, 0, 1): "rug-merged"},
        wrong=((8, 0, 0), "has a segment 8, which its annotations do not"), lists=coco("annotations"),
    ),
}  # fmt: skip
each_format = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
files_with_wrong = pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.wrong], ids=[name for name, case in CASES.items() if case.wrong]
)


def expected(case: Case, data: PixelDataModule) -> torch.Tensor:
    task = next(task for task in data.own_tasks if task.target == case.key)
    if task.class_names is None:
        row = torch.tensor([float("nan") if value is None else value for value in case.meaning.values()])
        return row.repeat(2, 1)[None]
    names = list(task.class_names)
    return torch.tensor([-100 if name is None else names.index(name) for name in case.meaning.values()]).repeat(2, 1)


@each_format
def test_labels_and_splits(case: Case, tmp_path: Path) -> None:
    data = case.data(case.write(tmp_path))
    sizes = {"train": 1, "official_test": 2, "validation": 1, "test": 1}
    if case.module is CamVid32DataModule:
        sizes = {"train": 1, "validation": 2, "official_test": 2}
    ids = {}
    for split, size in sizes.items():
        samples = data.build(split, ["image", case.key])
        assert len(samples) == size
        for index in range(size):
            sample = samples[index]
            torch.testing.assert_close(sample[case.key], expected(case, data), equal_nan=True, rtol=0, atol=1e-6)
            assert sample["image"].shape[-2:] == sample[case.key].shape[-2:]
            ids[split, index] = int(sample["id"])
    assert set(data.keys_offered) >= {"image", case.key}
    if "test" in sizes:
        assert (ids["validation", 0], ids["test", 0]) == (ids["official_test", 0], ids["official_test", 1])
        assert len({ids["train", 0], ids["validation", 0], ids["test", 0]}) == 3


@each_format
def test_what_is_not_there(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no split 'trian'; did you mean 'train'\?"):
        case.data(tmp_path).build("trian", ["image"])
    with pytest.raises(InputError, match=r"root must hold ") as caught:
        case.data(tmp_path / "nowhere").build("train", ["image", case.key])
    assert "\n" not in str(caught.value) and str(tmp_path / "nowhere") in str(caught.value)
    case.write(tmp_path)
    for pairs in case.parts.values():
        for _, label in pairs:
            (tmp_path / label).unlink()
    if case.module is not KITTIDepthDataModule:  # which lists what there is a depth of
        with pytest.raises(InputError, match=f"no file of '{case.key}' of split 'train', such as .*; root must hold"):
            case.data(tmp_path).build("train", ["image", case.key])


@files_with_wrong
def test_values_that_there_are_not(case: Case, tmp_path: Path) -> None:
    case.write(tmp_path)
    value, message = case.wrong
    pixels = np.array([list(case.meaning)], dtype=case.dtype).repeat(2, 0)
    pixels[0, 0] = value
    _, label = next(iter(case.parts.values()))[0]
    write(tmp_path / label, pixels)
    with pytest.raises(InputError, match=message) as caught:
        case.data(tmp_path).build("train", ["image", case.key])[0]
    assert "\n" not in str(caught.value) and Path(label).name in str(caught.value)


@each_format
def test_label_of_another_size(case: Case, tmp_path: Path) -> None:
    case.write(tmp_path)
    _, label = next(iter(case.parts.values()))[0]
    pixels = np.array([list(case.meaning)[:1]], dtype=case.dtype)
    write(tmp_path / label, pixels)
    with pytest.raises(InputError, match=r"is 1x1 pixels but its image .* is \d+x2; make them the same size"):
        case.data(tmp_path).build("train", ["image", case.key])[0]


@each_format
def test_images_of_one_pixel_and_damaged_files(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case.write(tmp_path)
    image, label = next(iter(case.parts.values()))[0]
    write(tmp_path / image, np.zeros((1, 1, 3), np.uint8))
    write(tmp_path / label, np.array([list(case.meaning)[:1]], dtype=case.dtype))
    samples = case.data(tmp_path).build("train", ["image", case.key])
    sample = samples[0]
    assert sample["image"].shape == (3, 1, 1)
    torch.testing.assert_close(
        sample[case.key], expected(case, case.data(tmp_path))[..., :1, :1], equal_nan=True, rtol=0, atol=1e-6
    )
    (tmp_path / label).write_bytes((tmp_path / label).read_bytes()[:30])
    missing = samples[0][case.key]
    assert bool((missing == -100).all() if missing.dtype == torch.int64 else missing.isnan().all())
    assert "damaged (" in caplog.text
    (tmp_path / image).write_bytes(b"")
    with pytest.raises(SkipSample):
        samples[0]


@pytest.mark.parametrize("name", ["copy of 000001_10.png", "\u00b2_10.png", "_10.png"])
def test_pictures_of_kitti_that_have_no_number(tmp_path: Path, name: str) -> None:
    root = CASES["kitti"].write(tmp_path)
    write(root / "training/image_2" / name, np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(
        InputError, match=f"image_2/{name} is no image of KITTI semantics, .* 000000_10.png to"
    ) as caught:
        CASES["kitti"].data(root).build("train", ["image"])
    assert "\n" not in str(caught.value)


def test_background_that_is_missing(tmp_path: Path) -> None:
    data = CASES["voc"].data(CASES["voc"].write(tmp_path), background=False)
    row = data.build("train", ["image", "semantic"])[0]["semantic"][0].tolist()
    assert row == [-100, 1, 15, 20, -100]


def test_palettes_sixteen_bits_and_colours_with_transparency(tmp_path: Path) -> None:
    """Of a palette the index counts where a file has numbers, the colour where it has colours."""
    case = CASES["voc"]
    file = case.write(tmp_path / "voc") / "SegmentationClass" / "0.png"
    numbers = np.asarray(Image.open(file))
    picture = Image.fromarray(numbers, mode="P")
    picture.putpalette([255 - n // 3 for n in range(768)])
    picture.save(file)
    assert torch.equal(
        case.data(tmp_path / "voc").build("train", ["semantic"])[0]["semantic"], expected(case, case.data(tmp_path))
    )
    write(file, numbers.astype(np.uint16))
    assert torch.equal(
        case.data(tmp_path / "voc").build("train", ["semantic"])[0]["semantic"], expected(case, case.data(tmp_path))
    )
    write(file, np.repeat(numbers[..., None], 3, -1))
    samples = case.data(tmp_path / "voc").build("train", ["semantic"])
    assert (samples[0]["semantic"] == -100).all() and "one whole number per pixel" in next(
        iter(samples.problems)
    ).reason

    case = CASES["camvid"]
    file = case.write(tmp_path / "camvid") / "LabeledApproved_full" / "F_0_L.png"
    colours = Image.open(file)
    for kind in (colours.quantize(8), colours.convert("RGBA")):
        kind.save(file)
        assert torch.equal(
            case.data(tmp_path / "camvid").build("train", ["semantic"])[0]["semantic"],
            expected(case, case.data(tmp_path)),
        )


def test_depth_of_eight_bits(tmp_path: Path) -> None:
    """A depth that a tool has reduced to 8 bits would be read as far too near."""
    case = CASES["vgallery_depth"]
    label = case.write(tmp_path) / case.parts["training"][0][1]
    write(label, np.zeros((2, 2), np.uint8))
    samples = case.data(tmp_path).build("train", ["depth_z"])
    assert samples[0]["depth_z"].isnan().all()
    assert "a depth has one number of 16 bits per pixel, not uint8" in next(iter(samples.problems)).reason


def test_exif_turns_images_not_labels(tmp_path: Path) -> None:
    case = CASES["ade20k"]
    root = case.write(tmp_path)
    picture = Image.fromarray(np.zeros((len(case.meaning), 2, 3), np.uint8))  # stored on its side
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(root / "images/training/A_0.jpg", exif=exif)
    sample = case.data(root).build("train", ["image", "semantic"])[0]
    assert sample["image"].shape[1:] == (2, len(case.meaning))
    assert torch.equal(sample["semantic"], expected(case, case.data(root)))


def test_masks_of_suim_that_are_too_large(tmp_path: Path) -> None:
    """37 training images have 590 x 375 or 910 x 435 pixels and masks that go on to the right and below."""
    write(tmp_path / "train_val/images/f_r_829_.jpg", np.zeros((375, 590, 3), np.uint8))
    mask = np.zeros((480, 640, 3), np.uint8)
    mask[:375, :590, 0] = 255
    write(tmp_path / "train_val/masks/f_r_829_.bmp", mask)
    semantic = SUIMDataModule(str(tmp_path)).build("train", ["semantic"])[0]["semantic"]
    assert semantic.shape == (375, 590) and (semantic == 4).all()


def test_annotations_of_coco_that_cannot_be(tmp_path: Path) -> None:
    case = CASES["coco"]
    listing = case.write(tmp_path) / "annotations/panoptic_train2017.json"
    content = json.loads(listing.read_text())
    (first,) = content["annotations"]
    changes: dict[str, Callable[[], object]] = {
        "has 000000000000.png twice": lambda: content["annotations"].append(first),
        "a segment of 000000000000.png is of none": lambda: first["segments_info"][0].update(category_id=4),
        "has other categories": lambda: content["categories"][3].update(name="lorry"),
        "the file has no 'categories'": lambda: content.pop("categories"),
    }
    for message, change in changes.items():
        change()
        listing.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            case.data(tmp_path).build("train", ["semantic"])
    (tmp_path / "annotations/panoptic_val2017.json").write_text("[")
    with pytest.raises(InputError, match=r"panoptic_val2017\.json: damaged \(no JSON"):
        case.data(tmp_path).build("validation", ["semantic"])


def test_measured_depth_of_sun(tmp_path: Path) -> None:
    case = CASES["sunrgbd_depth"]
    root = case.write(tmp_path)
    write(root / "SUNRGBD/a/0/depth/y.png", np.full((2, len(case.meaning)), 8 * 500, np.uint16))
    depth = case.data(root, depth="measured").build("train", ["depth_z"])[0]["depth_z"]
    torch.testing.assert_close(depth, torch.full((1, 2, len(case.meaning)), 0.5))
    with pytest.raises(InputError, match="depth is 'raw'; allowed"):
        case.data(root, depth="raw")


def test_batches(tmp_path: Path) -> None:
    """Through the loader: subset, size, a flip of image and label together."""
    case = CASES["kitti_depth"]
    data = case.data(
        case.write(tmp_path), size=(4, 8), keys=["image", "depth_z"], batch_size=2, test_split="official_test"
    )
    (batch,) = list(data.test_dataloader())
    assert batch["image"].shape == (2, 3, 4, 8) and batch["depth_z"].shape == (2, 1, 4, 8)
    valid = batch["depth_z"][~batch["depth_z"].isnan()]
    assert valid.min() == 1 and valid.max() == 85
