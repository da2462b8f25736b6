"""A user's own folder: every encoding that is read, and every mistake that is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_taskonomy.data.folder import Encoding, FolderDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task, TaskKind

torch.set_num_threads(1)
HEIGHT, WIDTH = 6, 8
TASKS: list[str | Task] = [
    "depth_z",
    Task("walls", TaskKind.SEGMENTATION, "walls", 4),
    Task("facing", TaskKind.NORMALS, "facing", 3),
    Task("flow", TaskKind.DENSE, "flow", 2),
    Task("weather", TaskKind.CLASSIFICATION, "weather", 5),
    Task("steering", TaskKind.VECTOR, "steering", 2, input="thermal"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training images; the third has no labels."""
    rng = np.random.default_rng(0)
    root = tmp_path / "train"
    for key in ("image", "depth_z", "walls", "facing", "flow", "weather", "steering", "thermal"):
        (root / key).mkdir(parents=True)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(root / "image" / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)).save(root / "thermal" / f"{name}.png")
    for name in "ab":
        Image.fromarray(rng.integers(0, 9000, (HEIGHT, WIDTH), np.uint16)).save(root / "depth_z" / f"{name}.png")
        Image.fromarray(rng.integers(0, 4, (HEIGHT, WIDTH), np.uint8)).save(root / "walls" / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(root / "facing" / f"{name}.png")
        np.save(root / "flow" / f"{name}.npy", rng.normal(size=(HEIGHT, WIDTH, 2)))
        (root / "weather" / f"{name}.txt").write_text("3\n")
        (root / "steering" / f"{name}.txt").write_text("0.5 -2.25\n")
    return tmp_path


def module(root: Path, **options: Any) -> FolderDataModule:
    return FolderDataModule(str(root), tasks=TASKS, **options)


def test_every_encoding(folder: Path) -> None:
    stored = np.asarray(Image.open(folder / "train" / "depth_z" / "a.png")).copy()
    stored[0, 0] = 0
    Image.fromarray(stored).save(folder / "train" / "depth_z" / "a.png")
    data = module(folder, encodings={"depth_z": Encoding(scale=0.001, missing=(0,))})
    sample = data.build("train", sorted(data.keys_offered))[0]
    expected = torch.tensor(np.where(stored == 0, np.nan, stored / 1000)).float()
    torch.testing.assert_close(sample["depth_z"][0], expected, equal_nan=True)
    normals = np.asarray(Image.open(folder / "train" / "facing" / "a.png")) / 127.5 - 1
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    expected = torch.tensor(np.where(length > 0.5, normals / length, np.nan)).permute(2, 0, 1).float()
    torch.testing.assert_close(sample["facing"], expected, equal_nan=True, atol=1e-5, rtol=0)
    flow = np.load(folder / "train" / "flow" / "a.npy").transpose(2, 0, 1)
    torch.testing.assert_close(sample["flow"], torch.tensor(flow).float())
    assert int(sample["weather"]) == 3 and sample["weather"].shape == ()
    assert sample["steering"].tolist() == [0.5, -2.25]
    assert sample["thermal"].shape == (3, HEIGHT, WIDTH) and torch.equal(sample["thermal"][0], sample["thermal"][2])


def test_absent_labels_are_missing(folder: Path) -> None:
    data = module(folder, keys=["image", "depth_z", "walls", "weather", "steering", "flow"], batch_size=3)
    batch = next(iter(data.loader(data.dataset("train"))))
    assert batch["depth_z"][2].isnan().all() and batch["flow"][2].isnan().all() and batch["steering"][2].isnan().all()
    assert (batch["walls"][2] == -100).all() and batch["weather"].tolist() == [3, 3, -100]
    assert not batch["depth_z"][:2].isnan().any()


def test_an_image_without_its_other_input_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "train" / "thermal" / "b.png").unlink()
    samples = module(folder).build("train", ["image", "thermal"])
    assert len(samples) == 2 and "so the image is left out" in caplog.text


