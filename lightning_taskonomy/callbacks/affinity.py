"""Affinities of tasks from one joint training: look-ahead losses, their first order, and cosines of gradients.

"Efficiently Identifying Task Groupings for Multi-Task Learning" (Fifty et al., NeurIPS 2021), section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from lightning_taskonomy.affinity.groupings import Affinities
from lightning_taskonomy.callbacks.bifurcation import BatchKind, CuttingCallback, loss_scale, mean_over_processes
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import check_writable
from lightning_taskonomy.optim import PassState, any_process
from lightning_taskonomy.optim.features import Features

__all__ = ["MEASURES", "TaskAffinity"]

MEASURES = ("lookahead", "lookahead_first_order", "gradient_cosine")
"""What is measured of each pair, in this order."""


class TaskAffinity(CuttingCallback):
    """Measures how much a step on each task helps each other, while all are trained together as ever.

    On the batch of a measured step, with g_i the gradient of task i's loss L_i in the shared weights θ of the backbone,
    η their learning rate, and the heads θ_j as they are:

    - ``lookahead``: 1 - L_j(θ - η·g_i, θ_j) / L_j(θ, θ_j), from task i onto task j (equation 2);
    - ``lookahead_first_order``: η·⟨g_i, g_j⟩ / L_j, the same to first order in η, without looking ahead;
    - ``gradient_cosine``: ⟨g_i, g_j⟩ / (|g_i|·|g_j|).

    The step ahead is one of plain SGD, as in the paper, whatever the optimizer: momentum, Adam's scaling, weight decay
    and clipping play no part. It is taken with the batch statistics and the dropout masks of the step itself. Each pair
    is averaged over the measured steps whose batch has labels of both tasks, and ``affinities.csv`` has the averages at
    the end of the fit. Nothing else of the fit changes: weights, buffers, random numbers, optimizer and logs are those
    of a fit without this callback. On several processes losses and gradients are those of the batch of all; under
    accumulation the first batch of a measured step is the one that is measured.

    Args:
        every_n_steps: The optimizer's steps from one measured step to the next; the first is measured.
        tasks: The tasks, by the names of their heads; None: all of the module's.
        learning_rate: η; None: the optimizer's, of each weight, at that step.
        folder: Where ``affinities.csv`` is written; if None, the trainer's ``default_root_dir``.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: ``every_n_steps`` below 1, or a learning rate that is not positive; at the start of a fit whatever
            it cannot work with.
    """

    def __init__(
        self,
        every_n_steps: int = 10,
        tasks: list[str] | None = None,
        *,
        learning_rate: float | None = None,
        folder: str | Path | None = None,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(tasks, backbone, heads)
        if every_n_steps < 1:
            raise InputError(
                f"TaskAffinity has every_n_steps={every_n_steps}; give the steps between measured steps, 1 or more"
            )
        if learning_rate is not None and not learning_rate > 0:
            raise InputError(f"TaskAffinity has learning_rate={learning_rate}; give a number above 0, or none")
        self.every_n_steps, self.learning_rate, self.folder = every_n_steps, learning_rate, folder
        self._totals: _Totals | None = None
        self._restored: Mapping[str, Any] = {}
        self._handles: list[RemovableHandle] = []
        self._batch: Any = None  # of a measured step, while its training_step runs
        self._pass: _Pass | None = None  # what the backbone did in it
        self._heads_run: set[str] = set()

    @property
    def affinities(self) -> Affinities:
        """The averages so far; empty before the first fit."""
        return Affinities((), {}) if self._totals is None else self._totals.means()

    def state_dict(self) -> dict[str, Any]:
        """The sums so far: tensors and names."""
        return dict(self._restored) if self._totals is None else self._totals.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes effect at the start of the fit."""
        self._totals, self._restored = None, state_dict

    # a fit

    def kind_of(self, trainer: Trainer, batch: Any) -> BatchKind:
        """No batch is cut."""
        return "auxiliary"

    def insert(self, name: str, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps as they are; notes the head that reads them."""
        self._heads_run.add(name)
        return list(maps)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work and puts hooks on backbone and heads."""
        super().on_fit_start(trainer, pl_module)
        name = type(self).__name__
        if loss_scale(trainer) is not None:
            raise InputError(f"{name} measures unscaled gradients; use precision='bf16-mixed', not fp16")
        if any(parameter.dtype.itemsize < 4 for parameter in self._shared().values()):
            raise InputError(f"{name} moves weights by less than half precision resolves; use precision='bf16-mixed'")
        if trainer.is_global_zero:
            check_writable(self._file(trainer))
        self._totals = _Totals(list(self.split.heads), pl_module.device, self.state_dict())
        self._handles = [
            self.split.backbone.register_forward_pre_hook(self._before_backbone, with_kwargs=True),
            self.split.backbone.register_forward_hook(self._after_backbone),
        ]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Makes the bifurcation ready."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        first = batch_idx % trainer.accumulate_grad_batches == 0
        self._batch = batch if first and trainer.global_step % self.every_n_steps == 0 else None
        self._pass, self._heads_run = None, set()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Measures, between ``training_step`` and its backward."""
        super().on_before_backward(trainer, pl_module, loss)
        batch, self._batch = self._batch, None
        past, self._pass = self._pass, None
        if batch is None or past is None:
            return
        names = list(self.split.heads)
        flags = any_process([name in self._heads_run and self.split.has_label(name, batch) for name in names])
        measured = [name for name, flag in zip(names, flags, strict=True) if flag]
        if measured and self._totals is not None:
            self._totals.add(measured, self._measure(trainer, measured, batch, past))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch without a loss ends here."""
        self._batch = self._pass = None
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the averages, also of a fit that was resumed after its last step; takes the hooks off."""
        if trainer.is_global_zero:
            self.affinities.write(self._file(trainer))
        for handle in self._handles:
            handle.remove()
        self._handles, self._batch, self._pass = [], None, None
        super().on_fit_end(trainer, pl_module)

    # one measured step

    def _before_backbone(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._batch is not None:
            before = PassState.of(module)
            self._pass = _Pass(args, kwargs, before, before, None)

    def _after_backbone(self, module: nn.Module, args: tuple[Any, ...], output: Features) -> None:
        if self._pass is not None and self._pass.features is None:
            self._pass.features, self._pass.after = output, PassState.of(module)

    def _measure(self, trainer: Trainer, names: Sequence[str], batch: Any, past: "_Pass") -> Tensor:
        """The measures of the named tasks, (3, n, n), from the row's task onto the column's."""
        shared, mean = self._shared(), partial(mean_over_processes, trainer)
        with trainer.precision_plugin.forward_context(), past.after.replayed():
            losses = self.split.losses(names, past.features, batch)
        weights = list(shared.values())
        gradients = [
            torch.autograd.grad(losses[name], weights, retain_graph=True, materialize_grads=True) for name in names
        ]
        flat, now = mean(
            [
                torch.stack([torch.cat([gradient.flatten() for gradient in of_task]) for of_task in gradients]),
                torch.stack([losses[name].detach() for name in names]),
            ]
        )
        parts = flat.split([weight.numel() for weight in weights], dim=1)
        rates = self._rates(trainer, weights)
        ahead = []
        for place in range(len(names)):
            moved = {
                name: torch.sub(weight.detach(), part[place].view_as(weight), alpha=rate)
                for (name, weight), part, rate in zip(shared.items(), parts, rates, strict=True)
            }
            state = {**moved, **past.before.fresh_buffers()}
            with torch.no_grad(), trainer.precision_plugin.forward_context(), past.before.replayed():
                features = functional_call(self.split.backbone, state, past.args, past.kwargs)
                ahead.append(torch.stack(list(self.split.losses(names, features, batch).values())))
        (then,) = mean([torch.stack(ahead)])
        products = [part @ part.mT for part in parts]
        inner, stepped = sum(products), sum(rate * product for rate, product in zip(rates, products, strict=True))
        assert isinstance(inner, Tensor)  # there is a weight at least
        lengths = inner.diagonal().sqrt()
        return torch.stack([1 - then / now, stepped / now, inner / torch.outer(lengths, lengths)])

    def _rates(self, trainer: Trainer, weights: Sequence[nn.Parameter]) -> list[float]:
        """The learning rate of each weight; 0 where the optimizer has none."""
        if self.learning_rate is not None:
            return [self.learning_rate] * len(weights)
        groups = trainer.optimizers[0].param_groups
        by_weight = {id(parameter): float(group["lr"]) for group in groups for parameter in group["params"]}
        return [by_weight.get(id(weight), 0.0) for weight in weights]

    def _shared(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.split.backbone.named_parameters() if weight.requires_grad}

    def _file(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir) / "affinities.csv"


@dataclass
class _Pass:
    """The backbone's pass in the ``training_step`` of a measured step."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: PassState
    after: PassState
    features: Features


class _Totals:
    """Sums over measured steps, on the device: nothing waits for them before the end.

    Args:
        tasks: All T tasks.
        device: Where losses are.
        state: Sums of a checkpoint, if there is any.

    Raises:
        InputError: The checkpoint is of other tasks.
    """

    def __init__(self, tasks: Sequence[str], device: torch.device, state: Mapping[str, Any]) -> None:
        self.tasks = list(tasks)
        shape = (len(MEASURES), len(tasks), len(tasks))
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no other
        self.sums, self.counts = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        if state:
            if state["tasks"] != self.tasks:
                raise InputError(
                    f"the checkpoint has affinities of {', '.join(state['tasks'])}, but the tasks are "
                    f"{', '.join(tasks)}; resume with the tasks that it was made with"
                )
            self.sums.copy_(state["sums"])
            self.counts.copy_(state["counts"])

    def add(self, names: Sequence[str], values: Tensor) -> None:
        """Adds (3, n, n) values of n tasks; those that are no numbers do not count."""
        valid = values.isfinite()
        for total, step in ((self.sums, torch.where(valid, values, 0.0)), (self.counts, valid)):
            if len(names) == len(self.tasks):  # without an index, which a device would be waited for
                total += step
            else:
                places = torch.tensor([self.tasks.index(name) for name in names], device=total.device)
                total[:, places[:, None], places] += step.to(total)

    def means(self) -> Affinities:
        """The averages."""
        means = (self.sums / self.counts).double().cpu().numpy()  # 0 / 0 is NaN: not measured
        return Affinities(tuple(self.tasks), dict(zip(MEASURES, means, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        return {"tasks": self.tasks, "sums": self.sums.cpu(), "counts": self.counts.cpu()}
