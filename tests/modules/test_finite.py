"""A loss that is not a number stops the fit, late but before anything is saved."""

import copy

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_taskonomy import MultiTaskModule
from lightning_taskonomy.batch import Batch, labelled_keys
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import LateFlags
from lightning_taskonomy.tasks import Task, TaskKind

TASKS = [Task("depth", TaskKind.DENSE, "depth"), Task("sizes", TaskKind.VECTOR, "sizes", 3)]


class Break(Callback):
    """Spoils one head before a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.step:
            with torch.no_grad():
                next(pl_module.heads["sizes"].parameters()).fill_(torch.nan)


def fit(counting, batch_of, tmp_path, callbacks, **options):
    module = MultiTaskModule(TASKS, counting(), optimizer=lambda params: torch.optim.SGD(params, 1e-3))
    batches = [Batch(batch, labelled_keys(batch)) for batch in (batch_of(TASKS, seed=seed) for seed in range(6))]
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=callbacks, limit_val_batches=0, log_every_n_steps=1, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches, batch_size=None))


@pytest.mark.parametrize("step", [0, 3, 5])
def test_no_checkpoint_is_written_of_a_broken_network(counting, batch_of, tmp_path, step):
    every_step = ModelCheckpoint(tmp_path, save_top_k=-1, every_n_train_steps=1)
    with pytest.raises(InputError, match=f"the loss of sizes is NaN or infinite at step {step}; the last checkpoint"):
        fit(counting, batch_of, tmp_path, [Break(step), every_step])
    saved = [torch.load(file, weights_only=True) for file in tmp_path.glob("*.ckpt")]
    assert sorted(content["global_step"] for content in saved) == list(range(1, step + 1))
    assert all(value.isfinite().all() for content in saved for value in content["state_dict"].values())


def test_the_end_of_an_epoch_knows(counting, batch_of, tmp_path):
    with pytest.raises(InputError, match="the loss of sizes is NaN or infinite at step 5"):
        fit(counting, batch_of, tmp_path, [Break(5)], enable_checkpointing=False)


def test_a_flag_stays_raised_with_the_step_that_raised_it():
    flags = LateFlags(["a", "b"])
    assert flags.arrived() == flags.all() == {}
    for step, raised in enumerate([[False, False], [False, True], [True, False], [False, False]]):
        flags.add(torch.tensor(raised), step)
    assert flags.arrived() == flags.all() == {"a": 2, "b": 1}
    assert copy.deepcopy(flags).all() == {}, "a copy begins anew"


@pytest.mark.gpu
def test_no_step_synchronizes_a_gpu(counting, batch_of, tmp_path):
    class Strict(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error" if batch_idx > 1 else "default")

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("default")

    module = MultiTaskModule(TASKS, counting(), optimizer=lambda params: torch.optim.SGD(params, 1e-3))
    batches = [Batch(batch, labelled_keys(batch)) for batch in (batch_of(TASKS, seed=seed) for seed in range(6))]
    trainer = Trainer(
        max_epochs=1, accelerator="gpu", devices=1, logger=False, enable_progress_bar=False, log_every_n_steps=1000,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path, callbacks=[Strict()],
        limit_val_batches=0,
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None, pin_memory=True)
    trainer.fit(module, loader, loader)


def test_processes_stop_together(counting, batch_of, monkeypatch):
    """This one's answer has not arrived, another's has: both name the same step."""
    module, batch = MultiTaskModule(TASKS, counting()), batch_of(TASKS)
    with torch.no_grad():
        next(module.heads["sizes"].parameters()).fill_(torch.inf)
    module.require_finite(module.losses(batch)[0])
    monkeypatch.setattr(module._broken, "arrived", dict)
    assert module.labelled(batch) == ["depth", "sizes"], "no process knows yet"
    monkeypatch.setattr("lightning_taskonomy.modules.multitask.any_process", lambda flags: [*flags[:-1], True])
    with pytest.raises(InputError, match="the loss of sizes is NaN or infinite at step 0"):
        module.labelled(batch)
    monkeypatch.undo()
    assert module.eval().labelled(batch), "a validation goes by what it finds"
