"""What is no part of a run's identity changes no number, bit by bit; all else is part of it."""

import ast
import inspect
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, callbacks
from safetensors.torch import load_file
from torch.utils.data import DataLoader

import lightning_taskonomy
from lightning_taskonomy.training import execute, identity
from lightning_taskonomy.training.identity import CALLBACKS, DATA, TRAINER

PACKAGE = Path(lightning_taskonomy.__file__).parent
NOISE = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip", "init_args": {"p": 0.5}}


def changed(config, path, value):
    """A configuration with another value at a dotted path."""
    config = json.loads(json.dumps(config))
    at, *names = [config, *path.split(".")]
    for name in names[:-1]:
        at = at.setdefault(name, {})
    at[names[-1]] = value
    return config


def nested(config):
    """Its data within a data module of another."""
    data = {"data": config["data"], "primary": "depth_z", "auxiliary": ["normals"]}
    return {**config, "data": {"class_path": "lightning_taskonomy.data.ParallelLabels", "init_args": data}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.init_args.num_workers", 4),
        ("data.init_args.cache", "another/folder"),
        ("data.init_args.pin_memory", True),
        ("trainer.logger", {"class_path": "CSVLogger", "init_args": {"save_dir": "logs"}}),
        ("trainer.enable_progress_bar", True),
        ("trainer.enable_checkpointing", True),
        ("trainer.profiler", "simple"),
        ("trainer.num_sanity_val_steps", 2),
        ("trainer.default_root_dir", "elsewhere"),
        ("trainer.callbacks", [{"class_path": "RichProgressBar"}, "lightning.pytorch.callbacks.LearningRateMonitor"]),
        ("trainer.callbacks", None),
        ("out", "elsewhere"),
    ],
)
def test_how_a_run_is_executed_is_no_part_of_it(tiny_fit, path, value):
    config = tiny_fit("depth_z")
    assert identity(changed(config, path, value)) == identity(config)
    if path.startswith("data."):
        inner = path.replace("data.init_args", "data.init_args.data.init_args")
        assert identity(changed(nested(config), inner, value)) == identity(nested(config))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed_everything", 4),
        ("weights", "another/run"),
        ("data.init_args.batch_size", 2),
        ("data.init_args.seed", 1),
        ("data.class_path", "lightning_taskonomy.data.CamVidDataModule"),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.devices", 2),
        ("trainer.strategy", "ddp"),
        ("trainer.accelerator", "gpu"),
        ("trainer.max_epochs", 2),
        ("trainer.log_every_n_steps", 1),
        ("trainer.callbacks", [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}]),
        ("trainer.callbacks", [{"class_path": "my_project.RichProgressBar"}]),
        ("model.init_args.tasks", ["normals"]),
        ("model.init_args.num_workers", 4),  # an argument of data alone
        ("data.init_args.limit", {"cache": 4}),  # a split's name is no argument
    ],
)
def test_what_can_change_a_number_is_part_of_it(tiny_fit, path, value):
    config = tiny_fit("depth_z")
    assert identity(changed(config, path, value)) != identity(config)


def test_a_configuration_is_left_as_it_was_and_execution_settings_leave_no_trace(tiny_fit):
    config = {**tiny_fit("depth_z"), "data": {"class_path": "RoomsDataModule", "init_args": {"num_workers": 2}}}
    before = json.dumps(config)
    assert identity(config)["data"] == {"class_path": "RoomsDataModule"}
    assert json.dumps(config) == before
    assert "trainer" not in identity({**config, "trainer": {"logger": False, "callbacks": []}})
    assert identity(identity(config)) == identity(config)


def test_the_lists_name_what_exists():
    assert set(inspect.signature(Trainer).parameters) >= TRAINER
    assert all(hasattr(callbacks, name) for name in CALLBACKS)
    assert set(inspect.signature(DataLoader).parameters) >= DATA - {"cache"}


READERS = {"data/base.py", "data/formats/tiles.py", "data/rooms/datamodule.py", "data/rooms/dataset.py"}
"""Where samples are loaded and cached; what they do is compared bit by bit below."""


def test_code_that_makes_numbers_reads_none_of_them():
    folders = (
        "batch.py",
        "callbacks",
        "centers",
        "data",
        "losses.py",
        "metrics",
        "models",
        "modules",
        "optim",
        "tasks",
    )
    files = [file for name in folders for file in sorted(PACKAGE.glob(f"{name}/**/*.py" if "." not in name else name))]
    assert len(files) > 80
    others = {
        f"callbacks/{name}.py" for name in ("affinity", "history", "predictions", "scores")
    }  # write into the root
    others |= {"batch.py"}  # pins its tensors, as a loader asks
    readers = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in TRAINER | DATA:
                readers.add(str(file.relative_to(PACKAGE)))
    assert readers - others <= READERS


# bit by bit


def weights(config, folder):
    execute({**config, "trainer": {**config["trainer"], "limit_val_batches": 1}}, folder)
    return load_file(folder / "weights.safetensors"), (folder / "scores.npz").read_bytes()


def same(first, second):
    tensors = all(torch.equal(first[0][name], second[0][name]) for name in second[0])
    return first[0].keys() == second[0].keys() and tensors and first[1] == second[1]


@pytest.fixture(scope="module")
def fit(tiny_fit):
    """A fit whose samples draw: flips, noise and masks."""
    config = tiny_fit("depth_z", "denoising", "inpainting", epochs=2)
    return changed(config, "data.init_args.transforms", [NOISE])


@pytest.fixture(scope="module")
def plain(fit, tmp_path_factory):
    return weights(fit, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.init_args.num_workers", 2),
        ("data.init_args.cache", None),
        ("data.init_args.cache", "{}/cache"),
        ("trainer.num_sanity_val_steps", 2),
        ("trainer.enable_checkpointing", True),
        ("trainer.detect_anomaly", True),
        ("trainer.profiler", "simple"),
        ("trainer.logger", {"class_path": "CSVLogger", "init_args": {"save_dir": "{}"}}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_same_weights_and_scores_come_of_it(fit, plain, tmp_path, path, value):
    value = json.loads(json.dumps(value).replace("{}", str(tmp_path)))
    config = changed(fit, path, value)
    assert identity(config) == identity(fit)
    assert same(weights(config, tmp_path / "run"), plain)


def test_another_seed_gives_others(fit, plain, tmp_path):
    assert not same(weights({**fit, "seed_everything": 4}, tmp_path), plain)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_processes_change_nothing_where_parallel_labels_alternate(fit, tmp_path):
    config = nested({**fit, "model": changed(fit, "model.init_args.tasks", ["depth_z", "normals"])["model"]})
    config = changed(changed(config, "data.init_args.parallel", 4), "data.init_args.steps", 3)
    runs = [weights(changed(config, "data.init_args.data.init_args.num_workers", n), tmp_path / str(n)) for n in (0, 2)]
    assert same(*runs)
