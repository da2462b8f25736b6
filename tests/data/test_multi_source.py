"""Several data sets in turns, and the network that learns from them."""

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_taskonomy.batch import labelled_keys, origin_key
from lightning_taskonomy.data import MultiSourceData, RoomsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import DenseHead
from lightning_taskonomy.modules import MultiSourceModule

SETS = ("city", "house")


@pytest.fixture
def data(rooms):
    options = {**rooms["init_args"], "batch_size": 2}
    return MultiSourceData(
        {
            "city": RoomsDataModule(**{**options, "appearance": "driving", "train_buildings": 3}),
            "house": RoomsDataModule(**{**options, "size": 48, "cache": None, "train_buildings": 1}),
        },
        seed=5,
    )


@pytest.fixture
def module(tiny_backbone):
    from lightning_taskonomy.training.parser import instantiate_backbone

    def light(channels, reductions, task):
        return DenseHead(channels, reductions, task, layers=2, width=8)

    torch.manual_seed(0)
    return MultiSourceModule(
        dict.fromkeys(SETS, "depth_z"), instantiate_backbone(tiny_backbone), heads=dict.fromkeys(SETS, light)
    )


def attached(data, module, tmp_path, **options):
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    trainer.strategy.connect(module)
    data.trainer = trainer
    return trainer


def drawn(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_batches_are_of_one_set_after_the_other(data, module, tmp_path):
    attached(data, module, tmp_path)
    batches = drawn(data)
    assert len(batches) == (3 * 2 + 1 * 2) // 2  # as many as all images make, two views a building
    for number, batch in enumerate(batches):
        source, other = SETS[number % 2], SETS[1 - number % 2]
        assert origin_key(source) in batch and origin_key(other) not in batch
        assert batch["image"].shape[-1] == {"city": 32, "house": 48}[source]
        assert origin_key(source) in labelled_keys(batch)
    assert {int(i) for batch in batches[::2] for i in batch["id"]} <= {
        int(sample["id"]) for sample in data.sources["city"].dataset("train", keys=["depth_z"])
    }


def test_what_a_batch_has_follows_from_its_number(data, module, tmp_path):
    attached(data, module, tmp_path)
    first = [batch["image"] for epoch in range(2) for batch in drawn(data, epoch)]
    again = [batch["image"] for batch in drawn(data, 1)]
    assert all(torch.equal(a, b) for a, b in zip(first[len(again) :], again, strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first[: len(again)], again, strict=True))


def test_a_batch_teaches_its_own_head_alone(data, module, tmp_path):
    attached(data, module, tmp_path)
    batch = drawn(data)[1]
    losses, predictions = module.losses(batch)
    assert set(losses) == set(predictions) == {"house"}
    sum(losses.values()).backward()
    assert all(p.grad is None for p in module.heads["city"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in module.heads["house"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in module.backbone.parameters())


def test_a_fit_measures_each_set_by_its_name(data, module, tmp_path):
    trainer = attached(data, module, tmp_path, max_steps=4, max_epochs=-1)
    trainer.fit(module, datamodule=data)
    (metrics,) = trainer.validate(module, datamodule=data, verbose=False)
    assert {"val/city/mae", "val/house/mae", "val/loss"} <= metrics.keys()
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    alone = data.sources["city"].dataset("test", keys=["image", "depth_z"])
    errors = []
    with torch.no_grad():
        for index in range(len(alone)):
            batch = alone.batch([index])
            batch[origin_key("city")] = torch.ones(1, dtype=torch.bool)
            depth = batch["depth_z"]
            valid = depth.isfinite()
            errors.append((module.eval()(batch)["city"] - depth)[valid].abs())
    assert tested["test/city/mae"] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)


def test_what_cannot_be(data, module, tmp_path, rooms):
    with pytest.raises(InputError, match="sources \\['city'\\]; give two or more"):
        MultiSourceData({"city": data.sources["city"]})
    with pytest.raises(InputError, match="give two or more"):
        MultiSourceModule({"city": "depth_z"}, module.backbone)
    attached(data, module, tmp_path)
    data.sources["town"] = data.sources.pop("house")
    with pytest.raises(InputError, match="no source 'town'"):
        data.train_dataloader()
