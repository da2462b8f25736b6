"""What every weighting of tasks needs of a fit: the module's parts, one optimizer, and no other weighting beside it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel

from lightning_taskonomy.callbacks.bifurcation import Bifurcation
from lightning_taskonomy.callbacks.meta_transfer import TaskMetaTransfer
from lightning_taskonomy.data.parallel import ParallelLabels, is_parallel
from lightning_taskonomy.errors import InputError, hint

__all__ = ["TaskWeighting"]

_LOG = logging.getLogger(__name__)


class TaskWeighting(Callback):
    """A callback that changes how much the tasks' losses count.

    Args:
        tasks: The tasks, by the names of their heads; all of the module's, if not given.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.
        primary: The task with few labels, where one is set apart.
        is_meta: Whether a batch has parallel labels, where neither ``ParallelLabels`` nor its labels say so.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None,
        backbone: str,
        heads: str,
        primary: str = "",
        is_meta: Callable[[Any], bool] | None = None,
    ) -> None:
        self.tasks, self.paths, self.primary, self.is_meta = tasks, (backbone, heads), primary, is_meta
        self._found: Bifurcation | None = None
        self._told = False

    @property
    def state_key(self) -> str:
        """Tells two of these apart in a checkpoint."""
        return self._generate_state_key(tasks=self.tasks and list(self.tasks))

    @property
    def split(self) -> Bifurcation:
        """The module's parts, from the start of a fit to its end."""
        assert self._found is not None
        return self._found

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the parts and refuses what cannot work."""
        every: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by the trainer
        acting = [type(other).__name__ for other in every if isinstance(other, (TaskWeighting, TaskMetaTransfer))]
        if len(acting) > 1:
            raise InputError(f"{' and '.join(acting)} both decide what a task's gradient counts; keep one of them")
        name, split = type(self).__name__, Bifurcation.of(pl_module, *self.paths)
        tasks = split.heads if self.tasks is None else self.tasks
        for task in tasks:
            if task not in split.heads:
                raise InputError(f"the module has no head of task {task!r}{hint(task, split.heads)}")
        if others := sorted(split.heads.keys() - set(tasks)):
            raise InputError(
                f"{name} has no weight for the heads {', '.join(others)}; name them, or train without them"
            )
        data = getattr(trainer, "datamodule", None)
        if self.primary and isinstance(data, ParallelLabels) and data.primary.name != self.primary:
            raise InputError(
                f"ParallelLabels has primary {data.primary.name!r}, {name} {self.primary!r}; give both the same task"
            )
        if not pl_module.automatic_optimization:
            raise InputError(f"{name} needs automatic optimization; the module optimizes manually")
        if len(trainer.optimizers) != 1 or isinstance(trainer.optimizers[0], torch.optim.LBFGS):
            kinds = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "none"
            raise InputError(f"{name} needs one optimizer that takes one gradient per step; here: {kinds}")
        model = trainer.strategy.model
        if trainer.world_size > 1 and not isinstance(model, DistributedDataParallel):
            raise InputError(f"{name} knows no {type(trainer.strategy).__name__}; use DDP or one device")
        if isinstance(model, DistributedDataParallel) and (model.static_graph or not model.find_unused_parameters):
            raise InputError(
                f"batches differ in the heads that they train under {name}; use "
                "strategy='ddp_find_unused_parameters_true'"
            )
        self._found = split

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the module go."""
        self._found = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as the end of a fit does."""
        self.on_fit_end(trainer, pl_module)

    def has_parallel(self, trainer: Trainer, batch: Any) -> bool:
        """Whether a batch has parallel labels: by the user's word, by the loader's, or by the labels that it has.

        Args:
            trainer: The trainer; all of its processes find the same.
            batch: The batch.
        """
        flag = is_parallel(batch) if isinstance(batch, Mapping) else None
        if self.is_meta is not None:
            flag = self.is_meta(batch)
        if flag is None:
            held = {name for name in self.split.heads if self.split.has_label(name, batch)}
            flag = trainer.strategy.reduce_boolean_decision(self.primary in held and len(held) > 1, all=False)
        return flag

    def ignored(self) -> None:
        """Says once that a batch without parallel labels has labels of the primary task."""
        if not self._told:
            self._told = True
            _LOG.warning("an auxiliary batch has labels of the primary task %r: nothing learns from them", self.primary)
