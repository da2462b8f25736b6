"""Cityscapes: the official folders and the MTAN arrays, classes and groups, disparities, real samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.cityscapes import CityscapesDataModule
from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import find
from lightning_taskonomy.tasks.catalog.cityscapes import GROUPS

torch.set_num_threads(1)
REAL = Path(__file__).parents[2].parent / "shared" / "realdata" / "cityscapes"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no Cityscapes at {REAL}")
KEYS = ["image", "semantic_7", "semantic_19", "inverse_depth"]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Two training images and three others of 34 x 6 pixels; column n of a label is labelId n."""
    rng = np.random.default_rng(0)
    names = {"train": ["aachen_000000_000019", "ulm_000001_000019"],
             "val": ["frankfurt_000000_000294", "frankfurt_000001_000294", "lindau_000000_000019"]}  # fmt: skip
    for part, listed in names.items():
        for name in listed:
            city = name.partition("_")[0]
            label = np.tile(np.arange(34, dtype=np.uint8), (6, 1))
            disparity = np.full((6, 34), 257, np.uint16)
            disparity[0] = 0
            contents = {
                "leftImg8bit": ("leftImg8bit", rng.integers(0, 256, (6, 34, 3), np.uint8)),
                "gtFine": ("gtFine_labelIds", label),
                "disparity": ("disparity", disparity),
            }
            for kind, (end, pixels) in contents.items():
                folder = tmp_path / kind / part / city
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{name}_{end}.png")
    return tmp_path


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for part, count in (("train", 1), ("val", 3)):
        for number in range(count):
            contents = {
                "image": rng.random((4, 8, 3)), "label_7": rng.integers(-1, 7, (4, 8)).astype(float),
                "label_19": rng.integers(-1, 19, (4, 8)).astype(float), "depth": rng.random((4, 8, 1)) / 2,
            }  # fmt: skip
            for kind, content in contents.items():
                (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
                np.save(tmp_path / part / kind / f"{number}.npy", content)
    return tmp_path


def columns(row: torch.Tensor, classes: Sequence[str]) -> dict[int, str]:
    return {column: classes[number] for column, number in enumerate(row.tolist()) if number != -100}


def test_label_numbers_that_there_are_not(official: Path) -> None:
    file = official / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png"
    label = np.full((6, 34), 255, np.uint8)  # -1, number plates
    Image.fromarray(label).save(file)
    assert (CityscapesDataModule(str(official)).build("train", KEYS)[0]["semantic_19"] == -100).all()
    label[0, :7] = 34
    Image.fromarray(label).save(file)
    with pytest.raises(InputError, match=r"labelIds\.png holds class 34 at 7 of 204 pixels, but labelIds are 0 to 33"):
        CityscapesDataModule(str(official)).build("train", KEYS)[0]


def test_classes_and_groups(official: Path) -> None:
    """By the data set's own table of label numbers."""
    sample = CityscapesDataModule(str(official)).build("train", KEYS)[0]
    evaluated = {
        7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
        20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
        27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
    }  # fmt: skip
    fine, coarse = find("cityscapes.semantic_19"), find("cityscapes.semantic_7")
    assert fine.channels == 19 and coarse.channels == 7
    assert columns(sample["semantic_19"][2], fine.class_names or ()) == evaluated
    groups = columns(sample["semantic_7"][2], coarse.class_names or ())
    assert groups == {
        number: group for number, name in evaluated.items() for group, names in GROUPS.items() if name in names
    }
    assert groups[7] == "flat" and groups[33] == "vehicle" and groups[25] == "human"


def test_disparities(official: Path) -> None:
    depth = CityscapesDataModule(str(official)).build("train", KEYS)[1]["inverse_depth"]
    assert depth.shape == (1, 6, 34) and depth[0, 0].isnan().all()
    torch.testing.assert_close(depth[0, 1:], torch.full((5, 34), 257 / 65535))


def test_the_validation_images_are_halved(official: Path) -> None:
    data = CityscapesDataModule(str(official))
    ids = {s: [int(x["id"]) for x in map(data.build(s, ["image"]).__getitem__, range(n))]
           for s, n in (("validation", 2), ("test", 1), ("official_test", 3))}  # fmt: skip
    assert ids["official_test"][::2] == ids["validation"] and ids["official_test"][1::2] == ids["test"]
    assert len(data.build("train", ["image"])) == 2


def test_arrays(arrays: Path) -> None:
    data = CityscapesDataModule(str(arrays), keys=KEYS, batch_size=2)
    (batch,) = list(data.val_dataloader())
    for row, number in enumerate((0, 2)):
        for kind, key in (("label_7", "semantic_7"), ("label_19", "semantic_19")):
            stored = np.load(arrays / "val" / kind / f"{number}.npy")
            assert torch.equal(batch[key][row], torch.tensor(np.where(stored < 0, -100, stored)).long())
        depth = np.load(arrays / "val" / "depth" / f"{number}.npy")[..., 0]
        np.testing.assert_allclose(batch["inverse_depth"][row, 0], depth, rtol=1e-6)


def test_damaged_and_missing_files(official: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = official / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    train.write_bytes(train.read_bytes()[:40])
    (official / "disparity/train/ulm/ulm_000001_000019_disparity.png").unlink()
    samples = CityscapesDataModule(str(official)).build("train", KEYS)
    assert (samples[0]["semantic_19"] == -100).all() and samples[1]["inverse_depth"].isnan().all()
    assert not samples[0]["inverse_depth"][0, 1:].isnan().any()
    assert "labelIds.png: damaged (" in caplog.text and "disparity.png: missing" in caplog.text
    report = check(CityscapesDataModule(str(official)))
    assert len(report.problems) == 2 and report.splits["validation"].read == 2


def test_bad_input_is_said_on_one_line(official: Path, tmp_path: Path) -> None:
    data = CityscapesDataModule(str(official))
    with pytest.raises(InputError, match="no split 'tset'"):
        data.build("tset", ["image"])
    with pytest.raises(InputError, match=r"no image of split 'train'; root must hold leftImg8bit/train") as caught:
        CityscapesDataModule(str(tmp_path / "nowhere")).build("train", ["image"])
    assert "\n" not in str(caught.value)
    (official / "disparity").rename(official / "elsewhere")
    with pytest.raises(InputError, match="no folder disparity/train, where 'inverse_depth' is"):
        data.build("train", KEYS)
    report = check(data, splits=["train"])
    assert report.ok and "semantic_7" in report.splits["train"].keys


@real
def test_real_images() -> None:
    data = CityscapesDataModule(str(REAL), size=(64, 128), keys=KEYS[:3], batch_size=2)
    sizes = {split: len(data.build(split, ["image"])) for split in ("train", "validation", "test")}
    assert sizes == {"train": 4, "validation": 2, "test": 1}
    batch = data.dataset("train").batch([0, 1])
    assert batch["image"].shape == (2, 3, 64, 128)
    road = batch["semantic_19"] == 0
    assert 0.2 < road.float().mean() < 0.6 and (batch["semantic_7"][road] == 0).all()
    assert torch.equal(batch["semantic_7"] == -100, batch["semantic_19"] == -100)
    sky = (batch["semantic_19"] == 10).nonzero()[:, 1].float().mean()
    assert sky < road.nonzero()[:, 1].float().mean()


def test_hidden_files_change_no_split(official: Path) -> None:
    def ids() -> dict[str, list[int]]:
        data = CityscapesDataModule(str(official))
        return {
            split: [int(sample["id"]) for sample in map(data.build(split, ["image"]).__getitem__, range(count))]
            for split, count in (("validation", 2), ("test", 1))
        }

    before = ids()
    city = official / "leftImg8bit" / "val" / "frankfurt"
    (city / "._frankfurt_000000_000294_leftImg8bit.png").write_bytes(b"\0\5\26\7")
    (city.parent / ".DS_Store").write_bytes(b"")
    (city.parent / "._frankfurt").write_bytes(b"")
    (city / "frankfurt_000001_000294_leftImg8bit.png").rename(city / "frankfurt_000001_000294_leftImg8bit.PNG")
    assert ids() == before


def test_arrays_in_capitals_and_with_fractions(arrays: Path) -> None:
    file = arrays / "train" / "label_7" / "0.npy"
    stored = np.load(file)
    file.rename(file.with_suffix(".NPY"))
    (file.parent / "._0.npy").write_bytes(b"")
    (arrays / "train" / "image" / "0.npy").rename(arrays / "train" / "image" / "0.NPY")
    sample = CityscapesDataModule(str(arrays)).build("train", ["image", "semantic_7"])[0]
    assert torch.equal(sample["semantic_7"], torch.tensor(np.where(stored < 0, -100, stored)).long())
    np.save(file, np.full((4, 8), 2.5))
    with pytest.raises(InputError, match=r"label_7/0\.NPY and .*label_7/0\.npy would both be '0'"):
        CityscapesDataModule(str(arrays)).build("train", ["image", "semantic_7"])
    file.with_suffix(".NPY").unlink()
    with pytest.raises(InputError, match=r"0\.npy holds 2\.5, which is not a class number"):
        CityscapesDataModule(str(arrays)).build("train", ["image", "semantic_7"])[0]


@real
def test_real_instances_are_of_the_class_of_their_pixels() -> None:
    """Of instanceIds, number // 1000 is the class of an object (cityscapesScripts, createTrainIdInstanceImgs.py)."""
    names = find("cityscapes.semantic_19").class_names or ()
    known = {24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle"}
    samples = CityscapesDataModule(str(REAL)).build("train", ["semantic_19"])
    folder = REAL / "gtFine/train/aachen"
    for index, file in enumerate(sorted(folder.glob("*_instanceIds.png"))):
        objects = torch.from_numpy(np.asarray(Image.open(file)).astype(np.int64)) // 1000
        classes = samples[index]["semantic_19"]
        assert (objects > 0).any()
        for number in set(objects.unique().tolist()) & known.keys():
            assert (classes[objects == number] == names.index(known[number])).all()
    report = check(CityscapesDataModule(str(REAL), size=(64, 128)))
    assert report.problems == [] and all("disparity" in note for note in report.notes)
