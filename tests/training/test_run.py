"""Weights, metrics and scores of a run's folder are of one network, however its recipe keeps the best weights."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from lightning_taskonomy.cli import main
from lightning_taskonomy.training import execute, load_run, run

SLOW = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}}
MONITORED = {"monitor": "val/depth_z/mae", "mode": "max"}  # the error falls, so its largest value is an early one
KEEPERS = {
    "callback": {"class_path": "lightning_taskonomy.callbacks.BestWeights", "init_args": MONITORED},
    "checkpoint": {
        "class_path": "ModelCheckpoint",
        "init_args": {**MONITORED, "dirpath": None, "filename": "best", "auto_insert_metric_name": False},
    },
}


def mean_error(folder):
    """The mean absolute error of depth over the valid pixels of the validation images."""
    model, data = load_run(folder)
    data.keys = model.batch_keys
    batch = data.dataset("validation").batch(range(8))
    with torch.no_grad():
        return (model.eval()(batch)["depth_z"] - batch["depth_z"]).abs().nanmean().item()


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def recipe(tmp_path, tiny_fit):
    """Writes a fit's recipe; its run goes to the folder ``run`` beside it."""

    def make(**trainer):
        config = {**tiny_fit("depth_z", epochs=3, optimizer=SLOW), "out": str(tmp_path / "run")}
        config["trainer"] |= {"limit_val_batches": 1.0, **trainer}
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        return ["--config", str(tmp_path / "fit.yaml")]

    return make


