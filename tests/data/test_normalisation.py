"""Colours of a data set: measured as NumPy does it on all pixels at once, and taken out of pictures."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torchvision.transforms import v2

from lightning_taskonomy.commands.data import data_colours
from lightning_taskonomy.data import ImageFiles, MultiSourceData
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.batch import Sample
from lightning_taskonomy.data.normalisation import Normalisation, measure_colours
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiSourceModule, MultiTaskModule, SimCLRModule
from lightning_taskonomy.training import Run

torch.set_num_threads(1)


class Sizes:
    """Image i is (3, 8 + i, 20 - i), its channels of other colours."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        random = torch.Generator().manual_seed(index)
        colours = torch.rand(3, 8 + index, 20 - index, generator=random)
        image = 0.1 + colours * torch.tensor([0.2, 0.5, 0.8])[:, None, None]
        return {"image": image, "semantic": torch.zeros(image.shape[1:], dtype=torch.long), "id": torch.tensor(index)}


class SizesModule(TaskDataModule):
    @property
    def keys_offered(self) -> Collection[str]:
        return ("image", "semantic")

    def build(self, split: str, keys: Collection[str]) -> Sizes:
        return Sizes(5)


def all_pixels() -> Any:
    return np.concatenate([Sizes(5)[i]["image"].numpy().reshape(3, -1) for i in range(5)], 1).astype(np.float64)


def test_mean_and_deviation_are_those_of_all_pixels() -> None:
    measured = measure_colours(SizesModule(transforms=[v2.ColorJitter(0.5)], evaluation_size=(4, 4)))
    pixels = all_pixels()
    assert np.allclose(measured.mean, pixels.mean(1), rtol=0, atol=1e-12)
    assert np.allclose(measured.deviation, pixels.std(1), rtol=0, atol=1e-12)


def test_the_command_writes_what_the_data_module_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep" / "colours.json"
    data = SizesModule(normalise=str(file), keys=["image", "image_noisy"])
    with pytest.raises(InputError, match=r"colours.json cannot be read.*data colours"):
        data.dataset("test")
    data_colours(data, file)
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())
    rows = [data.dataset("test")[i]["image"].double().flatten(1) for i in range(5)]
    pixels = torch.cat(rows, 1).numpy()
    assert np.allclose(pixels.mean(1), 0, atol=1e-6) and np.allclose(pixels.std(1), 1, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_all_pictures_are_normalised_last(training: bool) -> None:
    numbers = {"mean": [0.5, 0.25, 0.0], "deviation": [0.5, 0.1, 2.0]}
    keys, options = ["image", "image_gray", "semantic"], {"transforms": [v2.RandomHorizontalFlip(1)]}
    plain = SizesModule(**options).dataset("train", keys=keys, training=training)[2]
    sample = SizesModule(normalise=numbers, **options).dataset("train", keys=keys, training=training)[2]
    for key in ("image", "image_gray"):
        expected = (plain[key].numpy() - np.array(numbers["mean"])[:, None, None]) / np.array([[[0.5]], [[0.1]], [[2]]])
        assert np.allclose(sample[key].numpy(), expected, atol=1e-5)
        assert torch.allclose(Normalisation.of(numbers).undo(sample[key]), plain[key], atol=1e-6)
    assert torch.equal(sample["semantic"], plain["semantic"])


def test_pictures_to_predict_from_are_normalised_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32, 3), 51, np.uint8)).save(tmp_path / "one.png")
    files = ImageFiles([tmp_path], size=32, normalise={"mean": [0.1] * 3, "deviation": [0.5] * 3})
    (batch,) = files.predict_dataloader()
    assert torch.allclose(batch["image"], torch.tensor((0.2 - 0.1) / 0.5))


@pytest.mark.parametrize(
    ("normalise", "reason"),
    [
        ({"mean": [0.5] * 3}, "needs the entries mean and deviation"),
        ({"mean": [0.5] * 3, "deviation": [0.5, 0.5, 0.0]}, "deviations above 0"),
        ({"mean": [0.5] * 3, "deviation": [0.5]}, "a number per colour channel"),
        ({"mean": [0.5, float("nan"), 0.5], "deviation": [0.5] * 3}, "a number per colour channel"),
    ],
)
def test_numbers_that_are_none_are_refused(normalise: dict[str, list[float]], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        SizesModule(normalise=normalise)


def test_other_channels_and_a_flat_channel_are_refused() -> None:
    one = SizesModule(normalise={"mean": [0.5], "deviation": [0.5]})
    with pytest.raises(InputError, match="of 1 channels, but images have 3"):
        one.dataset("train", keys=["image"])[0]

    class Grey(SizesModule):
        def build(self, split: str, keys: Collection[str]) -> Any:
            return [{"image": torch.full((3, 4, 4), 0.3), "id": torch.tensor(0)}]

    with pytest.raises(InputError, match="the same in all pixels"):
        measure_colours(Grey())


@pytest.mark.parametrize("kind", ["tasks", "self-supervised", "several sources"])
def test_images_are_not_normalised_twice(tmp_path: Path, kind: str) -> None:
    class Same(SizesModule):
        def build(self, split: str, keys: Collection[str]) -> Any:
            return [{**Sizes(5)[2], "id": torch.tensor(i)} for i in range(2)]

    def fit(normalises: bool) -> None:
        backbone = TimmBackbone("test_resnet", normalises=normalises)
        data: TaskDataModule = Same(normalise={"mean": [0.5] * 3, "deviation": [0.5] * 3}, batch_size=2)
        module: LightningModule = MultiTaskModule(["autoencoding"], backbone)
        if kind == "self-supervised":
            module = SimCLRModule(backbone)
        if kind == "several sources":  # of which the second alone is normalised
            module = MultiSourceModule({"a": "autoencoding", "b": "autoencoding"}, backbone)
            data = MultiSourceData({"a": Same(batch_size=2), "b": data})
        trainer = Trainer(
            default_root_dir=tmp_path, accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0,
        )  # fmt: skip
        Run(trainer, module, data).fit()

    with pytest.raises(InputError, match=r"TimmBackbone would normalise them again.*normalises: false"):
        fit(True)
    fit(False)


def test_a_backbone_that_does_not_normalise_takes_images_as_they_are() -> None:
    backbone = TimmBackbone("test_resnet", normalises=False).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        maps = zip(backbone(image), backbone.model(image), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in maps)
