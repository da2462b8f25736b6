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
        monitor: The logged value that is compared, such as ``val/normals/mean_angle``.
        mode: Whether the lowest or the highest is the best.

    Raises:
        InputError: At the first validation, where nothing of that name was logged.
    """

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        self.monitor, self.mode = monitor, mode
        self.score: float | None = None
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps a copy on the CPU if this validation is the best so far; NaN never is."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise InputError(f"nothing logs {self.monitor!r}{hint(self.monitor, trainer.callback_metrics)}")
        score = float(trainer.callback_metrics[self.monitor])
        improved = self.score is None or (score < self.score if self.mode == "min" else score > self.score)
        if improved and not isnan(score):
            self.score = score
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts them back."""
        if self.weights:
            pl_module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and its weights."""
        return {"score": self.score, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both."""
        self.score, self.weights = state_dict["score"], dict(state_dict["weights"])
