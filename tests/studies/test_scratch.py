"""Networks from scratch: the best that can be done with the transfers' images alone."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lightning_taskonomy.callbacks import BestWeights, ResumeCheckpoint
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings
from lightning_taskonomy.training import execute, instantiate_data

SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}}


def schedule(gamma):
    return {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": gamma}}


@pytest.fixture
def plan(rooms, tiny_backbone):
    settings = TaxonomySettings(
        ["depth_z", "normals"], rooms, tiny_backbone, transfer_size=8, optimizer=SGD, scheduler=schedule(0.1),
        transfer_scheduler=schedule(0.2), scratch_scheduler=schedule(1.0), scratch_epochs=6, scratch_validation=0.25,
        trainer={"accelerator": "cpu"},
        heads={"dense": {"class_path": "DenseHead", "init_args": {"layers": 2, "width": 8}}},
    )  # fmt: skip
    return TaxonomyPlan(settings, Path("out"))


def test_the_schedule_is_its_own_else_that_of_transfers_else_that_of_networks(plan):
    def gamma(plan):
        return plan.scratch("depth_z").config["model"]["init_args"]["scheduler"]["init_args"]["gamma"]

    shared = plan.but(scratch_scheduler=None)
    assert [gamma(p) for p in (plan, shared, shared.but(transfer_scheduler=None))] == [1.0, 0.2, 0.1]
    other = plan.but(scratch_scheduler=schedule(0.5))
    assert plan.scratch("depth_z").folder != other.scratch("depth_z").folder
    for same in ("transfer", "task_specific"):
        first, second = (
            p.transfer("depth_z", ["normals"]) if same == "transfer" else p.task_specific("depth_z")
            for p in (plan, other)
        )
        assert first.folder == second.folder


def test_it_validates_on_images_that_it_is_not_trained_on(plan):
    data = instantiate_data(plan.scratch("depth_z").config["data"])
    data.keys = ["depth_z"]
    validated = {int(i) for batch in data.val_dataloader() for i in batch["id"]}
    trained = {int(i) for epoch in range(9) for batch in draws(data.train_dataloader(), epoch) for i in batch["id"]}
    transfers = instantiate_data(plan.transfer_data).dataset("validation", keys=["depth_z"], size=8)
    assert (len(trained), len(validated)) == (6, 2) and not trained & validated
    assert trained | validated == {int(transfers[i]["id"]) for i in range(8)}


def draws(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.fixture
def seen(monkeypatch):
    """The validation losses of a fit, and the weights after each."""
    losses = []
    plain = BestWeights.on_validation_end

    def record(self, trainer, module):
        if trainer.state.fn == "fit":
            state = {name: value.clone() for name, value in module.state_dict().items()}
            losses.append((float(trainer.callback_metrics["val/loss"]), state))
        plain(self, trainer, module)

    monkeypatch.setattr(BestWeights, "on_validation_end", record)
    return losses


def same_weights(file, state):
    return all(np.array_equal(value, state[name]) for name, value in load_file(file).items())


def test_it_ends_with_the_weights_of_its_best_epoch_also_after_a_kill(plan, seen, tmp_path, monkeypatch):
    config = plan.scratch("depth_z").config
    metrics = execute(config, tmp_path / "whole", checkpoint_seconds=0)
    losses = [loss for loss, _ in seen]
    best = int(np.argmin(losses))
    assert len(losses) == 6 and best < 5, "at this rate of learning the last epoch is not the best"
    assert same_weights(tmp_path / "whole/weights.safetensors", seen[best][1])
    assert metrics["val/loss"] == pytest.approx(losses[best], rel=1e-5), "of the weights that are kept"

    plain = ResumeCheckpoint.save
    for last in (best, 4, 5):  # just after the best epoch, before the last and after the last

        def stop(self, trainer, last=last):
            plain(self, trainer)
            if trainer.current_epoch == last + 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(ResumeCheckpoint, "save", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            execute(config, tmp_path / str(last), checkpoint_seconds=0)
        monkeypatch.setattr(ResumeCheckpoint, "save", plain)
        assert (tmp_path / str(last) / "resume.ckpt").is_file()
        execute(config, tmp_path / str(last), checkpoint_seconds=0)
        assert same_weights(tmp_path / str(last) / "weights.safetensors", seen[best][1])
        with np.load(tmp_path / str(last) / "scores.npz") as ours, np.load(tmp_path / "whole/scores.npz") as theirs:
            assert np.array_equal(ours["depth_z"], theirs["depth_z"])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_one_line(tiny_settings, share):
    with pytest.raises(InputError, match=r"scratch_validation is .*, must be a share"):
        TaxonomyStudy(**{**tiny_settings, "scratch_validation": share})
