"""A checkpoint to resume from after a kill, so that the resumed fit ends as the unbroken one would have."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["ResumeCheckpoint"]


class ResumeCheckpoint(Callback):
    """Saves ``resume.ckpt`` at the end of an epoch, not more often than asked, and seeds each epoch by its number.

    Epochs seeded by number draw the same random numbers whether or not the fit was interrupted before them.

    Args:
        folder: Where ``resume.ckpt`` lies.
        seconds: The shortest time between two saves; 0 saves after each epoch.
        seed: The seed of the run.
    """

    def __init__(self, folder: str | Path, seconds: float = 60.0, seed: int = 0) -> None:
        self.path, self.seconds, self.seed = Path(folder) / "resume.ckpt", seconds, seed
        self._saved = 0.0

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint to resume from, if there is one."""
        return str(self.path) if self.path.is_file() else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._saved = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds the epoch at its first batch: a loader's iterator, which draws too, comes earlier after a resume."""
        if batch_idx == 0:
            torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves when due."""
        due = trainer.strategy.broadcast(time.monotonic() - self._saved >= self.seconds)
        if due and not trainer.should_stop:
            temporary = self.path.with_suffix(".tmp")  # Lightning's transaction copies where /tmp is another disk
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(self.path)
            self._saved = time.monotonic()

    def remove(self) -> None:
        """Removes the checkpoint of a finished run."""
        self.path.unlink(missing_ok=True)
