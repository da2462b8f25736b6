"""Checkpoints and weights in files: sound ones are read, others are said on one line, and nothing is overwritten."""

import argparse
import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

from lightning_taskonomy.checkpoints import load_weights
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.training import execute, instantiate_model

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
COMMANDS = ("fit", "validate", "test", "predict")
KEPT = {"dirpath": None, "filename": "best", "monitor": "val/loss", "save_last": True, "auto_insert_metric_name": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_fit):
    """A folder with two finished runs, ``depth`` and ``normals``, and the recipe of each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, task in {"depth": "depth_z", "normals": "normals"}.items():
        config = {**tiny_fit(task, epochs=2), "out": str(folder / name)}
        config["trainer"] |= {
            "limit_val_batches": 1, "enable_checkpointing": True,
            "callbacks": [{"class_path": "ModelCheckpoint", "init_args": KEPT}],
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        assert main(["fit", "--config", str(folder / f"{name}.yaml")]) == 0
    return folder


@pytest.fixture
def state(runs):
    return torch.load(runs / "depth/checkpoints/best.ckpt", weights_only=True)["state_dict"]


def contents(folder):
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def flipped(content):
    """Bytes with a few others in the middle of a tensor."""
    middle = len(content) // 3
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 50]) + content[middle + 50 :]


@pytest.fixture
def refused(runs, capsys):
    """Runs a command on the finished run with a checkpoint; gives the one line, once the folder is seen unchanged."""

    def run(command, path, *words):
        before = contents(runs / "depth")
        capsys.readouterr()
        assert main([command, "--config", str(runs / "depth.yaml"), "--ckpt_path", str(path), *words]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert contents(runs / "depth") == before
        return line

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_words_without_a_checkpoint_are_refused(refused, runs, tmp_path, command):
    assert f"name the file ({runs}/depth/checkpoints/" in refused(command, "best")
    assert "no HPC checkpoint was found" in refused(command, "hpc")
    assert "registry of models" in refused(command, "registry:some/model")
    kept = [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(tmp_path)}}]
    assert f"no last checkpoint in {tmp_path}" in refused(command, "last", "--trainer.callbacks", json.dumps(kept))


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_no_checkpoint_of_the_run_are_refused(refused, runs, tmp_path, state, command):
    assert "no checkpoint at no_such.ckpt; name one that exists" in refused(command, "no_such.ckpt")
    assert "is a folder; name a checkpoint" in refused(command, runs / "depth")
    assert "holds weights, not the state of a fit; start from it by --weights" in refused(
        command, runs / "depth/weights.safetensors"
    )
    torch.save(state, tmp_path / "state.pt")
    assert "is not a checkpoint of Lightning; start from its weights by --weights" in refused(
        command, tmp_path / "state.pt"
    )
    line = refused(command, runs / "normals/checkpoints/best.ckpt")
    assert "the checkpoint does not fit the model: entries" in line
    assert "missing (heads.depth_z." in line and "not in the model (heads.normals." in line and "--weights" in line


@pytest.mark.parametrize("command", ["fit", "test"])
def test_damaged_checkpoints_are_said_to_be_damaged(refused, runs, tmp_path, command):
    sound = (runs / "depth/checkpoints/best.ckpt").read_bytes()
    damaged = {"half": sound[: len(sound) // 2], "flipped": flipped(sound), "empty": b"", "text": b"a: 1"}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        assert f"{name} is damaged" in refused(command, tmp_path / name)


def test_weights_alone_resume_no_fit(refused, runs, tmp_path):
    content = torch.load(runs / "depth/checkpoints/best.ckpt", weights_only=True)
    del content["optimizer_states"], content["lr_schedulers"]  # as save_weights_only leaves it
    torch.save(content, tmp_path / "alone.ckpt")
    assert "no fit can be resumed from them; start from them by --weights" in refused("fit", tmp_path / "alone.ckpt")
    assert main(["validate", "--config", str(runs / "depth.yaml"), "--ckpt_path", str(tmp_path / "alone.ckpt")]) == 0


def test_other_shapes_and_another_optimizer_are_refused(refused, runs):
    best = runs / "depth/checkpoints/best.ckpt"
    line = refused("fit", best, "--model.init_args.backbone.init_args.channels", "4")
    assert "of another shape (backbone.compress.0.weight" in line
    sgd = json.dumps({"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}})
    words = ["--model.init_args.optimizer", sgd, "--trainer.max_epochs", "5"]
    assert "the checkpoint's optimizer has no 'dampening' and is not SGD" in refused("fit", best, *words)
    assert "current_epoch=" in refused("fit", runs / "depth/checkpoints/last.ckpt", "--trainer.max_epochs", "0")


@pytest.mark.filterwarnings("ignore:.*is set, but there is no last checkpoint available")
def test_the_last_checkpoint_of_nothing_is_the_start(runs, tmp_path):
    words = ["fit", "--config", str(runs / "depth.yaml"), "--out", str(tmp_path / "new"), "--ckpt_path", "last"]
    assert main(words) == 0 and (tmp_path / "new" / "metrics.json").is_file()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_the_last_checkpoint_is_resumed_where_there_is_one_and_refused_where_it_is_damaged(runs, tmp_path, capsys):
    shutil.copytree(runs / "depth/checkpoints", tmp_path / "checkpoints")
    words = ["fit", "--config", str(runs / "depth.yaml"), "--out", str(tmp_path), "--ckpt_path", "last"]
    assert main([*words, "--trainer.max_epochs", "3"]) == 0
    newest = max(tmp_path.glob("checkpoints/last*.ckpt"), key=lambda file: file.stat().st_mtime_ns)
    resumed = torch.load(newest, weights_only=True)
    assert (resumed["epoch"], resumed["global_step"]) == (2, 6)
    newest.write_bytes(b"PK\x03\x04")
    before = contents(tmp_path)
    assert main([*words, "--trainer.max_epochs", "4"]) == 1
    assert f"{newest} is damaged" in capsys.readouterr().err and contents(tmp_path) == before


def test_a_resumed_runs_recipe_measures_its_weights_and_not_the_last_checkpoint(runs, tmp_path, capsys):
    run = tmp_path / "depth"
    fit = ["fit", "--config", str(runs / "depth.yaml"), "--out", str(run)]
    assert main([*fit, "--trainer.max_epochs", "1"]) == 0 and main([*fit, "--ckpt_path", "last"]) == 0
    recipe = ["validate", "--config", str(run / "config.yaml"), "--out", str(run), "--weights", str(run)]
    assert yaml.safe_load((run / "config.yaml").read_text())["ckpt_path"] is None
    assert main(recipe) == 0
    capsys.readouterr()
    assert main([*recipe, "--ckpt_path", str(run / "checkpoints/last.ckpt")]) == 1
    assert "one would replace the other; set one of them to null" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Encountered .nan. values")
def test_a_fit_that_fails_over_a_finished_run_leaves_it_whole(runs, tmp_path, capsys):
    run = tmp_path / "depth"
    shutil.copytree(runs / "depth", run)
    before = {name: (run / name).read_bytes() for name in ("config.yaml", "metrics.json", "weights.safetensors")}
    fit = ["fit", "--config", str(runs / "depth.yaml"), "--out", str(run)]
    rate = ["--model.init_args.optimizer=torch.optim.SGD", "--model.init_args.optimizer.init_args.lr=1e38"]
    assert main([*fit, *rate, "--trainer.max_epochs", "4", "--overwrite"]) == 1
    assert "is NaN or infinite" in capsys.readouterr().err
    assert {name: (run / name).read_bytes() for name in before} == before
    assert main([*fit, "--seed_everything", "7", "--overwrite"]) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 7 and config["overwrite"] is False, "its recipe overwrites nothing"


def test_metrics_of_earlier_weights_do_not_stay_beside_new_ones(runs, tmp_path):
    run = tmp_path / "depth"
    shutil.copytree(runs / "depth", run)
    metrics = json.loads((run / "metrics.json").read_text()) | {"test/loss": 0.25}
    fit = ["fit", "--config", str(runs / "depth.yaml"), "--out", str(run), "--overwrite"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "scores.npz").write_bytes(b"of a test")
    assert main(fit) == 0, "the same weights again"
    assert json.loads((run / "metrics.json").read_text())["test/loss"] == 0.25 and (run / "scores.npz").exists()
    assert main([*fit, "--seed_everything", "7"]) == 0
    assert metrics.keys() - json.loads((run / "metrics.json").read_text()).keys() == {"test/loss"}
    assert not (run / "scores.npz").exists()


def test_a_damaged_checkpoint_to_resume_a_studys_run_from_is_one_line(tiny_fit, tmp_path):
    (tmp_path / "resume.ckpt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"resume.ckpt is damaged .*; remove it and the run starts anew"):
        execute(tiny_fit("depth_z"), tmp_path)


# weights


@pytest.fixture
def model(tiny_fit):
    return instantiate_model(tiny_fit("depth_z")["model"])


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "save",
    [
        lambda state, path: saved(path / "w.pt", state),
        lambda state, path: (save_file(state, path / "w.pt"), path / "w.pt")[1],  # its content says what a file is
        lambda state, path: saved(path / "w.pth", {"model": state, "epoch": 3}),
        lambda state, path: saved(path / "w", {f"module.{name}": value for name, value in state.items()}),
        lambda state, path: saved(path / "w.pt", state, _use_new_zipfile_serialization=False),
    ],
    ids=["state_dict", "misnamed", "model", "ddp", "old format"],
)
def test_weights_come_from_torch_files(model, state, tmp_path, save):
    load_weights(model, save(state, tmp_path))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_weights_come_from_a_checkpoint_whole_or_in_part(model, runs, state, tmp_path, tiny_fit):
    load_weights(model, runs / "depth/checkpoints/best.ckpt")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    other = instantiate_model(tiny_fit("normals")["model"])
    load_weights(other, runs / "depth/checkpoints/best.ckpt", "backbone.")
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in other.backbone.state_dict().items())
    words = ["--weights", str(runs / "depth/checkpoints/best.ckpt"), "--out", str(tmp_path / "out")]
    assert main(["fit", "--config", str(runs / "depth.yaml"), *words]) == 0


def test_damaged_weights_are_said_to_be_damaged_and_sound_ones_without_checksums_are_not(model, state, tmp_path):
    for name, old in {"new": False, "old": True}.items():
        content = saved(tmp_path / name, state, _use_new_zipfile_serialization=not old).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match=f"{name} is damaged"):
            load_weights(model, tmp_path / name)
        if not old:  # the old format has no checksums
            (tmp_path / name).write_bytes(flipped(content))
            with pytest.raises(InputError, match=f"{name} is damaged .*checksum"):
                load_weights(model, tmp_path / name)
    torch.serialization.set_crc32_options(False)
    try:
        saved(tmp_path / "plain.pt", state)
    finally:
        torch.serialization.set_crc32_options(True)
    load_weights(model, tmp_path / "plain.pt")


def test_python_objects_are_named_and_not_loaded(model, state, tmp_path):
    saved(tmp_path / "objects.pt", {"state_dict": state, "options": argparse.Namespace(a=1)})
    with pytest.raises(InputError, match=r"holds Python objects \(argparse.Namespace\), not loaded for safety"):
        load_weights(model, tmp_path / "objects.pt")
