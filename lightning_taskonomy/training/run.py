"""The one way to fit, validate and test: whatever a folder says of a network, it says of the weights in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from lightning_taskonomy.callbacks import BestWeights, DryPass, ScoreWriter
from lightning_taskonomy.checkpoints import WEIGHTS, save_weights
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json, write_text
from lightning_taskonomy.models.backbones import read_weights

__all__ = ["CONFIG", "FAILED", "METRICS", "TESTED", "Run", "best_weights", "is_finished"]

METRICS, CONFIG = "metrics.json", "config.yaml"
TESTED, SCORES = "test.json", "scores.npz"
FAILED = "failed.json"


def is_finished(folder: str | Path) -> bool:
    """Whether a run folder holds a finished run."""
    return (Path(folder) / METRICS).is_file()


class Run:
    """A module, its data and the trainer that brings them together; the trainer's root is the run's folder.

    Adds to the trainer's callbacks, unless they are there, the dry pass that comes before all others and the writer of
    scores per image. With ``fast_dev_run`` nothing is written, as in Lightning.

    Args:
        trainer: The trainer.
        model: The module.
        data: The data module; None where the module has loaders itself.
    """

    def __init__(self, trainer: Trainer, model: LightningModule, data: LightningDataModule | None = None) -> None:
        self.trainer, self.model, self.data = trainer, model, data
        self.folder = Path(trainer.default_root_dir)
        self._guard = _WeightsGuard(self.folder)
        callbacks = _callbacks(trainer)
        kinds = {type(callback) for callback in callbacks}
        if DryPass not in kinds:
            callbacks.insert(0, DryPass())
        if ScoreWriter not in kinds and not self._is_rehearsal:
            callbacks.append(ScoreWriter())
        callbacks.insert(0, self._guard)

    def fit(self, config: str | None = None, **options: Any) -> dict[str, float]:
        """Trains, and keeps the weights as :meth:`keep` does.

        Args:
            config: As in :meth:`keep`.
            **options: Further arguments of ``Trainer.fit``: ``ckpt_path``, ``weights_only``.

        Returns:
            The metrics of the weights that are kept.
        """
        self.trainer.fit(self.model, datamodule=self.data, **options)
        return self.keep(config)

    def keep(self, config: str | None = None) -> dict[str, float]:
        """Writes the weights: the best if a callback has kept them, else those that the module has.

        They are validated where the last validation was of others. What a folder says of earlier weights is removed
        before new ones are written. Call :meth:`record` once all metrics are there.

        Args:
            config: The recipe that repeats the run, as YAML, for a folder that does not have it yet.

        Returns:
            Their metrics. Those of the last epoch's training are not theirs if the best weights are kept.
        """
        metrics = _metrics(self.trainer)
        best = best_weights(self.trainer)
        if best is not None:
            self.model.load_state_dict(best)
            metrics, self._guard.validated_at = {}, None
        if self.trainer.enable_validation and not self.is_validated:
            metrics |= self.validate(verbose=False)
        if self.trainer.is_global_zero and not self._is_rehearsal:
            save_weights(self.model, self.folder / WEIGHTS, [self.folder / name for name in (METRICS, TESTED, SCORES)])
            if config is not None:
                write_text(self.folder / CONFIG, config)
        return metrics

    @property
    def is_validated(self) -> bool:
        """Whether the last validation was of the weights that the module has now."""
        return self._guard.validated_at == self.trainer.global_step

    def validate(self, **options: Any) -> dict[str, float]:
        """Measures the weights on validation images; writes nothing.

        Args:
            **options: Further arguments of ``Trainer.validate``.

        Returns:
            The metrics.
        """
        self.trainer.validate(self.model, datamodule=self.data, **options)
        return _metrics(self.trainer)

    def test(self, **options: Any) -> dict[str, float]:
        """Measures the weights on test images and writes their scores per image.

        Args:
            **options: Further arguments of ``Trainer.test``.

        Returns:
            The metrics.

        Raises:
            InputError: The folder holds other weights.
        """
        self._guard.compares = not self._is_rehearsal
        self.trainer.test(self.model, datamodule=self.data, **options)
        return _metrics(self.trainer)

    def record(self, metrics: Mapping[str, float]) -> None:
        """Adds metrics to those of the folder, which is finished then.

        Args:
            metrics: Of the weights in the folder.
        """
        path = self.folder / METRICS
        if self.trainer.is_global_zero and not self._is_rehearsal:
            earlier = json.loads(path.read_text()) if path.is_file() else {}
            write_json(path, {**earlier, **metrics})

    @property
    def _is_rehearsal(self) -> bool:
        rehearsal: bool | int = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # set by the trainer's connectors
        return bool(rehearsal)


class _WeightsGuard(Callback):
    """Notes which weights were validated, and refuses to test others than the folder holds.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.compares = folder, False
        self.validated_at: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the step, unless the weights of a fit are still to be averaged."""
        averages = any(isinstance(c, StochasticWeightAveraging) for c in _callbacks(trainer))
        if not trainer.sanity_checking and not (averages and trainer.state.fn == "fit"):
            self.validated_at = trainer.global_step

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares, once a checkpoint has been loaded.

        Raises:
            InputError: The weights are not those in the folder.
        """
        file = self.folder / WEIGHTS
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)  # others hold a part of each tensor
        if not self.compares or not whole or not file.is_file():
            return
        saved, state = read_weights(file), pl_module.state_dict()
        if saved.keys() != state.keys() or not all(_equal(saved[name], value) for name, value in state.items()):
            raise InputError(
                f"{self.folder} holds other weights than those to be tested, which would replace its metrics and "
                f"scores; test its own by --weights {self.folder}, or give --out another folder"
            )


def _equal(saved: Tensor, value: Tensor) -> bool:
    """Whether two tensors are the same, in the second one's precision; NaN is NaN."""
    if saved.shape != value.shape:
        return False
    saved = saved.to(value)
    return bool(((saved == value) | (saved != saved) & (value != value)).all())


def best_weights(trainer: Trainer) -> Mapping[str, Tensor] | None:
    """The weights of a fit's best validation.

    Args:
        trainer: A trainer after its fit.

    Returns:
        Those that :class:`~lightning_taskonomy.callbacks.BestWeights` has kept, else those of the best checkpoint of
        the first ``ModelCheckpoint`` that monitors a value; None where neither has any.
    """
    for callback in _callbacks(trainer):
        if isinstance(callback, BestWeights) and callback.weights:
            return callback.weights
    for callback in _callbacks(trainer):
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return read_weights(callback.best_model_path)
    return None


def _callbacks(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets them
    return callbacks


def _metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
