"""What a fit's history says of each validation, and that plateaus, patience and history survive a kill."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.training import execute


class Killed(Exception):
    """Stands for a kill."""


@pytest.fixture
def steps(monkeypatch):
    """Epoch, loss and learning rate of each training step, as they happen."""
    noted = []
    plain = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        loss = plain(self, batch, batch_idx)
        noted.append((self.current_epoch, loss.item(), self.optimizers().param_groups[0]["lr"]))
        return loss

    monkeypatch.setattr(MultiTaskModule, "training_step", training_step)
    return noted


@pytest.fixture
def config(tiny_fit):
    """The schedule of "Which Tasks Should Be Learned Together", in little: plateaus of the training loss, patience."""
    plateau = {
        "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "train/loss_epoch", "factor": 0.5, "patience": 0, "threshold": 0.05},
    }
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2}}
    config = tiny_fit("depth_z", "denoising", epochs=9, optimizer=sgd, scheduler=plateau)
    callbacks = [
        {"class_path": "lightning_taskonomy.callbacks.History"},
        {"class_path": "lightning_taskonomy.callbacks.BestWeights"},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 3, "min_delta": 0.09}},
    ]
    config["trainer"] = {**config["trainer"], "limit_val_batches": 1.0, "callbacks": callbacks}
    return config


def history(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "history.json").read_text())


def test_an_entry_has_what_was_measured(config, steps, tmp_path):
    execute(config, tmp_path)
    entries = history(tmp_path)
    assert [entry["epoch"] for entry in entries] == list(range(len(entries)))
    for entry in entries:
        of_epoch = [(loss, rate) for epoch, loss, rate in steps if epoch == entry["epoch"]]
        assert entry["train/loss_epoch"] == pytest.approx(sum(loss for loss, _ in of_epoch) / len(of_epoch), rel=1e-5)
        assert entry["train/loss"] == pytest.approx(of_epoch[-1][0], rel=1e-5)
        assert entry["learning_rate"] == of_epoch[-1][1] and entry["step"] == len(of_epoch) * (entry["epoch"] + 1)
        assert entry["val/loss"] == pytest.approx(entry["val/depth_z/loss"] + entry["val/denoising/loss"], rel=1e-5)
    best, waits = float("inf"), [0]
    for entry in entries:
        better = entry["val/loss"] < best - 0.09
        best, waits = (entry["val/loss"], [*waits, 0]) if better else (best, [*waits, waits[-1] + 1])
    assert max(waits) == waits[-1] == 3 and waits.count(3) == 1, "patience 3: the third in a row is the last"
    rates = [0.2]
    best = float("inf")
    for entry in entries[:-1]:  # torch: better than 95 % of the best, else halved
        better = entry["train/loss_epoch"] < 0.95 * best
        best = min(best, entry["train/loss_epoch"]) if better else best
        rates.append(rates[-1] * (1 if better else 0.5))
    assert [entry["learning_rate"] for entry in entries] == rates and rates[-1] < 0.2, "there was a plateau"


def test_validations_within_an_epoch_have_entries_of_their_own(config, steps, tmp_path):
    config["trainer"] = {
        **config["trainer"],
        "val_check_interval": 1,
        "max_epochs": 2,
        "callbacks": config["trainer"]["callbacks"][:1],
    }
    execute(config, tmp_path, test=False)
    entries = history(tmp_path)
    assert [(entry["epoch"], entry["step"]) for entry in entries] == [(0, 1), (0, 2), (1, 3), (1, 4)]
    assert ["train/loss_epoch" in entry for entry in entries] == [False, True, False, True]


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_fit_ends_with_the_history_and_weights_of_the_unbroken_one(config, tmp_path, monkeypatch, epoch):
    metrics = execute(config, tmp_path / "whole", checkpoint_seconds=0)
    assert 5 < len(history(tmp_path / "whole")) < 9, "it stops early, after the last kill"
    plain = MultiTaskModule.training_step

    def training_step(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise Killed
        return plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(MultiTaskModule, "training_step", training_step)
        with pytest.raises(Killed):
            execute(config, tmp_path / "broken", checkpoint_seconds=0)
    assert history(tmp_path / "broken") == history(tmp_path / "whole")[:epoch], "it is written as the fit goes on"
    resumed = execute(config, tmp_path / "broken", checkpoint_seconds=0)
    assert history(tmp_path / "broken") == history(tmp_path / "whole")
    assert {**resumed, "seconds": 0} == {**metrics, "seconds": 0}
    ours, theirs = (load_file(tmp_path / name / "weights.safetensors") for name in ("broken", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_nothing_is_added_where_nothing_goes_by_it(tiny_fit, tmp_path):
    assert "train/loss_epoch" not in execute(tiny_fit("depth_z"), tmp_path)
