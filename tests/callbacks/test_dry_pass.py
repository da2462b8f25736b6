"""A fit meets the sizes of all its images before its first step, in a study's run as on the command line."""

import pytest

from lightning_taskonomy.callbacks import DryPass
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.training import execute

VIT = {
    "class_path": "TimmBackbone",
    "init_args": {"name": "test_vit", "options": {"img_size": 64, "dynamic_img_size": False}},
}
LARGER = [{"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [64, 64]}}]


@pytest.fixture
def steps(monkeypatch):
    """The steps that were begun."""
    begun = []
    plain = MultiTaskModule.training_step
    monkeypatch.setattr(MultiTaskModule, "training_step", lambda self, *b: (begun.append(1), plain(self, *b))[1])
    return begun


def config_of(tiny_fit, backbone, transforms, **trainer):
    config = tiny_fit("depth_z", backbone=backbone)
    data = {**config["data"], "init_args": {**config["data"]["init_args"], "transforms": transforms}}
    return {**config, "data": data, "trainer": {**config["trainer"], **trainer}}


def test_validation_images_of_another_size_end_a_fit_before_its_first_step(tiny_fit, tmp_path, steps):
    config = config_of(tiny_fit, VIT, LARGER, limit_val_batches=1, num_sanity_val_steps=0)
    with pytest.raises(InputError, match=r"refuses images of 32x32 pixels .*64\)\); add .*, or give images of 64x64"):
        execute(config, tmp_path)
    assert not steps
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml"]


def test_training_images_of_another_size_do_too(tiny_fit, tmp_path, steps):
    vit = {
        "class_path": "TimmBackbone",
        "init_args": {"name": "test_vit", "options": {"img_size": 32, "dynamic_img_size": False}},
    }
    with pytest.raises(InputError, match="refuses images of 64x64 pixels"):
        execute(config_of(tiny_fit, vit, LARGER), tmp_path)
    assert not steps


def test_a_run_is_the_same_with_it(tiny_fit, tmp_path, monkeypatch):
    config = tiny_fit("depth_z", "jigsaw")
    one = execute(config, tmp_path / "with")
    monkeypatch.setattr(DryPass, "on_train_start", lambda *ignored: None)
    other = execute(config, tmp_path / "without")
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert (tmp_path / "with/weights.safetensors").read_bytes() == (
        tmp_path / "without/weights.safetensors"
    ).read_bytes()
