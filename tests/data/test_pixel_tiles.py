"""Tiles of large pictures: where they lie, what they hold, how often a file is decoded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.formats import codes, tiles
from lightning_taskonomy.data.formats.isaid import ISAIDDataModule
from lightning_taskonomy.data.formats.isprs import ISPRSDataModule
from lightning_taskonomy.data.formats.tiles import starts
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.catalog.isaid import COLOURS

torch.set_num_threads(1)
PALETTE = np.array([*COLOURS.values()], np.uint8)


def isaid(root: Path, sizes: dict[str, tuple[int, int]], part: str = "train") -> dict[str, Any]:
    """Pictures of random colours with labels of random classes, by name with height and width."""
    rng = np.random.default_rng(0)
    written = {}
    folder = root / part / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        picture, classes = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 16, size)
        Image.fromarray(picture).save(folder / f"{name}.png")
        Image.fromarray(PALETTE[classes]).save(folder / f"{name}_instance_color_RGB.png")
        Image.fromarray(picture).save(folder / f"{name}_instance_id_RGB.png")
        written[name] = picture, classes
    return written


def test_where_tiles_begin() -> None:
    """As the devkit of iSAID cuts 1,500 pixels; every pixel is in a tile, and no tile comes twice."""
    assert starts(1500, 800, 200) == [0, 600, 700]
    assert starts(800, 800, 200) == [0] == starts(500, 800, 200)
    assert starts(801, 800, 200) == [0, 1]
    for length in range(1, 40):
        for side, overlap in ((8, 0), (8, 3), (5, 4)):
            places = starts(length, side, overlap)
            assert len(set(places)) == len(places)
            assert {pixel for place in places for pixel in range(place, min(place + side, length))} == {*range(length)}
            assert max(places) + side == max(length, side)


def test_tiles_and_their_labels(tmp_path: Path) -> None:
    """Tiles put back together are the picture; the last ones end with it, a small one is filled up."""
    written = isaid(tmp_path, {"P0001": (20, 13), "P0002": (5, 11)})
    samples = ISAIDDataModule(str(tmp_path), side=8, overlap=2).build("train", ["image", "semantic"])
    assert [file.name for file in samples.images] == [
        "8x8+0+0", "8x8+5+0", "8x8+0+6", "8x8+5+6", "8x8+0+12", "8x8+5+12", "8x8+0+0", "8x8+3+0",
    ]  # fmt: skip
    assert len({int(samples[index]["id"]) for index in range(8)}) == 8
    for index, name in enumerate(["P0001"] * 6 + ["P0002"] * 2):
        picture, classes = written[name]
        sample = samples[index]
        _, left, top = samples.images[index].name.split("+")
        place = np.s_[int(top) : int(top) + 8, int(left) : int(left) + 8]
        height, width = classes[place].shape
        assert sample["image"].shape == (3, 8, 8) and sample["semantic"].shape == (8, 8)
        torch.testing.assert_close(
            sample["image"][:, :height, :width], torch.tensor(picture[place]).permute(2, 0, 1) / 255
        )
        assert torch.equal(sample["semantic"][:height, :width], torch.tensor(classes[place]))
        assert (sample["image"][:, height:] == 0).all() and (sample["semantic"][height:] == -100).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_no_file_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """With a cache: two epochs of tiles in random order decode each of 3 pictures and 3 labels once in all."""
    isaid(tmp_path, {f"P000{n}": (20, 20) for n in range(3)})
    isaid(tmp_path, {"P0009": (8, 8)}, "val")
    decoded = tmp_path / "decoded.txt"

    def counted(read: Callable[..., Any], file: Path, **options: Any) -> Any:
        with decoded.open("a") as log:
            log.write(f"{file.name}\n")
        return read(file, **options)

    monkeypatch.setattr(tiles, "read_colours", partial(counted, tiles.read_colours))
    monkeypatch.setattr(codes, "read_packed", partial(counted, codes.read_packed))
    data = ISAIDDataModule(
        str(tmp_path), side=8, overlap=2, cache=str(tmp_path / "cache"), keys=["image", "semantic"], batch_size=3,
        num_workers=workers,
    )  # fmt: skip
    count = sum(len(batch["image"]) for _ in range(2) for batch in data.train_dataloader())
    assert count == 2 * 3 * 9
    names = decoded.read_text().split()
    assert len({*names}) == 6
    assert len(names) == 6 if workers == 0 else len(names) <= 12  # two workers may begin with the same file at once
    before = len(names)
    list(data.train_dataloader())
    assert len(decoded.read_text().split()) == before


def test_in_order_one_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache tiles in order, as in validation, decode each file once."""
    isaid(tmp_path, {"P0001": (20, 20), "P0002": (20, 20)})
    count = []
    read = tiles.read_colours
    monkeypatch.setattr(tiles, "read_colours", lambda file, **options: count.append(file) or read(file, **options))
    samples = ISAIDDataModule(str(tmp_path), side=8, overlap=2).build("train", ["image"])
    for index in range(len(samples)):
        samples[index]
    assert len(samples) == 18 and len(count) == 2


