"""Per-image scores of a test, saved with the image ids: what later comparisons are made of."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.files import atomic, check_writable

__all__ = ["ScoreWriter"]


class ScoreWriter(Callback):
    """Gathers what ``test_step`` returns and writes ``scores.npz``: ``id`` and one float32 array per task.

    Images that a distributed sampler repeated are counted once; rows are ordered by id.

    Args:
        folder: Where ``scores.npz`` is written; if None, the trainer's ``default_root_dir``.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = folder
        self._outputs: list[dict[str, Tensor]] = []

    def _file(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir) / "scores.npz"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with nothing; refuses a folder that cannot be written before the work is done."""
        self._outputs = []
        if trainer.is_global_zero:
            check_writable(self._file(trainer))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's scores."""
        if isinstance(outputs, dict) and "id" in outputs:
            self._outputs.append({name: value.detach() for name, value in outputs.items()})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers over processes and writes."""
        if not self._outputs:
            return
        columns = {name: torch.cat([output[name] for output in self._outputs]) for name in self._outputs[0]}
        if trainer.world_size > 1:
            columns = {name: _gathered(value) for name, value in columns.items()}
        if trainer.is_global_zero:
            arrays = {name: value.cpu().numpy() for name, value in columns.items()}
            ids, first = np.unique(arrays.pop("id"), return_index=True)
            with atomic(self._file(trainer)) as path, path.open("wb") as file:
                scores: dict[str, Any] = {name: value[first].astype(np.float32) for name, value in arrays.items()}
                np.savez(file, id=ids, **scores)
        self._outputs = []


def _gathered(value: Tensor) -> Tensor:
    """Rows of all processes; their numbers may differ."""
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value.cpu())
    return torch.cat(gathered)
