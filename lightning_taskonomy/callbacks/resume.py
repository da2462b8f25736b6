"""A checkpoint to resume from after a kill, so that the resumed fit ends as the unbroken one would have."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.loop import _Loop

__all__ = ["ResumeCheckpoint"]


class ResumeCheckpoint(Callback):
    """Saves ``resume.ckpt`` between epochs, not more often than asked, and seeds each epoch by its number.

    Epochs seeded by number draw the same random numbers whether or not the fit was interrupted before them. It saves
    as the next epoch begins: at the hooks of an epoch's end early stopping has yet to count and a plateau's schedule to
    step. Put it before callbacks that do something as an epoch begins.

    Args:
        folder: Where ``resume.ckpt`` lies.
        seconds: The shortest time between two saves; 0 saves after each epoch.
        seed: The seed of the run.
    """

    def __init__(self, folder: str | Path, seconds: float = 60.0, seed: int = 0) -> None:
        self.path, self.seconds, self.seed = Path(folder) / "resume.ckpt", seconds, seed
        self._saved, self._first, self._saves = 0.0, 0, False

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint to resume from, if there is one."""
        return str(self.path) if self.path.is_file() else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._saved, self._first = time.monotonic(), trainer.current_epoch
        if trainer.max_steps != -1 and trainer.current_epoch:  # else Lightning takes the epoch for half done
            _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]  # a property

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves when due, unless the fit has just begun."""
        if trainer.current_epoch > self._first:
            self.save(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds the epoch at its first batch: a loader's iterator, which draws too, comes earlier after a resume."""
        if batch_idx == 0:
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves when due."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Saves when due, unless the fit was told to stop: resumed, it would not know that.

        Args:
            trainer: The trainer, between two epochs.
        """
        due = trainer.strategy.broadcast(time.monotonic() - self._saved >= self.seconds)
        if due and not trainer.should_stop:
            temporary = self.path.with_suffix(".tmp")  # Lightning's transaction copies where /tmp is another disk
            self._saves = True
            trainer.save_checkpoint(temporary)
            self._saves = False
            if trainer.is_global_zero:
                temporary.replace(self.path)
            self._saved = time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The epoch that is about to begin has not begun."""
        if self._saves:
            for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                progress["ready"] = progress["processed"]

    def remove(self) -> None:
        """Removes the checkpoint of a finished run."""
        self.path.unlink(missing_ok=True)
