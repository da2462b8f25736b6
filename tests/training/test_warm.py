"""One run: what it leaves, that it is never repeated, that a broken one ends as an unbroken one, and its weights."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file

from lightning_taskonomy.checkpoints import load_weights, save_weights
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.training import (
    execute,
    instantiate_data,
    instantiate_model,
    is_finished,
    load_run,
    warm,
)

SCHEDULE = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 4}}


def weights(folder):
    return load_file(folder / "weights.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def run(tiny_fit, tmp_path_factory):
    """The configuration, folder and metrics of a finished run."""
    folder = tmp_path_factory.mktemp("run") / "fit"
    config = tiny_fit("depth_z", "semantic_segmentation")
    return config, folder, execute(config, folder)


def test_a_run_leaves_configuration_weights_scores_and_metrics(run):
    _, folder, metrics = run
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.yaml", "metrics.json", "scores.npz", "weights.safetensors",
    ]  # fmt: skip
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert {"train/loss", "test/loss", "test/depth_z/mae", "test/semantic_segmentation/miou", "seconds"} <= set(metrics)
    assert is_finished(folder)


def test_its_scores_are_those_of_its_weights(run):
    _, folder, _ = run
    model, data = load_run(folder)
    data.keys = model.batch_keys
    batch = data.dataset("test").batch(range(8))
    with torch.no_grad():
        preds = model.eval()(batch)["depth_z"]
    expected = (preds - batch["depth_z"]).abs().flatten(1).nanmean(1)
    with np.load(folder / "scores.npz") as scores:
        assert scores["id"].tolist() == sorted(batch["id"].tolist())
        np.testing.assert_allclose(scores["depth_z"], expected.numpy(), rtol=1e-4)


def test_its_test_metric_is_the_mean_over_valid_pixels(run):
    _, folder, metrics = run
    model, data = load_run(folder)
    data.keys = model.batch_keys
    batch = data.dataset("test").batch(range(8))
    with torch.no_grad():
        error = (model.eval()(batch)["depth_z"] - batch["depth_z"]).abs()
    assert metrics["test/depth_z/mae"] == pytest.approx(error.nanmean().item(), rel=1e-4)


def test_a_finished_run_is_never_repeated(run, monkeypatch):
    config, folder, metrics = run
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    monkeypatch.setattr(warm, "Trainer", None)
    assert execute(config, folder) == metrics
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_its_configuration_is_a_recipe_that_repeats_it(run, tmp_path):
    _, folder, metrics = run
    config = yaml.safe_load((folder / "config.yaml").read_text())
    again = execute(
        {name: config[name] for name in ("seed_everything", "model", "data", "trainer")}, tmp_path / "again"
    )
    assert same(weights(tmp_path / "again"), weights(folder))
    assert {**again, "seconds": 0} == {**metrics, "seconds": 0}


# resume


@pytest.fixture(scope="module")
def unbroken(tiny_fit, tmp_path_factory):
    config = tiny_fit("depth_z", "denoising", epochs=4, scheduler=SCHEDULE)
    folder = tmp_path_factory.mktemp("unbroken")
    return config, folder, execute(config, folder, checkpoint_seconds=0)


def breaking_at(epoch, monkeypatch, value):
    """The loss of depth is ``value`` from that epoch on."""
    plain = MultiTaskModule.task_loss

    def task_loss(self, task, predictions, batch):
        loss = plain(self, task, predictions, batch)
        return loss * value if task.name == "depth_z" and self.current_epoch >= epoch else loss

    monkeypatch.setattr(MultiTaskModule, "task_loss", task_loss)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_loss_that_is_no_number_stops_and_the_rest_resumes_to_the_same_end(unbroken, tmp_path, monkeypatch, epoch):
    config, whole, metrics = unbroken
    with monkeypatch.context() as patch:
        breaking_at(epoch, patch, float("nan"))
        with pytest.raises(InputError, match=f"loss of depth_z is NaN or infinite at step {2 * epoch}; the last check"):
            execute(config, tmp_path, checkpoint_seconds=0)
    assert not is_finished(tmp_path)
    kept = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert kept["global_step"] == 2 * epoch
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    resumed = execute(config, tmp_path, checkpoint_seconds=0)
    assert same(weights(tmp_path), weights(whole))
    assert {**resumed, "seconds": 0} == {**metrics, "seconds": 0}
    with np.load(tmp_path / "scores.npz") as mine, np.load(whole / "scores.npz") as theirs:
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    assert not (tmp_path / "resume.ckpt").exists()


def test_only_the_epochs_that_are_missing_are_trained(unbroken, tmp_path, monkeypatch):
    config, *_ = unbroken
    with monkeypatch.context() as patch:
        breaking_at(3, patch, float("inf"))
        with pytest.raises(InputError, match="NaN or infinite"):
            execute(config, tmp_path, checkpoint_seconds=0)
    epochs = []
    plain = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        epochs.append(self.current_epoch)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    execute(config, tmp_path, checkpoint_seconds=0)
    assert epochs == [3, 3]


def test_no_checkpoint_is_written_before_it_is_due(tiny_fit, tmp_path, monkeypatch):
    breaking_at(1, monkeypatch, float("nan"))
    with pytest.raises(InputError, match="NaN"):
        execute(tiny_fit("depth_z", epochs=2), tmp_path, checkpoint_seconds=1e6)
    assert not (tmp_path / "resume.ckpt").exists()


def test_the_seed_decides(tiny_fit, tmp_path):
    config = tiny_fit("depth_z")
    for name, seed in {"a": 1, "b": 1, "c": 2}.items():
        execute({**config, "seed_everything": seed}, tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


# weights


@pytest.fixture
def model(tiny_fit):
    return instantiate_model(tiny_fit("depth_z", "semantic_segmentation")["model"])


def test_weights_come_back_bit_for_bit(model, tiny_fit, tmp_path):
    save_weights(model, tmp_path / "w.safetensors")
    other = instantiate_model(tiny_fit("depth_z", "semantic_segmentation")["model"])
    assert not same(other.state_dict(), model.state_dict())
    load_weights(other, tmp_path / "w.safetensors")
    assert same(other.state_dict(), model.state_dict())


def test_a_run_starts_from_another_runs_weights(run, tiny_fit, tmp_path):
    _, folder, metrics = run
    config = tiny_fit("depth_z", "semantic_segmentation", epochs=0)
    again = execute({**config, "weights": str(folder)}, tmp_path)
    assert same(weights(tmp_path), weights(folder))
    assert again["test/depth_z/mae"] == metrics["test/depth_z/mae"]


def test_a_head_that_the_weights_lack_starts_anew_and_says_so(run, tiny_fit):
    _, folder, _ = run
    other = instantiate_model(tiny_fit("depth_z", "normals")["model"])
    head = {name: value.clone() for name, value in other.heads["normals"].state_dict().items()}
    with pytest.warns(UserWarning, match=r"are not in .*weights.safetensors and start anew: heads.normals"):
        load_weights(other, folder)
    assert same(other.heads["normals"].state_dict(), head)
    state = weights(folder)
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in other.backbone.state_dict().items())


def test_damaged_weights_are_one_line(run, model, tmp_path):
    _, folder, _ = run
    content = (folder / "weights.safetensors").read_bytes()
    for name, half in {"half": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * 64}.items():
        (tmp_path / name).write_bytes(half)
        with pytest.raises(InputError, match=f"{name} is damaged"):
            load_weights(model, tmp_path / name)


def test_missing_weights_are_one_line(model, tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        load_weights(model, tmp_path)


def test_weights_of_another_model_are_refused(model, tmp_path):
    save_file({"something.else": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not fit the model"):
        load_weights(model, tmp_path / "other.safetensors")
    state = {name: torch.zeros(3, 1, 2) for name in model.state_dict()}
    save_file(state, tmp_path / "shapes.safetensors")
    with pytest.raises(InputError, match="has another shape"):
        load_weights(model, tmp_path / "shapes.safetensors")


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no config.yaml"):
        load_run(tmp_path)


def test_specs_are_built_or_refused(rooms):
    data = instantiate_data({**rooms, "init_args": {**rooms["init_args"], "size": 48}})
    assert data.size == 48
    with pytest.raises((InputError, ValueError, Exception), match="batch_siz"):
        instantiate_data({**rooms, "init_args": {"batch_siz": 3}})


# how it is trained


def test_accumulated_batches_give_the_step_of_one_large_batch(tiny_fit, tmp_path):
    states = []
    for size, times in ((4, 2), (8, 1)):
        config = tiny_fit("depth_z", optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}})
        config["data"] = {**config["data"], "init_args": {**config["data"]["init_args"], "batch_size": size}}
        torch.manual_seed(0)
        model, data = instantiate_model(config["model"]), instantiate_data(config["data"])
        for part in model.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.momentum, part.eval = 0.0, part.train  # statistics of a batch depend on its size:
                part.forward = lambda x, norm=part: torch.nn.functional.batch_norm(
                    x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False
                )
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            Trainer(**config["trainer"], accumulate_grad_batches=times, default_root_dir=tmp_path).fit(model, data)
        states.append({n: v.clone() for n, v in model.named_parameters()})
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-6)


def test_bf16_trains_and_scores_in_float32(tiny_fit, tmp_path):
    config = tiny_fit("depth_z", "semantic_segmentation", "vanishing_points")
    config["trainer"] = {**config["trainer"], "precision": "bf16-mixed"}
    metrics = execute(config, tmp_path)
    assert all(np.isfinite(value) for value in metrics.values())
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["depth_z"].dtype == np.float32 and np.isfinite(scores["depth_z"]).all()
    assert {value.dtype for value in weights(tmp_path).values() if value.is_floating_point()} == {torch.float32}


def test_a_run_never_writes_outside_its_folder(tiny_fit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(tiny_fit("depth_z"), tmp_path / "deep" / "run")
    assert os.listdir(tmp_path) == ["deep"] and os.listdir(tmp_path / "deep") == ["run"]


def test_what_describes_a_run_is_left_as_it_was(tiny_fit, tmp_path):
    config = tiny_fit("depth_z", optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}})
    before = json.dumps(config)
    execute(config, tmp_path)
    instantiate_data(config["data"])
    instantiate_model(config["model"])
    assert json.dumps(config) == before