def test_an_input_of_ones_own_follows_its_image(folder: Path) -> None:
    """A cropped, mirrored image, and a grey input of which each channel must be the same crop of the file."""
    size = (HEIGHT, WIDTH)
    data = module(
        folder, size=size, keys=["image", "thermal"], transforms=[v2.RandomHorizontalFlip(1), v2.CenterCrop(4)]
    )
    sample = data.dataset("train", training=True)[0]
    plain = module(folder).build("train", ["image", "thermal"])[0]
    top, left = (HEIGHT - 4) // 2, (WIDTH - 4) // 2
    for key in ("image", "thermal"):
        assert torch.equal(sample[key], plain[key].flip(-1)[:, top : top + 4, left : left + 4])
    assert module(folder, size=(3, 4), keys=["thermal"]).dataset("train")[0]["thermal"].shape == (3, 3, 4)


def test_own_normals_are_mirrored_as_normals(folder: Path) -> None:
    data = module(folder, keys=["image", "facing"], transforms=[v2.RandomHorizontalFlip(1)])
    plain, mirrored = data.dataset("train")[0]["facing"], data.dataset("train", training=True)[0]["facing"]
    sign = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(mirrored, plain.flip(-1) * sign, equal_nan=True)


def test_other_suffixes_and_the_name_val(folder: Path) -> None:
    (folder / "train").rename(folder / "val")
    picture = Image.open(folder / "val" / "image" / "a.png")
    (folder / "val" / "image" / "a.png").unlink()
    picture.save(folder / "val" / "image" / "a.jpg")
    palette = Image.fromarray(np.full((HEIGHT, WIDTH), 2, np.uint8), mode="L").convert("P")
    palette.putdata([3] * (HEIGHT * WIDTH))
    palette.save(folder / "val" / "walls" / "a.png")
    sample = module(folder).build("validation", ["image", "walls"])[0]
    assert sample["image"].shape == (3, HEIGHT, WIDTH) and (sample["walls"] == 3).all()


def test_pickles_are_not_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(folder / "train" / "flow" / "a.npy", np.array([{"code": "here"}], dtype=object), allow_pickle=True)
    assert module(folder).build("train", ["flow"])[0]["flow"].isnan().all()
    assert "a.npy: damaged (" in caplog.text


@pytest.mark.parametrize(
    ("key", "name", "content", "message"),
    [
        (
            "walls",
            "a.png",
            np.full((HEIGHT, WIDTH), 7, np.uint8),
            "holds class 7 at 48 of 48 pixels, but task 'walls' has classes 0 to 3",
        ),
        ("walls", "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "wants one class per pixel"),
        ("walls", "a.png", np.zeros((5, 4), np.uint8), "is 4x5 pixels but its image .* is 8x6"),
        ("flow", "a.npy", np.zeros((HEIGHT, WIDTH, 3)), "has 2 channels"),
        ("steering", "a.txt", "1 2 3", "holds 3 numbers, but task 'steering' has 2 channels"),
        ("weather", "a.txt", "1 2", "wants one class per image"),
    ],
)
def test_labels_that_do_not_fit(folder: Path, key: str, name: str, content: Any, message: str) -> None:
    file = folder / "train" / key / name
    if isinstance(content, str):
        file.write_text(content)
    elif name.endswith(".npy"):
        np.save(file, content)
    else:
        Image.fromarray(content).save(file)
    with pytest.raises(InputError, match=message) as caught:
        module(folder).build("train", ["image", key])[0]
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no image of split 'test'; expected .*/test/image/NAME\.png"):
        module(folder).build("test", ["image"])
    with pytest.raises(InputError, match="encodings names 'deph_z', which no task reads; did you mean 'depth_z'"):
        module(folder, encodings={"deph_z": Encoding()}).build("train", ["image"])
    for file in (folder / "train" / "walls").iterdir():
        file.rename(file.with_stem("other_" + file.stem))
    with pytest.raises(
        InputError, match=r"no file in .*walls has the name of an image in .*; there is other_\w+\.png, "
    ):
        module(folder).build("train", ["image", "walls"])
    with pytest.raises(InputError, match="no tasks given"):
        FolderDataModule(str(folder)).build("train", ["image"])
