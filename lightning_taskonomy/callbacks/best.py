"""The weights that were best on validation: early stopping that never stops, so that all runs have one budget."""

from math import isnan
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_taskonomy.errors import InputError, hint

__all__ = ["BestWeights"]


class BestWeights(Callback):
    """Ends a fit with the weights of its best validation. They travel in every checkpoint, so a resumed fit has them.

    Args:
        monitor: The logged value that is compared, such as ``val/normals/mean_angle``; or one for each part of a module
            whose parts share no weight, by what the names of its weights begin with: ``{networks.0.:
            val/network_0/loss, ...}`` of a :class:`~lightning_taskonomy.modules.GroupedModule`.
        mode: Whether the lowest or the highest is the best.

    Raises:
        InputError: At the first validation, where nothing of that name was logged.
    """

    def __init__(self, monitor: str | dict[str, str] = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        self.monitor, self.mode = monitor, mode
        self.scores: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a copy on the CPU if this validation is the best so far; NaN never is."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        improved = []
        for part, monitor in ({"": self.monitor} if isinstance(self.monitor, str) else self.monitor).items():
            if monitor not in trainer.callback_metrics:
                raise InputError(f"nothing logs {monitor!r}{hint(monitor, trainer.callback_metrics)}")
            score, best = float(trainer.callback_metrics[monitor]), self.scores.get(part)
            if not isnan(score) and (best is None or (score < best if self.mode == "min" else score > best)):
                self.scores[part] = score
                improved.append(part)
        if improved:
            state = pl_module.state_dict().items()
            better = {name: value for name, value in state if name.startswith(tuple(improved))}
            self.weights |= {name: value.detach().cpu().clone() for name, value in better.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts them back; a part that was never measured stays as it is."""
        if self.weights:
            self.weights = {**pl_module.state_dict(), **self.weights}
            pl_module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best values so far and their weights."""
        return {"scores": self.scores, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both."""
        self.scores, self.weights = dict(state_dict["scores"]), dict(state_dict["weights"])
