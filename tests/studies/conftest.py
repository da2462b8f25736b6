"""Tiny studies of rooms, each finished once for all tests, and one whose runs only pretend to train."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from lightning.pytorch import Callback

from lightning_taskonomy import training
from lightning_taskonomy.data import RoomsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_json
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

METRICS = {"depth_z": "mae", "normals": "mean_angle", "semantic_segmentation": "miou"}


@pytest.fixture(scope="session")
def tiny_settings(rooms, tiny_backbone):
    """What the study is made of: two targets, a source-only task that reads another input, orders 1 and 2."""
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    return {
        "tasks": ["depth_z", "normals", "colorization"],
        "data": rooms,
        "backbone": tiny_backbone,
        "heads": {"dense": light, "normals": light, "segmentation": light},
        "transfer_width": 8,
        "scheduler": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.7}},
        "trainer": {"accelerator": "cpu"},
        "epochs": 3,
        "transfer_epochs": 2,
        "transfer_size": 6,
        "max_order": 2,
        "beam": 2,
        "controls": [("depth_z", "normals")],
        "random_taxonomies": 10,
        "examples": 1,
        "checkpoint_seconds": 0,
    }


@pytest.fixture(scope="session")
def finished(tiny_settings, tmp_path_factory):
    """The folder and the results of an unbroken study."""
    out = tmp_path_factory.mktemp("study") / "whole"
    return out, TaxonomyStudy(**tiny_settings).run(out, execution=LocalExecutor(workers=0))


@pytest.fixture(scope="session")
def toy(rooms, tiny_backbone):
    """Two cases, three real methods."""
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    return {
        "tasks": ["depth_z", "normals"],
        "data": rooms,
        "networks": {"tiny": {"backbone": tiny_backbone, "heads": {"dense": light, "normals": light}}},
        "methods": {"primary_only": None, "mtl": {"auxiliary_steps": [1, 3]}, "tmt": {"auxiliary_steps": 1, "rank": 2}},
        "steps": 8,
        "evaluations": 4,
        "parallel": 0.5,
        "trainer": {"accelerator": "cpu"},
        "checkpoint_seconds": 0,
    }


@pytest.fixture(scope="session")
def measured(toy, tmp_path_factory):
    """The folder and the results of an unbroken study, and which splits were read in which order."""
    out, seen, plain = tmp_path_factory.mktemp("meta") / "whole", [], RoomsDataModule.dataset

    def dataset(self, split, **options):
        seen.append(split)
        return plain(self, split, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoomsDataModule, "dataset", dataset)
        results = MetaTransferStudy(**toy).run(out, execution=LocalExecutor(workers=0))
    return out, results, seen


@pytest.fixture
def pretended(toy, monkeypatch, tmp_path):
    """Makes a study whose runs write made-up metrics; gives it and the folders in the order of their tests."""
    order, broken = [], set()

    def execute(config, folder, checkpoint_seconds=0, test=True):
        folder = Path(folder)
        if any(folder.name.startswith(name) for name in broken):
            raise InputError("it broke")
        callbacks = [one["class_path"].rpartition(".")[2] for one in config["trainer"]["callbacks"]]
        arguments = config["trainer"]["callbacks"][0]["init_args"]
        assert not test and callbacks[-2:] == ["BestWeights", "History"]
        k = config["data"]["init_args"]["auxiliary_steps"]
        value = 1.0 + 0.1 * abs(k - 3) + 0.01 * abs(arguments.get("rank", 0) - 4) + 0.001 * config["seed_everything"]
        metrics = {f"val/{name}/{metric}": value for name, metric in METRICS.items()}
        write_bytes(folder / "weights.safetensors", b"")
        write_json(folder / "config.json", config)
        write_json(folder / "metrics.json", {**metrics, "seconds": 1.0})

    def evaluate(folder, config):
        order.append(Path(folder).name)
        write_json(Path(folder) / "test.json", {f"test/{name}/{metric}": 0.5 for name, metric in METRICS.items()})

    monkeypatch.setattr(training, "execute", execute)
    monkeypatch.setattr(training, "evaluate", evaluate)
    monkeypatch.setattr("lightning_taskonomy.studies.jobs.prepare", lambda done, **options: write_json(done, {}))

    def make(**changes):
        return MetaTransferStudy(**{**toy, **changes}), tmp_path / "s", order, broken

    return make


class Mine(Callback):
    """A user's own method."""

    def __init__(self, primary: str, auxiliary: list[str], strength: float = 1.0) -> None:
        if strength < 0:
            raise InputError(f"strength is {strength}")


@pytest.fixture
def mine(monkeypatch):
    """Its dotted path."""
    module = ModuleType("my_project")
    module.Mine = Mine
    monkeypatch.setitem(sys.modules, "my_project", module)
    return "my_project.Mine"
