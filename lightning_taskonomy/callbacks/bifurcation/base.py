"""What every callback that acts at the bifurcation needs of a fit."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy
from torch.nn.parallel import DistributedDataParallel

from lightning_taskonomy.batch import is_parallel
from lightning_taskonomy.callbacks.bifurcation.split import Bifurcation
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import LateFlags, any_process

__all__ = ["BifurcationCallback"]

_LOG = logging.getLogger(__name__)


class BifurcationCallback(Callback):
    """A callback that decides what the tasks' gradients count; a trainer has one at most.

    Args:
        tasks: The tasks, by the names of their heads; None: all of the module's.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.
        primary: The task with few labels, where one is set apart.
        is_meta: Whether a batch has parallel labels, where neither its loader nor its labels say so.
    """

    auxiliary_steps: int | None = None  # k, where the callback asks for a number
    held_out: bool = False  # whether a meta batch must bring other images

    def __init__(
        self,
        tasks: Sequence[str] | None,
        backbone: str,
        heads: str,
        primary: str = "",
        is_meta: Callable[[Any], bool] | None = None,
    ) -> None:
        self.tasks, self.paths, self.primary, self.is_meta = tasks, (backbone, heads), primary, is_meta
        self._split: Bifurcation | None = None
        self._warned: set[str] = set()  # subjects of warnings
        self._parallel_flags: set[bool] = set()  # of the batches of this fit
        self.late = LateFlags(())  # what a subclass asks of the device

    @property
    def state_key(self) -> str:
        """Tells two of these apart in a checkpoint."""
        return self._generate_state_key(tasks=self.tasks and list(self.tasks))

    @property
    def split(self) -> Bifurcation:
        """The module's parts, from the start of a fit to its end."""
        assert self._split is not None
        return self._split

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the parts and refuses what cannot work."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by the trainer
        names = [type(callback).__name__ for callback in callbacks if isinstance(callback, BifurcationCallback)]
        if len(names) > 1:
            raise InputError(
                f"{' and '.join(names)} both decide what a task's gradient counts, or measure it; keep one"
            )
        split = Bifurcation.of(pl_module, *self.paths)
        self._check_tasks(split, getattr(trainer, "datamodule", None))
        self._check_trainer(trainer, pl_module)
        self._split, self._parallel_flags = split, set()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the module go."""
        self._split = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as at the end of a fit."""
        self.on_fit_end(trainer, pl_module)

    def has_parallel(self, trainer: Trainer, batch: Any) -> bool:
        """Whether a batch has parallel labels: as ``is_meta`` says, as the loader says, or by the labels that it has.

        Says once if another batch has labels of the primary task, from which nothing learns.

        Args:
            trainer: The trainer; all of its processes come to the same answer.
            batch: The batch.
        """
        flag = is_parallel(batch)
        if self.is_meta is not None:
            flag = bool(self.is_meta(batch))
            if all(any_process([flag, not flag])):
                raise InputError(
                    "is_meta says that a batch has parallel labels on one process and none on another; let all "
                    "processes have batches of one kind at a time"
                )
        if flag is None and not isinstance(batch, Mapping):
            raise InputError(
                f"a batch is a {type(batch).__name__}, in which no label has its task's name; say by is_meta=... which "
                "batches have parallel labels, or let the loader give dictionaries"
            )
        if flag is None:
            both = self.split.has_label(self.primary, batch) and any(
                self.split.has_label(name, batch) for name in self.split.heads if name != self.primary
            )
            (flag,) = any_process([both])
        if not flag and "ignored" not in self._warned and self.split.has_label(self.primary, batch):
            self.warn_once("ignored", f"an auxiliary batch has labels of {self.primary!r}: nothing learns from them")
        self._parallel_flags.add(flag)
        return flag

    def answer(self, raised: Mapping[str, int]) -> None:
        """Acts upon the flags of :attr:`late` that are raised; no checkpoint is written before it has.

        Args:
            raised: The flags, each with the first step that raised it.
        """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Waits for what the device has to say."""
        self.answer(self.late.all())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for what the device has to say."""
        self.answer(self.late.all())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for what the device has to say; says once if an epoch had no batch with parallel labels."""
        self.answer(self.late.all())
        if self._parallel_flags == {False}:
            keys = ", ".join(sorted(set(self.split.label_keys.values())))
            self.warn_once(
                "parallel",
                f"no batch had labels of {self.primary!r} and of an auxiliary task, so that nothing but multi-task "
                f"learning was done; labels are looked for under the keys {keys}: name them so, or give is_meta=...",
            )

    def warn_once(self, subject: str, message: str) -> None:
        """Logs a warning, once per subject.

        Args:
            subject: What the warning is about.
            message: The warning.
        """
        if subject not in self._warned:
            self._warned.add(subject)
            _LOG.warning("%s: %s", type(self).__name__, message)

    def _check_tasks(self, split: Bifurcation, data: Any) -> None:
        """The tasks are the module's heads, and those of the data."""
        name, tasks = type(self).__name__, split.heads if self.tasks is None else self.tasks
        for task in tasks:
            if task not in split.heads:
                raise InputError(f"the module has no head of task {task!r}{hint(task, split.heads)}")
        if others := sorted(split.heads.keys() - set(tasks)):
            raise InputError(
                f"{name} has no place for the heads {', '.join(others)}; name them, or train a module without them"
            )
        if self.primary and isinstance(data, TaskDataModule):
            auxiliary = sorted(set(tasks) - {self.primary})
            data.check_tasks(
                self.primary, auxiliary, reader=name, auxiliary_steps=self.auxiliary_steps, held_out=self.held_out
            )

    def _check_trainer(self, trainer: Trainer, module: LightningModule) -> None:
        """The trainer steps one optimizer, on processes that agree on the gradient."""
        name, strategy, model = type(self).__name__, trainer.strategy, trainer.strategy.model
        if not module.automatic_optimization:
            raise InputError(f"{name} needs automatic optimization; the module optimizes manually")
        if len(trainer.optimizers) != 1 or isinstance(trainer.optimizers[0], torch.optim.LBFGS):
            optimizers = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "none"
            raise InputError(f"{name} needs one optimizer that takes one gradient per step; here: {optimizers}")
        parallel = trainer.world_size > 1 or isinstance(strategy, ParallelStrategy)  # sharded even on one device
        if parallel and not isinstance(model, DistributedDataParallel):
            raise InputError(f"{name} does not work with {type(strategy).__name__}; use DDP or one device")
        if isinstance(model, DistributedDataParallel) and (model.static_graph or not model.find_unused_parameters):
            raise InputError(
                f"batches differ in the heads that they train under {name}; use "
                "strategy='ddp_find_unused_parameters_true'"
            )
