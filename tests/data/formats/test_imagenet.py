"""Folders of classes: numbered as torchvision numbers them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from lightning_taskonomy.data.formats.imagenet import ImageNetDataModule
from lightning_taskonomy.errors import InputError

torch.set_num_threads(1)


def written(root: Path) -> Path:
    for part, names in (("train", ("n02", "n01", "n10")), ("val", ("n10", "n01"))):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / part / name / f"{name}_{number}.JPEG")
            (root / part / name / f"._{name}_0.JPEG").write_bytes(b"left by a system")
    return root


def test_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    data = ImageNetDataModule(str(written(tmp_path)))
    samples = data.build("train", ["image", "image_class"])
    expected = [entry for entry in ImageFolder(str(tmp_path / "train")).samples if "._" not in entry[0]]
    assert [
        (str(file), number) for file, number in zip(samples.images, samples.classes.tolist(), strict=True)
    ] == expected  # type: ignore[attr-defined]
    assert samples[0]["image"].shape == (3, 4, 6) and int(samples[5]["image_class"]) == 2
    # a class that val lacks does not shift the others
    assert data.build("official_test", ["image", "image_class"]).classes.tolist() == [0, 0, 2, 2]  # type: ignore[attr-defined]
    ids = {int(samples[index]["id"]) for index in range(6)}
    assert len(ids) == 6 and "image_class" not in data.build("train", ["image"])[0]


def test_images_of_one_name_in_two_folders_have_two_ids(tmp_path: Path) -> None:
    for folder in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("1.jpg", "1.png"):
            Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / folder / name)
    data = ImageNetDataModule(str(tmp_path))
    train, evaluated, half = (data.build(split, []).ids for split in ("train", "official_test", "test"))  # type: ignore[attr-defined]
    assert len({*train, *evaluated}) == 8 and half == evaluated[1::2]


def test_bad_folders(tmp_path: Path) -> None:
    data = ImageNetDataModule(str(written(tmp_path)))
    (tmp_path / "val" / "n11").mkdir()
    with pytest.raises(InputError, match="val has 1 classes that train has not, such as n11"):
        data.build("test", ["image"])
    with pytest.raises(InputError, match="ImageNet has no split 'valid'"):
        data.build("valid", ["image"])
    with pytest.raises(InputError, match="has no folder of a class; root must hold train/CLASS"):
        ImageNetDataModule(str(tmp_path / "val")).build("train", ["image"])
