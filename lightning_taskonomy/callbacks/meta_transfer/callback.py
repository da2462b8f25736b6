"""The callback "Task Meta-Transfer from Limited Parallel Labels" (sections 3.2 to 3.5).

On a meta batch Lightning's own forward and backward give each auxiliary task's gradient at the bifurcation and stop
there; the rest of the meta step follows in ``on_after_backward`` and leaves the primary gradient (Eq. 2) for the
network's optimizer. On an auxiliary batch the projections stand between the auxiliary heads and the backbone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from lightning_taskonomy.callbacks.bifurcation import (
    BatchKind,
    CuttingCallback,
    adam,
    loss_scale,
    primary_and_auxiliary,
)
from lightning_taskonomy.callbacks.meta_transfer.held_out import held_out_pass
from lightning_taskonomy.callbacks.meta_transfer.instruments import Instruments, is_due
from lightning_taskonomy.callbacks.meta_transfer.learner import Bounds, Learner, ProjectionKind, projection_factory
from lightning_taskonomy.callbacks.meta_transfer.moments import SeparateMoments
from lightning_taskonomy.callbacks.meta_transfer.outer import OuterStep, lost_weights
from lightning_taskonomy.callbacks.meta_transfer.refusals import (
    MetaImages,
    check_arguments,
    check_fit,
    idle_options,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import (
    Inner,
    LateFlags,
    MetaGradient,
    MetaOptions,
    OptimizerStep,
    any_process,
)

__all__ = ["TaskMetaTransfer"]

_BROKEN, _INCONSISTENT = "broken", "inconsistent"


class TaskMetaTransfer(CuttingCallback):
    """Trains any multi-headed module by Task Meta-Transfer.

    A batch with labels of the primary and of auxiliary tasks is a meta step: the projections learn to turn auxiliary
    gradients into what lowers the primary loss, primary head and backbone learn from the primary loss, auxiliary heads
    stay (unless ``on_meta`` is ``joint``). Any other batch is an auxiliary step: auxiliary heads learn as ever, the
    backbone receives the projected gradient. ``training_step`` runs once per batch; optimizers, schedules, clipping,
    precision, checkpoints and ``global_step`` of the network are Lightning's own.

    Args:
        primary: The task with few labels, by the name of its head.
        auxiliary: The tasks with many labels; the module has no other heads.
        rank: Rank r of a ``low_rank`` projection, 1 to the channels of the bifurcation.
        auxiliary_steps: k, the auxiliary steps after each meta step. The loader decides how many there are
            (``ParallelLabels``); with a number here, another one stops the run.
        inner_lr: α of the virtual step; None: the learning rates that the backbone has at the time. Of several the
            largest becomes this, and the others keep their proportion to it.
        optimizer: Called with the projections' parameters; Adam at 1e-3 by default.
        projection: φ, one per auxiliary task and feature map, or a callable that makes one from a map's channels.
        primary_at: Whether the network's primary gradient is taken at Θ⁺ (Eq. 2) or at Θ.
        combine: Whether projected gradients of several auxiliary tasks are summed (Eq. 6) or averaged (section 4.4).
        method: How the meta-gradient is taken; see :class:`~lightning_taskonomy.optim.MetaOptions`.
        approximate: Takes ∇L_P at Θ instead of Θ⁺ and saves a pass: not exact. ``meta/exactness`` in the log is the
            cosine to the exact meta-gradient, at every ``log_every_n_steps``-th meta step.
        is_meta: Whether a batch is a meta batch, where neither its loader nor its labels say so.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.
        inner: The virtual step: ``optimizer`` is α·P·d with the diagonal P by which the network's optimizer scales a
            gradient (1 for SGD, the paper's), ``gradient`` plain descent by α·d whatever the optimizer, ``full`` the
            whole step that the optimizer would make on d alone. An optimizer that
            :class:`~lightning_taskonomy.optim.OptimizerStep` does not know falls back to ``gradient``.
        on_meta: What a meta batch teaches: ``primary``, the primary task alone (the paper); ``joint``, the auxiliary
            tasks too, as an auxiliary batch does.
        meta_batch: Where the primary loss at Θ⁺ is taken: on the ``same`` images (the paper), or on other images of X
            that come with the batch under the key ``held_out``.
        normalize: Whether each projected map is scaled to the length of its gradient.
        anchor: Share of the way back to their start that the projections go after each of their steps, 0 to below 1.
        scheduler: Called with the projections' optimizer; stepped at the end of each epoch.
        phi_batches: Meta steps whose mean meta-gradient makes one step of the projections.
        separate_moments: Whether the network's optimizer keeps its state of the backbone twice, one for meta and one
            for auxiliary steps; the virtual step reads the latter.
        probe_every_n_steps: Steps between probes: whether auxiliary gradients, plain and projected, point along the
            primary one on the first batch of the validation loader. None: no probe. It costs about a step and leaves
            no trace.

    Raises:
        InputError: No auxiliary task, a task named twice, unknown words, a number out of range, options that
            contradict each other; at the start of a fit whatever it cannot work with.
    """

    learner_class = Learner

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
        inner: Inner = "optimizer",
        on_meta: Literal["primary", "joint"] = "primary",
        meta_batch: MetaImages = "same",
        normalize: bool = False,
        anchor: float = 0.0,
        scheduler: LRSchedulerCallable | None = None,
        phi_batches: int = 1,
        separate_moments: bool = False,
        probe_every_n_steps: int | None = None,
    ) -> None:
        super().__init__(primary_and_auxiliary(primary, auxiliary), backbone, heads, primary, is_meta)
        sign = normalize and projection == "scalar"
        optional = {"auxiliary_steps": auxiliary_steps, "probe_every_n_steps": probe_every_n_steps}
        counts = {"phi_batches": phi_batches, **{k: v for k, v in optional.items() if v is not None}}
        check_arguments(type(self).__name__, counts, inner_lr, inner, meta_batch, approximate, sign)
        self.auxiliary, self.auxiliary_steps, self.inner_lr = list(auxiliary), auxiliary_steps, inner_lr
        self.inner, self.held_out = inner, meta_batch == "held_out"
        self.options = MetaOptions(method, approximate, primary_at=primary_at, combine=combine, on_meta=on_meta)
        self.method: Literal["auto", "forward", "double_vjp", "finite_difference"] = method
        self.learner = self.learner_class(
            self.auxiliary, projection_factory(projection, rank), optimizer, combine == "mean",
            Bounds(normalize, anchor, scheduler, phi_batches),
        )  # fmt: skip
        self.moments = SeparateMoments() if separate_moments else None
        self.instruments = Instruments(primary, self.auxiliary, probe_every_n_steps, self.warn_once)
        self.taken: dict[BatchKind, int] = {"meta": 0, "auxiliary": 0}
        self._batch: Any = None
        self._step: OuterStep | None = None
        self._first = True  # no meta step yet in this fit
        self._resumed = False  # a checkpoint's state was taken up for this fit
        self._inner: Inner = inner  # what the optimizer allows
        self._last_method: str = method  # how the last meta-gradient was taken
        self._since: int | None = None  # auxiliary steps since the last meta step of this epoch

    @property
    def projections(self) -> Mapping[str, Sequence[nn.Module]]:
        """Per auxiliary task one projection for each feature map; empty before the first training batch."""
        return self.learner.projections

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps, whose gradients are projected on their way back."""
        return self.learner.insert(name, maps)

    def detached_task(self) -> str:
        """The primary task: it learns in the rest of a meta step, and from no auxiliary batch."""
        return self.primary

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the bifurcation and refuses what cannot work."""
        super().on_fit_start(trainer, pl_module)
        optimizer = trainer.optimizers[0]
        check_fit(optimizer, self.split.backbone, pl_module)
        is_known = OptimizerStep.is_known(optimizer)
        self._inner = self.inner if is_known else "gradient"
        if self._inner != self.inner:
            self.warn_once(
                "inner",
                f"the step of {type(optimizer).__name__} is not known, so that the virtual step is inner: gradient, "
                f"α·d; take one of {OptimizerStep.names()}, or an inner_lr with which meta/step_ratio is about 1",
            )
        for message in idle_options(self.learner, self.moments is not None, optimizer):
            self.warn_once(message, message)
        if self.moments is not None:
            self.moments.begin_fit(optimizer, self.split.backbone)
        self.learner.check_scheduler()
        self.learner.seed = trainer.strategy.broadcast(torch.initial_seed())
        if not self._resumed:
            self.learner.begin_fit(trainer.current_epoch)
        is_choice = self.inner == "gradient" and is_known
        remedy = "take inner: optimizer, or a larger inner_lr" if is_choice else "take a larger inner_lr"
        self.instruments.begin_fit(self._resumed, remedy)
        self._resumed = False
        self._since, self._first, self.late = None, True, LateFlags((_BROKEN, _INCONSISTENT))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        self._batch = self._step = None
        self.instruments.end_fit()
        super().on_fit_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch may have ended within a cycle."""
        self._since = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says once if an epoch had batches of one kind alone."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._parallel_flags == {True} and self.options.on_meta == "primary":
            self.warn_once(
                "auxiliary",
                "every batch had parallel labels: auxiliary heads do not learn from those; ParallelLabels and InTurns "
                "give others between them",
            )

    def state_dict(self) -> dict[str, Any]:
        """Projections, what trains them, the counters and the method: tensors, numbers and strings."""
        moments = {} if self.moments is None else {"moments": self.moments.state_dict()}
        others = {"taken": dict(self.taken), "method": self.method, "instruments": self.instruments.state_dict()}
        return {**self.learner.state_dict(), **moments, **others}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them up again."""
        self.taken = dict(state_dict["taken"])
        if self.options.method == "auto":  # what did not work is not tried again
            self.method = state_dict["method"]
        if self.moments is not None and "moments" in state_dict:
            self.moments.load_state_dict(state_dict["moments"])
        if "instruments" in state_dict:
            self.instruments.load_state_dict(state_dict["instruments"])
        others = ("taken", "method", "moments", "instruments")
        self.learner.load_state_dict({key: value for key, value in state_dict.items() if key not in others})
        self._resumed = True

    # a batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the bifurcation ready and logs what the projections have become."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.instruments.log_projections(trainer, pl_module, self.learner)
        self._batch = batch
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """The end of ``training_step``, whose loss is compared with the tasks' once."""
        super().on_before_backward(trainer, pl_module, loss)
        if self._meta_pass is not None and self._first:
            with trainer.precision_plugin.forward_context():
                share = trainer.accumulate_grad_batches / (loss_scale(trainer) or 1.0)
                loss_of_step = float(loss.detach()) * share
                if message := lost_weights(self.split, self.primary, self._meta_pass, self._batch, loss_of_step):
                    self.warn_once("loss", message)
        if any_process([not loss.requires_grad])[0]:  # all processes stop, or none
            which, remedy = "a batch", ""
            if self._kind == "meta" and self.is_meta is not None:
                which, remedy = "a meta batch", "; check is_meta, which took it for one"
            names = ", ".join(self.auxiliary)
            raise InputError(f"the loss depends on no auxiliary head; {which} needs labels of {names}{remedy}")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rest of a meta step; under accumulation most of it follows the last batch."""
        if self._kind == "auxiliary":
            return
        split, meta_pass, self._meta_pass = self.split, self._meta_pass, None
        ran = meta_pass is not None and meta_pass.detached_ran
        if any_process([not ran])[0] or meta_pass is None:  # all processes stop, or none
            raise InputError(
                f"on a meta batch training_step did not run the backbone or the head of {self.primary!r}; does the "
                "batch have a valid primary label?"
            )
        self.learner.build(meta_pass.shared)
        for size in {entry.shape[1] for entry in meta_pass.shared if entry.ndim == 3}:
            self.warn_once("tokens", f"features (B, N, C) or (B, C, L)? φ acts on dimension 1, of size {size}")
        if self._step is None:
            state = None if self.moments is None else self.moments.of("auxiliary")
            inner = OptimizerStep(trainer.optimizers[0], self._inner, self.inner_lr, state)
            self._step = OuterStep(split, self.primary, self.learner.acting, inner, self._options(trainer))
        with trainer.precision_plugin.forward_context():
            others = None
            if self.held_out:
                others = held_out_pass(pl_module, split, self.primary, self._batch, self._batch_number - 1)
            self._step.add(meta_pass, self._batch, trainer.accumulate_grad_batches, others)
        if self.options.on_meta == "primary":
            for name in self.auxiliary:
                split.heads[name].zero_grad()  # the step leaves them as they are
        if self.closes_step(trainer):
            self._finish(trainer, pl_module, self._step)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Finishes a meta step whose last batch had no loss; gives the optimizer the state of this kind of step."""
        if self._step is not None and loss_scale(trainer) is not None:
            self._step = None  # the scaler takes no step after a batch without a loss
        if self._step is not None:
            self._cuts.end()
            with torch.enable_grad():
                self._finish(trainer, pl_module, self._step)
        if self.moments is not None and self._step_kind is not None:
            self.moments.swap(self._step_kind)
        self.instruments.before_optimizer_step(self.split.backbone)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the loss of an auxiliary batch."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._batch = None
        if self._kind == "auxiliary" and isinstance(outputs, Mapping) and "loss" in outputs:
            pl_module.log("meta/auxiliary_loss", outputs["loss"] * trainer.accumulate_grad_batches)
        if self.closes_step(trainer):
            self.instruments.after_step(trainer, pl_module, self.split, self.learner)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, step: OuterStep) -> None:
        """Leaves the network's gradient and steps the projections."""
        self._step = None
        with trainer.precision_plugin.forward_context():
            result = step.finish(trainer.accumulate_grad_batches, trainer)
        broken = ~result.finite
        if loss_scale(trainer) is not None:  # any gradient that is not finite lets the scaler skip the network's step
            learning = [p.grad for p in pl_module.parameters() if p.grad is not None]
            broken = broken | ~get_total_norm(learning).isfinite()
        if loss_scale(trainer) is not None and broken:
            self.warn_once(
                "overflow", "a meta-gradient overflowed in fp16; the projections skip this step, as is usual in fp16"
            )
            broken = torch.zeros_like(broken)
        else:
            self.instruments.log_meta_step(trainer, pl_module, result)
            self.learner.step(result.projections, trainer.current_epoch)
        self.late.add(torch.stack([broken, ~result.consistent]), trainer.global_step)
        self.answer(self.late.arrived())
        self._report(result)

    def answer(self, raised: Mapping[str, int]) -> None:
        """Stops the run where a meta-gradient was not finite; gives up a way to differentiate that failed its check."""
        if _BROKEN in raised:
            raise InputError(
                f"the meta-gradient is NaN or infinite at step {raised[_BROKEN]}; the last checkpoint is kept; lower "
                "inner_lr or the learning rate, or look at the labels"
            )
        if _INCONSISTENT in raised:
            message = (
                f"the meta-gradient by {self._last_method} fails its consistency check at step {raised[_INCONSISTENT]}"
            )
            if self.method == "auto":
                self.method, message = "double_vjp", f"{message}; from here on it is taken by double_vjp"
            self.warn_once("consistency", message)

    def begin_step(self, kind: BatchKind) -> None:
        """Counts a step and compares the loader's k with what was asked for."""
        self._step = None
        steps, since = self.auxiliary_steps, self._since
        if steps is not None and since is not None and (since != steps if kind == "meta" else since == steps):
            count = f"{since}" if kind == "meta" else f"more than {steps}"
            raise InputError(
                f"the loader gives {count} auxiliary steps after a meta step, and auxiliary_steps is {steps}; change "
                "either, or leave it to the loader"
            )
        self._since = 0 if kind == "meta" else None if since is None else since + 1
        self.taken[kind] += 1
        self.instruments.begin_step(kind)

    def _options(self, trainer: Trainer) -> MetaOptions:
        compare = self.options.approximate and is_due(self.taken["meta"] - 1, trainer)
        inspect, self._first = self._first, False
        return replace(
            self.options, method=self.method, compare=compare, loss_scale=loss_scale(trainer) or 1.0, inspect=inspect,
            wait=inspect, measure=self.instruments.is_measured(trainer),
        )  # fmt: skip

    def _report(self, result: MetaGradient) -> None:
        """Says once where a meta-gradient does not come from the forward mode."""
        self._last_method = result.method
        if result.reason:
            self.method = result.method
            self.warn_once(result.reason, f"meta-gradient by {result.method}: {result.reason}")