def test_a_file_that_changes_is_decoded_again(tmp_path: Path) -> None:
    isaid(tmp_path, {"P0001": (8, 8)})
    options = {"side": 8, "overlap": 0, "cache": str(tmp_path / "cache")}
    first = ISAIDDataModule(str(tmp_path), **options).build("train", ["image"])[0]["image"]
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(tmp_path / "train" / "images" / "P0001.png")
    assert (ISAIDDataModule(str(tmp_path), **options).build("train", ["image"])[0]["image"] == 1).all()
    assert not (first == 1).all()
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:90])
    samples = ISAIDDataModule(str(tmp_path), **options).build("train", ["image", "semantic"])
    with pytest.raises(Exception, match="remove it and it is decoded again"):
        samples[0]


def test_bad_tiles(tmp_path: Path) -> None:
    isaid(tmp_path, {"P0001": (20, 20)})
    with pytest.raises(InputError, match="tiles of 8 pixels cannot overlap by 8; give 0 to 7"):
        ISAIDDataModule(str(tmp_path), side=8, overlap=8)
    label = tmp_path / "train" / "images" / "P0001_instance_color_RGB.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(label)
    with pytest.raises(InputError, match=r"_RGB\.png is 30x20 pixels but its image .*P0001\.png is 20x20; make them"):
        ISAIDDataModule(str(tmp_path), side=8, overlap=0).build("train", ["image", "semantic"])
    Image.fromarray(np.full((20, 20, 3), 1, np.uint8)).save(label)
    with pytest.raises(InputError, match=r"P0001_instance_color_RGB.png holds colour \(1, 1, 1\)"):
        ISAIDDataModule(str(tmp_path), side=8, overlap=0).build("train", ["image", "semantic"])[0]


def test_labels_where_the_download_has_them(tmp_path: Path) -> None:
    written = isaid(tmp_path, {"P0001": (8, 8)})
    (tmp_path / "train" / "Semantic_masks" / "images").mkdir(parents=True)
    name = "P0001_instance_color_RGB.png"
    (tmp_path / "train/images" / name).rename(tmp_path / "train/Semantic_masks/images" / name)
    samples = ISAIDDataModule(str(tmp_path), side=8, overlap=0).build("train", ["image", "semantic"])
    assert len(samples) == 1 and torch.equal(samples[0]["semantic"], torch.tensor(written["P0001"][1]))


def test_potsdam_and_vaihingen(tmp_path: Path) -> None:
    """Channels that both have: red, green and their mean; noise in label colours is taken for the nearest of 8."""
    colours = np.array([[[10, 100, 200], [40, 80, 120]]], np.uint8)
    label = np.array([[[255, 255, 0], [252, 3, 0]]], np.uint8)  # car, clutter with noise
    for town, image, name in (("potsdam", "top_potsdam_2_10_RGB", "top_potsdam_2_10_label"),
                              ("vaihingen", "top_mosaic_09cm_area1", "top_mosaic_09cm_area1")):  # fmt: skip
        for folder in ("top", "gt"):
            (tmp_path / town / folder).mkdir(parents=True)
        Image.fromarray(colours).save(tmp_path / town / "top" / f"{image}.tif")
        Image.fromarray(label).save(tmp_path / town / "gt" / f"{name}.tif")
    data = ISPRSDataModule(str(tmp_path), side=2, overlap=0)
    sample = data.build("train", ["image", "semantic"])[0]
    torch.testing.assert_close(sample["image"][:, 0] * 255, torch.tensor([[10.0, 40], [100, 80], [55, 60]]))
    assert sample["semantic"].tolist() == [[5, 0], [-100, -100]]
    sample = data.build("official_test", ["image", "semantic"])[0]
    torch.testing.assert_close(sample["image"][:, 0] * 255, torch.tensor([[100.0, 80], [200, 120], [150, 100]]))
    stored = ISPRSDataModule(str(tmp_path), side=2, overlap=0, shared_channels=False).build("train", ["image"])[0]
    torch.testing.assert_close(stored["image"][:, 0] * 255, torch.tensor(colours[0].T).float())


@pytest.mark.slow
def test_twelve_thousand_by_nine_thousand(tmp_path: Path) -> None:
    """Pillow would warn of so many pixels; all tiles are there, and the last one ends with the picture."""
    folder = tmp_path / "train" / "images"
    folder.mkdir(parents=True)
    for name, colour in (("P0001", 90), ("P0001_instance_color_RGB", 0)):
        Image.new("RGB", (12_000, 9_000), (colour,) * 3).save(folder / f"{name}.png", compress_level=1)
    samples = ISAIDDataModule(str(tmp_path)).build("train", ["image", "semantic"])
    assert len(samples) == 20 * 15 and samples.images[-1].name == "800x800+11200+8200"
    sample = samples[-1]
    assert sample["image"].shape == (3, 800, 800) and (sample["semantic"] == 0).all()
