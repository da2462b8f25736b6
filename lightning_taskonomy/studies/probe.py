"""A fit, timed by a few of its steps."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_taskonomy.configurations import untrained
from lightning_taskonomy.files import write_json
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.training import execute

__all__ = ["Clock", "probe_fit", "threads_of_a_worker"]

_CYCLES = 4
"""Cycles of training steps that are timed, the first of which warms up."""


class Clock(Callback):
    """Notes when each batch ends, and how many a whole epoch has.

    Args:
        file: The JSON file that is written after every loop.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.times: dict[str, list[float]] = {}
        self.batches: dict[str, int] = {}

    def _start(self, loop: str, loader: Any) -> None:
        self.times[loop] = [time.monotonic()]
        self.batches[loop] = len(loader) if loader is not None else 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start("train", trainer.train_dataloader)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Notes the time."""
        self.times["train"].append(time.monotonic())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start("validation", trainer.val_dataloaders)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Notes the time."""
        self.times["validation"].append(time.monotonic())

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start("test", trainer.test_dataloaders)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Notes the time."""
        self.times["test"].append(time.monotonic())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the times."""
        self._write()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the times."""
        self._write()

    def _write(self) -> None:
        write_json(self.file, {"times": self.times, "batches": self.batches})


def probe_fit(job: Job, cycle: int = 1) -> Probe:
    """Times a few steps of a fit, its validation and its test, and counts up; nothing is downloaded or kept.

    Args:
        job: The fit, as ``RunSpec.job`` makes it.
        cycle: Batches after which its steps repeat what they do, where they are not all alike.
    """
    config: dict[str, Any] = job.arguments["config"]
    trainer: dict[str, Any] = config["trainer"]
    with TemporaryDirectory() as name:
        folder = Path(name)
        clock = {"class_path": f"{__name__}.Clock", "init_args": {"file": str(folder / "times.json")}}
        few = {"max_epochs": 1, "limit_train_batches": _CYCLES * cycle, "limit_test_batches": 2}
        few |= {"check_val_every_n_epoch": 1} if "check_val_every_n_epoch" in trainer else {}
        few |= {} if trainer.get("limit_val_batches") == 0 else {"limit_val_batches": 2}
        callbacks = [clock, *trainer.get("callbacks", [])]
        shortened = {**config, "trainer": {**trainer, **few, "callbacks": callbacks}, "weights": None}
        shortened["model"] = untrained(config["model"])
        test = job.arguments.get("test", True)
        start = time.monotonic()
        execute(shortened, folder, checkpoint_seconds=math.inf, test=test)
        whole = time.monotonic() - start
        noted = json.loads((folder / "times.json").read_text())
        disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    epochs = float(trainer.get("max_epochs", 1))
    if epochs < 0:  # the fit is as long as its steps
        steps = int(trainer["max_steps"]) * int(trainer.get("accumulate_grad_batches", 1))
        epochs = steps / max(1, noted["batches"]["train"])
    validations = max(1.0, epochs // int(trainer.get("check_val_every_n_epoch", 1)))
    counts = {"train": epochs, "validation": validations, "test": 1.0}
    seconds = whole
    for loop, times in noted["times"].items():
        first = cycle if loop == "train" and len(times) > 2 * cycle else 0
        each = [after - before for before, after in zip(times[first:], times[first + 1 :], strict=False)]
        if each:
            seconds += counts[loop] * noted["batches"][loop] * mean(each) - (times[-1] - times[0])
    return Probe(seconds=seconds, disk=disk)


@contextmanager
def threads_of_a_worker(count: int) -> Iterator[None]:
    """Torch threads as a worker has them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
