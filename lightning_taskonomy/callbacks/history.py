"""How a fit went: what was measured at each of its validations, in a file that grows while it trains."""

from math import isfinite
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_taskonomy.files import write_json
from lightning_taskonomy.modules.base import EPOCH_LOSS

__all__ = ["HISTORY", "History"]

HISTORY = "history.json"
"""The file in a run's folder."""


class History(Callback):
    """Writes ``history.json`` into the run's folder: a list with an entry per validation of the fit.

    An entry has ``epoch`` (from 0), ``step`` (optimizer steps so far), ``learning_rate`` (of the first group of
    parameters at the last of these steps) and all that was logged as ``val/...``, ``train/...`` and ``meta/...``, the
    instruments of Task Meta-Transfer; what is not finite is null. The training's values are those of the last step, the
    instruments' those logged last, and ``train/loss_epoch`` is the mean over the epoch, once that is over. The list
    travels in every checkpoint, so that a resumed fit goes on with it. Learning curves are made from it, and groupings
    after a part of the data.
    """

    monitor = EPOCH_LOSS
    """Asks the module for it."""

    def __init__(self) -> None:
        self.entries: list[dict[str, float | int | None]] = []
        self._rate: Any = None
        self._instruments: dict[str, float | None] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the learning rate of the step: as a validation begins, the schedule may have gone on."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds an entry, and writes the file unless the epoch is over, whose mean loss is to come."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        entry: dict[str, float | int | None] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        entry["learning_rate"] = _number(self._rate)
        steps = {name: value for name, value in _logged(trainer, "train/").items() if name.endswith("/loss")}
        logged = steps | _logged(trainer, "val/")  # what is logged once an epoch is still that of the epoch before
        self._instruments |= _logged(trainer, "meta/")
        self.entries.append(entry | logged | self._instruments)
        if not trainer.is_last_batch:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the epoch's mean loss to the entry of a validation at its end, and writes the file."""
        self._instruments |= _logged(trainer, "meta/")
        if self.entries and self.entries[-1]["step"] == trainer.global_step:
            self.entries[-1] |= _logged(trainer, EPOCH_LOSS)
            self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The entries, and what the instruments showed last."""
        return {"entries": [dict(entry) for entry in self.entries], "instruments": dict(self._instruments)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        self.entries = [dict(entry) for entry in state_dict["entries"]]
        self._instruments = dict(state_dict.get("instruments", {}))

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by the connectors
            write_json(Path(trainer.default_root_dir) / HISTORY, self.entries)


def _logged(trainer: Trainer, prefix: str) -> dict[str, float | None]:
    metrics = sorted(trainer.callback_metrics.items())
    return {name: _number(value) for name, value in metrics if name.startswith(prefix)}


def _number(value: Any) -> float | None:
    return None if value is None or not isfinite(number := float(value)) else number
