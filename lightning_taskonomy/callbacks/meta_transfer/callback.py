"""The callback "Task Meta-Transfer from Limited Parallel Labels" (sections 3.2 to 3.5).

On a meta batch Lightning's own forward and backward give each auxiliary task's gradient at the bifurcation and stop
there; the rest of the meta step follows in ``on_after_backward`` and leaves the primary gradient (Eq. 2) for the
network's optimizer. On an auxiliary batch the projections stand between the auxiliary heads and the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isclose, isnan
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import BifurcationCallback, Cuts, Kind, Passed, adam, loss_scale, named
from lightning_taskonomy.callbacks.meta_transfer.learner import Learner, ProjectionKind, projection_factory
from lightning_taskonomy.callbacks.meta_transfer.outer import OuterStep, backbone_lr
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import MetaGradient, MetaOptions, PassState
from lightning_taskonomy.optim.state import spare_buffers

__all__ = ["TaskMetaTransfer"]

_SAME_LOSS = 1e-2  # rounding of bfloat16


class TaskMetaTransfer(BifurcationCallback):
    """Trains any multi-headed module by Task Meta-Transfer.

    A batch with labels of the primary and of auxiliary tasks is a meta step: the projections learn to turn auxiliary
    gradients into what lowers the primary loss, primary head and backbone learn from the primary loss, auxiliary heads
    stay. Any other batch is an auxiliary step: auxiliary heads learn as ever, the backbone receives the projected
    gradient. ``training_step`` runs once per batch; optimizers, schedules, clipping, precision, checkpoints and
    ``global_step`` of the network are Lightning's own.

    Args:
        primary: The task with few labels, by the name of its head.
        auxiliary: The tasks with many labels; the module has no other heads.
        rank: Rank r of a ``low_rank`` projection, 1 to the channels of the bifurcation.
        auxiliary_steps: k, the auxiliary steps after each meta step. The loader decides how many there are
            (``ParallelLabels``); with a number given here, another one stops the run.
        inner_lr: α of the virtual step; the learning rate that the backbone has at the time, if not given.
        optimizer: Called with the projections' parameters; Adam at 1e-3 unless given.
        projection: φ, one per auxiliary task and feature map, or a callable that makes one from a map's channels.
        primary_at: Whether the network's primary gradient is taken at Θ⁺ (Eq. 2) or at Θ.
        combine: Whether projected gradients of several auxiliary tasks are summed (Eq. 6) or averaged (section 4.4).
        method: How the meta-gradient is taken; see :class:`~lightning_taskonomy.optim.MetaOptions`.
        approximate: Takes ∇L_P at Θ instead of Θ⁺ and saves a pass: not exact. ``meta/exactness`` in the log is the
            cosine to the exact meta-gradient, at every ``log_every_n_steps``-th meta step.
        is_meta: Whether a batch is a meta batch, where neither ``ParallelLabels`` nor the labels that it has say so.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: No auxiliary task, a task named twice, unknown projection, ``primary_at``, ``combine`` or
            ``method``, a rank, a number of steps or an inner learning rate that is not positive; at the start of a fit
            whatever it cannot work with.
    """

    def __init__(
        self,
        primary: str,
        auxiliary: list[str],
        *,
        rank: int = 5,
        auxiliary_steps: int | None = None,
        inner_lr: float | None = None,
        optimizer: OptimizerCallable = adam,
        projection: ProjectionKind | Callable[[int], nn.Module] = "low_rank",
        primary_at: Literal["virtual", "current"] = "virtual",
        combine: Literal["sum", "mean"] = "sum",
        method: Literal["auto", "forward", "double_vjp", "finite_difference"] = "auto",
        approximate: bool = False,
        is_meta: Callable[[Any], bool] | None = None,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(named(primary, auxiliary), backbone, heads, primary, is_meta)
        if auxiliary_steps is not None and auxiliary_steps < 1:
            raise InputError(f"auxiliary_steps is {auxiliary_steps}, must be at least 1")
        if inner_lr is not None and not inner_lr > 0:
            raise InputError(f"inner_lr is {inner_lr}; the virtual step needs a positive length")
        self.auxiliary, self.auxiliary_steps, self.inner_lr = list(auxiliary), auxiliary_steps, inner_lr
        self.options = MetaOptions(method, approximate, primary_at=primary_at, combine=combine)
        self.method: Literal["auto", "forward", "double_vjp", "finite_difference"] = method
        self.learner = Learner(self.auxiliary, projection_factory(projection, rank), optimizer, combine == "mean")
        self.taken: dict[Kind, int] = {"meta": 0, "auxiliary": 0}
        self._hooks: Cuts | None = None
        self._batch: Any = None
        self._passed: Passed | None = None
        self._step: OuterStep | None = None
        self._compared = False
        self._since: int | None = None  # auxiliary steps since the last meta step of this epoch

    @property
    def projections(self) -> Mapping[str, Sequence[nn.Module]]:
        """Per auxiliary task one projection for each feature map; empty before the first training batch."""
        return self.learner.projections

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the bifurcation and refuses what cannot work."""
        super().on_fit_start(trainer, pl_module)
        data, trained = getattr(trainer, "datamodule", None), trainer.optimizers[0].param_groups
        if isinstance(data, ParallelLabels) and self.auxiliary_steps not in (None, data.auxiliary_steps):
            raise InputError(
                f"ParallelLabels gives auxiliary_steps={data.auxiliary_steps}, and {type(self).__name__} has "
                f"auxiliary_steps={self.auxiliary_steps}; change either, or leave it to the loader"
            )
        if not {id(p) for group in trained for p in group["params"]} & set(map(id, self.split.backbone.parameters())):
            raise InputError("the optimizer holds no parameter of the backbone; Task Meta-Transfer trains it")
        if any(isinstance(layer, nn.SyncBatchNorm) for layer in pl_module.modules()):
            raise InputError("Task Meta-Transfer knows no SyncBatchNorm; use BatchNorm and sync_batchnorm=False")
        if self.inner_lr is None:
            backbone_lr(trainer, self.split)
        self.learner.seed = trainer.strategy.broadcast(torch.initial_seed())
        self._hooks, self._since = Cuts(self.split, self.learner.insert, held=self.primary), None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the module as it was."""
        if self._hooks is not None:
            self._hooks.remove()
        self._hooks = self._batch = self._passed = self._step = None
        super().on_fit_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch may have ended within a cycle."""
        self._since = None

    def state_dict(self) -> dict[str, Any]:
        """Projections, their optimizer, the counters and the method: tensors, numbers and words."""
        return {**self.learner.state_dict(), "taken": dict(self.taken), "method": self.method}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        self.taken, self.method = dict(state_dict["taken"]), state_dict["method"]
        self.learner.load_state_dict(
            {key: state_dict[key] for key in ("projections", "optimizer") if key in state_dict}
        )

    # a batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Tells what kind of step this is and makes the bifurcation ready for it."""
        if _due(trainer.global_step + 1, trainer):
            pl_module.log_dict({f"meta/{name}": value for name, value in self.learner.figures().items()})
        kind: Kind = "meta" if self.has_parallel(trainer, batch) else "auxiliary"
        if self.one_kind(trainer, kind, batch_idx):
            self._count(kind)
            self._step = None
        self._batch = batch
        self._cuts.begin(kind)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """From here on the network's passes are no longer those of ``training_step``."""
        self._passed = self._cuts.end()
        if self._passed is not None and not self._compared:
            self._compared = True
            with trainer.precision_plugin.forward_context():
                share = trainer.accumulate_grad_batches / (loss_scale(trainer) or 1.0)
                self._compare(float(loss.detach()) * share, self._passed)
        if not loss.requires_grad:
            raise InputError(
                f"the loss depends on no auxiliary head; a batch needs labels of {', '.join(self.auxiliary)}"
            )

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rest of a meta step; under accumulation most of it follows the last batch."""
        if self._kind == "auxiliary":
            return
        split, passed, self._passed = self.split, self._passed, None
        if passed is None or not passed.held_ran:
            raise InputError(
                f"on a meta batch training_step ran the backbone or the head of {self.primary!r} not at all; does the "
                "batch have a valid primary label?"
            )
        self.learner.build(passed.shared)
        accumulated = trainer.accumulate_grad_batches
        if self._step is None:
            self._step = OuterStep(split, self.primary, self.learner.projections, self._options(trainer))
        with trainer.precision_plugin.forward_context():
            self._step.add(passed, self._batch, accumulated)
            for name in self.auxiliary:
                split.heads[name].zero_grad()  # a meta step leaves them as they are
            if not _closes(trainer):
                return
            alpha = backbone_lr(trainer, split) if self.inner_lr is None else self.inner_lr
            found, self._step = self._step.finish(alpha, accumulated, trainer), None
        if found.finite:
            self.learner.step(found.projections)
        elif loss_scale(trainer) is not None:  # where the network's gradient overflowed, the scaler skips its step too
            self.tell("overflow", "a meta-gradient overflowed in fp16; the projections' step is left out, as any such")
        else:
            raise InputError(
                f"the meta-gradient is NaN or infinite at step {trainer.global_step}; the last checkpoint is kept; "
                "lower inner_lr or the learning rate, or look at the labels"
            )
        self._tell(trainer, pl_module, found)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the loss of an auxiliary batch."""
        self._cuts.end()
        self._batch = self._passed = None
        if self._kind == "auxiliary" and isinstance(outputs, Mapping) and "loss" in outputs:
            pl_module.log("meta/auxiliary_loss", outputs["loss"] * trainer.accumulate_grad_batches)

    def _compare(self, loss: float, passed: Passed) -> None:
        """Says so if ``training_step`` weights the tasks otherwise than the losses from which a meta step learns."""
        tasks, totals = [*passed.leaves, *[self.primary] * passed.held_ran], []
        with torch.no_grad(), PassState.of(self.split.backbone).replayed():
            for _ in range(2):  # heads with dropout differ from one time to the next, and cannot be compared
                with ExitStack() as stack:
                    for name in tasks:
                        stack.enter_context(spare_buffers(self.split.heads[name]))
                    losses = [self.split.loss(name, passed.features, self._batch) for name in tasks]
                totals.append(float(sum(losses)))
        if totals[0] == totals[1] and not isclose(totals[0], loss, rel_tol=_SAME_LOSS):
            self.tell(
                "loss",
                f"training_step's loss is {loss:.4g}, the sum of the tasks' losses {totals[0]:.4g}: in a meta "
                "step the primary task learns from its own loss alone; weight it in task_loss, not in training_step",
            )

    @property
    def _cuts(self) -> Cuts:
        assert self._hooks is not None  # from the start of a fit to its end
        return self._hooks

    def _count(self, kind: Kind) -> None:
        """Counts a step and compares the loader's k with what was asked for."""
        steps, since = self.auxiliary_steps, self._since
        if steps is not None and since is not None and (since != steps if kind == "meta" else since == steps):
            given = f"{since}" if kind == "meta" else f"more than {steps}"
            raise InputError(
                f"the loader gives {given} auxiliary steps after a meta step, and auxiliary_steps is {steps}; change "
                "either, or leave it to the loader"
            )
        self._since = 0 if kind == "meta" else None if since is None else since + 1
        self.taken[kind] += 1

    def _options(self, trainer: Trainer) -> MetaOptions:
        compare = self.options.approximate and _due(self.taken["meta"] - 1, trainer)
        return replace(self.options, method=self.method, compare=compare, loss_scale=loss_scale(trainer) or 1.0)

    def _tell(self, trainer: Trainer, pl_module: LightningModule, found: MetaGradient) -> None:
        """Logs what a meta step found; says once where its gradient does not come from the forward mode."""
        figures: dict[str, Tensor | float | None] = {
            "primary_loss": found.primary_loss, "consistency": found.consistency, "exactness": found.exactness,
            "alignment": None if isnan(found.alignment) else found.alignment,
        }  # fmt: skip
        pl_module.log_dict({f"meta/{name}": value for name, value in figures.items() if value is not None})
        if found.reason:
            self.method = found.method
            self.tell(found.reason, f"meta-gradient by {found.method}: {found.reason}")
        if not found.consistent:
            self.tell("consistency", f"the meta-gradient by {found.method} fails its consistency check")


def _due(count: int, trainer: Trainer) -> bool:
    """Whether this is one of every ``log_every_n_steps``."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by the trainer's own logger connector
    return every > 0 and count % every == 0


def _closes(trainer: Trainer) -> bool:
    """Whether the optimizer steps after this batch."""
    number = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    ends = trainer.is_last_batch or number == trainer.num_training_batches
    return ends or number % trainer.accumulate_grad_batches == 0