@pytest.fixture(scope="module")
def finished(tiny_fit, tmp_path_factory):
    """A finished run and its recipe."""
    folder = tmp_path_factory.mktemp("finished")
    config = {**tiny_fit("depth_z"), "out": str(folder / "run")}
    (folder / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(folder / "fit.yaml")]) == 0
    assert main(["test", "--config", str(folder / "fit.yaml"), "--weights", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, and the words of its recipe for it."""
    shutil.copytree(finished / "run", tmp_path / "copy")
    return tmp_path / "copy", ["--config", str(finished / "fit.yaml"), "--out", str(tmp_path / "copy")]


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("command", ["fit", "study"])
def test_metrics_are_of_the_best_weights(recipe, tmp_path, keeper, command):
    words = recipe(callbacks=[KEEPERS[keeper]], enable_checkpointing=keeper == "checkpoint")
    if command == "fit":
        assert main(["fit", *words]) == 0
    else:
        execute(yaml.safe_load((tmp_path / "fit.yaml").read_text()), tmp_path / "run", test=False)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["val/depth_z/mae"] == pytest.approx(mean_error(tmp_path / "run"), rel=1e-4)
    assert not any(name.startswith("train/") for name in metrics), "the last epoch's"
    last = ["--out", str(tmp_path / "last"), "--trainer.callbacks", "null", "--trainer.enable_checkpointing", "false"]
    assert main(["fit", *words, *last]) == 0
    plain = json.loads((tmp_path / "last/metrics.json").read_text())
    assert plain["val/depth_z/mae"] < metrics["val/depth_z/mae"], "the best were not the last"


def test_metrics_are_of_the_last_weights_where_the_last_epochs_were_not_validated(recipe, tmp_path):
    assert main(["fit", *recipe(check_val_every_n_epoch=2)]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["val/depth_z/mae"] == pytest.approx(mean_error(tmp_path / "run"), rel=1e-4)
    assert "train/loss" in metrics


def test_metrics_are_of_averaged_weights(recipe, tmp_path):
    """Without batch normalisation Lightning averages them after the last validation."""
    options = {"name": "test_vit", "output_stride": None, "options": {"img_size": 32}}
    backbone = {"class_path": "TimmBackbone", "init_args": options}
    average = {"swa_lrs": 0.1, "swa_epoch_start": 1, "device": None}
    callback = {"class_path": "StochasticWeightAveraging", "init_args": average}
    words = ["--model.init_args.backbone", json.dumps(backbone), "--model.init_args.tasks", "[vanishing_points]"]
    assert main(["fit", *recipe(callbacks=[callback]), *words]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    model, data = load_run(tmp_path / "run")
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules())
    (again,) = Trainer(logger=False, enable_progress_bar=False).validate(model, data, verbose=False)
    assert metrics["val/loss"] == pytest.approx(again["val/loss"], rel=1e-6)


def test_weights_that_were_just_validated_are_not_validated_again(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(run.Run, "validate", lambda *_, **options: pytest.fail("validated again"))
    assert main(["fit", *recipe()]) == 0
    config = yaml.safe_load((tmp_path / "fit.yaml").read_text())
    assert "val/loss" in execute(config, tmp_path / "study", test=False)


# over a finished run


def test_a_finished_run_is_not_replaced_unasked(copied, capsys):
    folder, words = copied
    before = contents(folder)
    assert main(["fit", *words, "--seed_everything", "5"]) == 1
    assert capsys.readouterr().err.strip() == (
        f"error: {folder} holds a finished run; give --out another folder, --ckpt_path last to go on with that run, or "
        "--overwrite to replace it"
    )
    assert contents(folder) == before
    assert main(["fit", *words, "--seed_everything", "5", "--overwrite"]) == 0
    assert contents(folder).keys() == before.keys() - {"scores.npz"}
    assert contents(folder)["weights.safetensors"] != before["weights.safetensors"]


def test_a_disk_that_fills_up_meanwhile_leaves_no_metrics_of_other_weights(copied, monkeypatch, capsys):
    folder, words = copied

    def full(path, content):
        raise OSError(28, "full", str(path))

    monkeypatch.setattr("lightning_taskonomy.checkpoints.write_bytes", full)
    assert main(["fit", *words, "--seed_everything", "5", "--overwrite"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not {"metrics.json", "scores.npz"} & contents(folder).keys(), "it is not finished"


def test_other_weights_are_not_tested_into_it(copied, finished, tmp_path, capsys):
    folder, words = copied
    other = ["fit", "--config", str(finished / "fit.yaml"), "--out", str(tmp_path / "other"), "--seed_everything", "5"]
    assert main(other) == 0
    before = contents(folder)
    assert main(["test", *words, "--weights", str(tmp_path / "other")]) == 1
    assert f"{folder} holds other weights than those to be tested" in capsys.readouterr().err
    assert contents(folder) == before
    assert main(["validate", *words, "--weights", str(tmp_path / "other")]) == 0, "validate writes nothing"
    assert contents(folder) == before
    elsewhere = ["--weights", str(tmp_path / "other"), "--out", str(tmp_path / "elsewhere")]
    assert main(["test", *words, *elsewhere]) == 0
    with np.load(tmp_path / "elsewhere/scores.npz") as scores:
        assert len(scores["id"]) == 8


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_rehearsal_writes_nothing(copied):
    folder, words = copied
    before = contents(folder)
    for command in ("fit", "test"):
        assert main([command, *words, "--trainer.fast_dev_run", "1"]) == 0
    assert contents(folder) == before


def test_weights_are_compared_in_the_precision_of_the_test(copied):
    folder, words = copied
    assert main(["test", *words, "--weights", str(folder), "--trainer.precision", "bf16-true"]) == 0


# commands


def test_hooks_of_a_users_own_command_line_are_called(tiny_fit, tmp_path):
    from lightning_taskonomy.training import TaskCLI

    calls = []

    class Ours(TaskCLI):
        def before_fit(self):
            calls.append("before")

        def after_fit(self):
            calls.append(len(load_file(tmp_path / "run/weights.safetensors")) > 0)

    (tmp_path / "fit.yaml").write_text(yaml.safe_dump({**tiny_fit("depth_z"), "out": str(tmp_path / "run")}))
    Ours(["fit", "--config", str(tmp_path / "fit.yaml")])
    assert calls == ["before", True]


def test_a_studys_run_needs_a_seed_that_is_a_number(tiny_fit, tmp_path):
    from lightning_taskonomy.errors import InputError

    with pytest.raises(InputError, match="seed_everything is true; a run that may be resumed needs a number"):
        execute({**tiny_fit("depth_z"), "seed_everything": True}, tmp_path)
