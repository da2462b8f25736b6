"""A checkpoint to resume from: whole or not there, when due, with a seed per epoch."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import ReduceLROnPlateau

from lightning_taskonomy.callbacks import ResumeCheckpoint


class Line(LightningModule):
    """One weight; draws a random number at each epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.drawn, self.rates = [], []

    def training_step(self, batch, batch_idx):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        if batch_idx == 0:
            self.drawn.append(torch.rand(1).item())
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def fit(folder, callback, epochs, checkpoint=None):
    module = Line()
    loader = torch.utils.data.DataLoader(torch.ones(2, 1))
    trainer = Trainer(
        max_epochs=epochs, callbacks=[callback], default_root_dir=folder, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    return module


def test_rates_and_random_numbers_go_on_where_they_stopped(tmp_path):
    whole = fit(tmp_path, ResumeCheckpoint(tmp_path / "a", 0, seed=1), 4)
    assert whole.rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    callback = ResumeCheckpoint(tmp_path / "b", 0, seed=1)
    assert callback.checkpoint is None
    fit(tmp_path, callback, 2)
    rest = fit(tmp_path, callback, 4, callback.checkpoint)
    assert rest.rates == whole.rates[4:] and rest.drawn == whole.drawn[2:]


def test_the_seed_decides_an_epochs_random_numbers(tmp_path):
    drawn = [fit(tmp_path, ResumeCheckpoint(tmp_path, 1e9, seed), 2).drawn for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


def test_nothing_is_saved_before_it_is_due(tmp_path):
    callback = ResumeCheckpoint(tmp_path, 1e9)
    fit(tmp_path, callback, 2)
    assert callback.checkpoint is None and list(tmp_path.iterdir()) == []


def test_a_save_that_breaks_off_leaves_the_one_before(tmp_path, monkeypatch):
    callback = ResumeCheckpoint(tmp_path, 0)
    plain = Trainer.save_checkpoint

    def save(self, path, *args, **kwargs):
        plain(self, path, *args, **kwargs)
        if self.current_epoch == 2:
            path.write_bytes(path.read_bytes()[:50])
            raise KeyError("killed while writing")

    monkeypatch.setattr(Trainer, "save_checkpoint", save)
    with pytest.raises(KeyError, match="killed"):
        fit(tmp_path, callback, 3)
    monkeypatch.setattr(Trainer, "save_checkpoint", plain)
    assert torch.load(callback.checkpoint, weights_only=True)["global_step"] == 2
    rest = fit(tmp_path, callback, 3, callback.checkpoint)
    assert rest.rates == [0.5, 0.5, 0.25, 0.25]
    callback.remove()
    assert list(tmp_path.iterdir()) == []


def test_removing_what_is_not_there_is_no_error(tmp_path):
    ResumeCheckpoint(tmp_path).remove()


class Stalling(Line):
    """Its training loss stalls in epochs 2 and 4, which halves the rate; its validation loss falls until epoch 4."""

    losses = (5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 1.0, 0.5)
    scores = (9.0, 8.0, 7.0, 6.0, 5.0, 6.0, 6.0, 6.0)

    def training_step(self, batch, batch_idx):
        self.log("train/loss_epoch", self.losses[self.current_epoch], on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.scores[self.current_epoch])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        scheduler = ReduceLROnPlateau(optimizer, "train/loss_epoch", factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("limit", [{"max_epochs": 8}, {"max_steps": 16}])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5, 6])
def test_plateaus_and_patience_are_counted_as_if_the_fit_had_not_been_killed(tmp_path, epoch, limit):
    def start(kill=None, checkpoint=None):
        module, callback, stopping = Stalling(), ResumeCheckpoint(tmp_path, 0), EarlyStopping("val/loss", patience=2)
        plain = module.training_step

        def training_step(batch, batch_idx):
            if module.current_epoch == kill:
                raise Killed
            return plain(batch, batch_idx)

        module.training_step = training_step
        trainer = Trainer(
            **limit, callbacks=[callback, stopping], default_root_dir=tmp_path, logger=False, accelerator="cpu",
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(torch.ones(2, 1))
        try:
            trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
        except Killed:
            return module.rates, callback.checkpoint
        assert trainer.current_epoch == 7 and stopping.wait_count == 2 and trainer.global_step == 14
        return module.rates, stopping.best_score

    rates, best = start()
    assert rates == [1.0] * 6 + [0.5] * 4 + [0.25] * 4 and best == 5
    earlier, checkpoint = start(kill=epoch)
    rest, best = start(checkpoint=checkpoint)
    assert earlier + rest == rates and best == 5
