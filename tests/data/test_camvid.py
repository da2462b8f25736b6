"""CamVid: the lists, the classes, real images where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.camvid import CamVidDataModule
from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import find

torch.set_num_threads(1)
REAL = Path(__file__).parents[2].parent / "shared" / "realdata" / "camvid"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no CamVid at {REAL}")


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Two training images of 12 x 8 pixels and one of each other split."""
    rng = np.random.default_rng(0)
    for split, folder, count in (("train", "train", 2), ("val", "val", 1), ("test", "test", 1)):
        lines = []
        for number in range(count):
            name = f"{split}_{number}.png"
            for kind in (folder, f"{folder}annot"):
                (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8)).save(tmp_path / folder / name)
            Image.fromarray(rng.integers(0, 12, (8, 12), np.uint8)).save(tmp_path / f"{folder}annot" / name)
            lines.append(f"/SegNet/CamVid/{folder}/{name} /SegNet/CamVid/{folder}annot/{name}")
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_images_and_classes(camvid: Path) -> None:
    sample = CamVidDataModule(str(camvid)).build("train", ["image", "semantic"])[1]
    stored = np.asarray(Image.open(camvid / "trainannot" / "train_1.png")).astype(np.int64)
    assert torch.equal(sample["semantic"], torch.tensor(np.where(stored == 11, -100, stored)))
    picture = np.asarray(Image.open(camvid / "train" / "train_1.png")) / 255
    torch.testing.assert_close(sample["image"], torch.tensor(picture).permute(2, 0, 1).float())
    task = find("camvid.semantic_segmentation")
    assert task.target == "semantic" and task.channels == 11 and task.class_names is not None
    assert task.class_names[0] == "sky" and task.class_names[10] == "bicyclist"


def test_resized_classes_stay_classes(camvid: Path) -> None:
    data = CamVidDataModule(str(camvid), size=(4, 6), keys=["image", "semantic"], batch_size=2)
    (batch,) = list(data.val_dataloader())
    assert batch["image"].shape == (1, 3, 4, 6) and batch["semantic"].shape == (1, 4, 6)
    assert set(batch["semantic"].unique().tolist()) <= {*range(11), -100}


def test_bad_input_is_said_on_one_line(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.txt is missing; root must be the CamVid folder") as caught:
        CamVidDataModule(str(tmp_path / "nowhere")).build("train", ["image"])
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no split 'vall'"):
        CamVidDataModule(str(camvid)).build("vall", ["image"])
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(camvid / "trainannot" / "train_0.png")
    with pytest.raises(
        InputError, match=r"trainannot/train_0\.png is 10x8 pixels but its image .*train_0\.png is 12x8"
    ):
        CamVidDataModule(str(camvid)).build("train", ["image", "semantic"])[0]
    (camvid / "val.txt").write_text("only_one_path.png\n")
    with pytest.raises(InputError, match=r"val\.txt, line 1: 'only_one_path.png' is not an image and a label path"):
        CamVidDataModule(str(camvid)).build("validation", ["image"])


def test_other_classes_than_those_of_the_tutorial(camvid: Path) -> None:
    """Labels of the original 32 classes are refused: 12 to 31 are not what has no label."""
    label = np.zeros((8, 12), np.uint8)
    label[0, :4], label[1, 0] = 17, 31
    Image.fromarray(label).save(camvid / "trainannot" / "train_0.png")
    with pytest.raises(
        InputError, match=r"train_0\.png holds class 17 at 4 of 96 pixels and 1 more classes, but labels"
    ):
        CamVidDataModule(str(camvid)).build("train", ["image", "semantic"])[0]


def test_truncated_files(camvid: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in (camvid / "trainannot" / "train_0.png", camvid / "train" / "train_1.png"):
        file.write_bytes(file.read_bytes()[:60])
    data = CamVidDataModule(str(camvid), keys=["image", "semantic"], batch_size=2)
    samples = data.dataset("train")
    assert (samples[0]["semantic"] == -100).all() and samples[1] == {}
    assert "train_0.png: damaged (" in caplog.text and "train_1.png: damaged (" in caplog.text


@real
def test_real_images() -> None:
    data = CamVidDataModule(str(REAL), keys=["image", "semantic"], batch_size=2, size=(90, 120))
    sizes = {split: len(data.dataset(split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 184, "validation": 21, "test": 24}
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (2, 3, 90, 120)
    sample = CamVidDataModule(str(REAL)).build("train", ["image", "semantic"])[0]
    assert sample["image"].shape == (3, 360, 480) and sample["semantic"].shape == (360, 480)


@real
def test_real_class_shares() -> None:
    """Near the shares that the data set's own statistics name, in per cent of all training pixels."""
    published = torch.tensor([16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3])
    samples = CamVidDataModule(str(REAL)).build("train", ["image", "semantic"])
    counts = sum(torch.bincount(samples[i]["semantic"].flatten() % 112, minlength=13) for i in range(0, 184, 8))
    assert isinstance(counts, torch.Tensor)
    shares = 100 * counts / counts.sum()
    assert (shares[:11] - published).abs().max() < 5 and shares[12] < 8


def test_lists_of_other_systems(camvid: Path) -> None:
    """A byte-order mark and backslashes, as editors and tools on Windows leave them."""
    listing = camvid / "train.txt"
    text = listing.read_text().replace("/", "\\").replace("\n", "\r\n")
    listing.write_bytes(b"\xef\xbb\xbf" + text.encode())
    samples = CamVidDataModule(str(camvid)).build("train", ["image", "semantic"])
    assert len(samples) == 2
    for index in range(2):
        stored = np.asarray(Image.open(camvid / "trainannot" / f"train_{index}.png")).astype(np.int64)
        assert torch.equal(samples[index]["semantic"], torch.tensor(np.where(stored == 11, -100, stored)))
    listing.write_bytes(b"\x80\x81")
    with pytest.raises(InputError, match=r"train\.txt: damaged \("):
        CamVidDataModule(str(camvid)).build("train", ["image"])


@real
def test_real_files_are_sound() -> None:
    report = check(CamVidDataModule(str(REAL), size=(45, 60)), limit=8)
    assert report.problems == [] and report.notes == []
