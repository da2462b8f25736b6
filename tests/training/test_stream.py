"""Runs side by side from one stream of batches: each ends as it does alone, whatever happens to the others."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightning_taskonomy.data.rooms.dataset import RoomsDataset
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.training import execute, execute_together, is_finished

TASKS = [("depth_z",), ("semantic_segmentation",), ("depth_z", "semantic_segmentation"), ("denoising",)]


@pytest.fixture(scope="module")
def make(tiny_fit):
    """Makes the configuration of a fit with validation and dropout."""

    def configure(*tasks, **trainer):
        config = tiny_fit(*tasks, epochs=2)
        config["trainer"] = {**config["trainer"], "limit_val_batches": 1.0, **trainer}
        return config

    return configure


@pytest.fixture(autouse=True)
def dropout(monkeypatch):
    """Features of training are dropped by torch's global random numbers."""
    encode = MultiTaskModule.encode

    def dropped(self, batch, key):
        return [torch.nn.functional.dropout(f, 0.3, self.training) for f in encode(self, batch, key)]

    monkeypatch.setattr(MultiTaskModule, "encode", dropped)


def files(folder):
    """What a run has left, but for its seconds and its own name."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    config = (folder / "config.yaml").read_text().replace(str(folder), "FOLDER")
    return sorted(file.name for file in folder.iterdir()), metrics, config


def assert_same(folder, alone):
    assert files(folder) == files(alone)
    weights, expected = load_file(folder / "weights.safetensors"), load_file(alone / "weights.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    with np.load(folder / "scores.npz") as scores, np.load(alone / "scores.npz") as others:
        assert all(np.array_equal(scores[name], others[name], equal_nan=True) for name in others)


def test_each_ends_as_it_does_alone(make, tmp_path):
    configs = [{**make(*tasks), "seed_everything": seed} for seed, tasks in enumerate(TASKS)]
    runs = [{"config": config, "folder": tmp_path / f"{i}"} for i, config in enumerate(configs)]
    metrics = execute_together(runs)
    for i, config in enumerate(configs):
        execute(config, tmp_path / f"alone{i}")
        assert_same(tmp_path / f"{i}", tmp_path / f"alone{i}")
        assert metrics[i] == json.loads((tmp_path / f"{i}" / "metrics.json").read_text())
