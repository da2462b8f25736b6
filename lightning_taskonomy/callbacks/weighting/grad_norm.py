"""GradNorm: Chen et al. 2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing", Algorithm 1."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import BatchKind, StepLosses, hook_losses, mean_over_processes
from lightning_taskonomy.callbacks.weighting.gradients import (
    ALL_TASKS,
    GradientWeighting,
    TaskGradients,
    gradient_norms,
    pulled_back,
    several,
    weighted_sum,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import LateFlags, grad_norm_slopes
from lightning_taskonomy.optim.sums import GradientSum

__all__ = ["GradNormWeighting"]

_SMALLEST = 1e-6  # weight: none becomes negative, and each can grow again


def adam(params: Any) -> torch.optim.Optimizer:
    """Adam at the learning rate 0.025, the paper's."""
    return torch.optim.Adam(params, lr=0.025)


class GradNormWeighting(GradientWeighting):
    """Weights the tasks' losses so that all of them learn at similar rates: L = Σ_t w_t·L_t with w learnt.

    At the last shared layer the length of each weighted gradient, G_t = |∇(w_t·L_t)|, is drawn to mean(G)·r_t^α, where
    r_t is the loss relative to the task's first one, L_t/L_t(0), over its mean over tasks. A step of w follows the sign
    of the difference; then w is scaled so that it adds up to the number of tasks. The whole network, heads included,
    learns from the weighted loss; a loss keeps its value, so that the log shows the losses themselves. A task's fixed
    weight, by which ``training_step`` multiplies its loss, applies beside w.

    A step compares the tasks that have labels in it; the others keep their weights but for the scaling. L_t(0) is the
    loss in the first step that has labels of the task, and is kept in checkpoints, as are w and its optimizer.

    Args:
        tasks: The tasks, by the names of their heads; None: all of the module's.
        alpha: α ≥ 0: how hard tasks that learn slowly are drawn; 0 makes all gradients equally long. The paper has 1.5
            for NYUv2, and 0.12 for its toy problem, whose tasks are alike.
        layer: Path, in the backbone, of the layer at which gradients are measured, such as ``layer4.1.conv2``; empty:
            the one of the backbone's last weight of two dimensions or more, in the order in which it was built.
        optimizer: Called with w, one scalar per task; Adam at 0.025 by default, as in the paper.
        backbone: Path of the backbone in the module.
        heads: Path of the heads in the module.

    Raises:
        InputError: Fewer than two tasks, or an alpha that is negative or not finite; at the start of a fit whatever it
            cannot work with, and a layer that is not there or has no weight that learns; in a step a layer that no
            gradient passes, and a gradient or a loss that is not finite.
    """

    def __init__(
        self,
        tasks: list[str] | None = None,
        *,
        alpha: float = 1.5,
        layer: str = "",
        optimizer: OptimizerCallable = adam,
        backbone: str = "backbone",
        heads: str = "heads",
    ) -> None:
        super().__init__(several(tasks, type(self).__name__), backbone, heads)
        if not (isfinite(alpha) and alpha >= 0):
            raise InputError(f"{type(self).__name__} has alpha={alpha}; give a number from 0 on, such as 1.5")
        self.alpha, self.layer, self.make_optimizer = alpha, layer, optimizer
        self._learnt: tuple[dict[str, nn.Parameter], torch.optim.Optimizer] | None = None
        self._restored: Mapping[str, Any] = {}
        self._first: dict[str, Tensor] = {}  # L_t(0)
        self._losses = StepLosses(())
        self._at_layer: dict[str, GradientSum] = {}  # of this optimizer step
        self._measured: list[nn.Parameter] = []  # of the layer
        self._remove_hook: Callable[[], None] | None = None

    @property
    def weights(self) -> dict[str, float]:
        """The present weight of each task; empty before the first fit."""
        weights = {} if self._learnt is None else self._learnt[0]
        return {name: float(weight.detach()) for name, weight in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """The weights, their optimizer and the first losses: tensors and numbers."""
        if self._learnt is None:
            return dict(self._restored)
        weights, optimizer = self._learnt
        return {
            "weights": {name: weight.detach().clone() for name, weight in weights.items()},
            "first_losses": dict(self._first),
            "optimizer": optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes effect at the start of the fit."""
        self._learnt, self._restored = None, state_dict

    # a fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses what cannot work, makes the weights, and hooks backbone, heads and the tasks' losses."""
        super().on_fit_start(trainer, pl_module)
        names, state = list(self.split.heads), self.state_dict()
        self._measured = _parameters_of(self.split.backbone, self.layer)
        weights = {name: nn.Parameter(torch.ones((), device=pl_module.device)) for name in names}
        optimizer = self.make_optimizer(list(weights.values()))
        if state:
            if state["weights"].keys() != weights.keys():
                raise InputError(
                    f"the checkpoint's GradNorm weights are of {', '.join(state['weights'])}, the heads are "
                    f"{', '.join(names)}; resume with the tasks of that run"
                )
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(state["weights"][name])
            optimizer.load_state_dict(state["optimizer"])
        self._first = {name: loss.to(pl_module.device) for name, loss in state.get("first_losses", {}).items()}
        self._learnt, self._losses, self._at_layer = (weights, optimizer), StepLosses(names), {}
        self.late = LateFlags([*names, *map(_rate, names)])
        self._remove_hook = hook_losses(pl_module, self._weigh)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the hooks off."""
        if self._remove_hook is not None:
            self._remove_hook()
        self._remove_hook, self._at_layer, self._measured = None, {}, []
        super().on_fit_end(trainer, pl_module)

    def kind_of(self, trainer: Trainer, batch: object) -> BatchKind:
        """Every batch is cut; what has labels shows after its backward."""
        return "meta"

    def collect(self, trainer: Trainer, maps: Sequence[Tensor], at_maps: TaskGradients) -> None:
        """Takes each task's gradient to the layer, and the sum of all through the backbone."""
        for name in self.split.heads:  # one order on all processes
            gradients = at_maps.get(name, [None] * len(maps))
            in_layer = pulled_back(maps, gradients, self._measured, keep=True)
            if any(entry is not None for entry in gradients) and all(entry is None for entry in in_layer):
                raise InputError(
                    f"no gradient of {name!r} passes the layer at which GradNorm measures; name by layer=... one of "
                    "the backbone's that all tasks read"
                )
            self._at_layer.setdefault(name, GradientSum()).add(self._measured, in_layer)
        self.collect_sum(maps, weighted_sum(at_maps, dict.fromkeys(at_maps, 1.0)))

    def combine(self, trainer: Trainer, gradients: TaskGradients) -> tuple[list[Tensor | None], dict[str, Tensor]]:
        """The gradient of the weighted loss; then one step of the weights, which count from the next step on."""
        assert self._learnt is not None  # from the start of a fit on
        weights, optimizer = self._learnt
        lengths = self._lengths(trainer)
        means = self._losses.means(trainer, self._measured[0])
        losses = {name: loss for name, loss in zip(self._losses.names, means.unbind(), strict=True) if name in lengths}
        self._first = {**losses, **self._first}
        ratios = {name: loss / self._first[name] for name, loss in losses.items()}
        self._flag_step(trainer, lengths, ratios)
        if len(lengths) > 1:
            names = list(lengths)
            columns = [
                torch.stack([by_task[name] for name in names]).detach() for by_task in (lengths, ratios, weights)
            ]
            for name, slope in zip(names, grad_norm_slopes(*columns, alpha=self.alpha).unbind(), strict=True):
                weights[name].grad = slope.to(weights[name])
            optimizer.step()
            optimizer.zero_grad()
            _scale(list(weights.values()))
        return list(gradients[ALL_TASKS]), {f"{name}/weight": weight.detach() for name, weight in weights.items()}

    def answer(self, raised: Mapping[str, int]) -> None:
        """Stops the run where a gradient, or a loss over the first one, was not finite."""
        for name in self.split.heads:
            if _rate(name) in raised and name not in raised:
                raise InputError(
                    f"the loss of {name!r} relative to its first one, to the power {self.alpha:g}, is NaN or infinite "
                    f"at step {raised[_rate(name)]}; GradNorm compares losses above 0"
                )
        super().answer({name: step for name, step in raised.items() if name in self.split.heads})

    def _weigh(self, name: str, loss: Tensor) -> Tensor:
        """The loss's value with w times its gradient."""
        if self._learnt is None or not self._cuts.are_active:
            return loss
        self._losses.add(name, loss)
        weighted = self._learnt[0][name].detach().to(loss) * loss
        return loss.detach() + (weighted - weighted.detach())

    def _lengths(self, trainer: Trainer) -> dict[str, Tensor]:
        """G_t of the tasks that have a gradient in this step."""
        sums, self._at_layer = self._at_layer, {}
        gradients = {name: total.reduced(1.0, partial(mean_over_processes, trainer)) for name, total in sums.items()}
        return gradient_norms({name: list(of_task.values()) for name, of_task in gradients.items() if of_task})

    def _flag_step(self, trainer: Trainer, lengths: Mapping[str, Tensor], ratios: Mapping[str, Tensor]) -> None:
        """Raises the flags of what is not finite."""
        fine = next(iter(lengths.values())).new_zeros(())
        values = [lengths.get(name, fine) for name in self.split.heads]
        values += [ratios.get(name, fine) ** self.alpha for name in self.split.heads]
        self.late.add(~torch.stack(values).isfinite(), trainer.global_step)


@torch.no_grad()
def _scale(weights: Sequence[nn.Parameter]) -> None:
    """Lets the weights add up to their number."""
    for weight in weights:
        weight.clamp_(min=_SMALLEST)
    total = torch.stack(list(weights)).sum()
    for weight in weights:
        weight.mul_(len(weights) / total)


def _parameters_of(backbone: nn.Module, path: str) -> list[nn.Parameter]:
    """What learns of the layer at which gradients are measured."""
    if not path:
        last = [parameter for parameter in backbone.parameters() if parameter.requires_grad and parameter.dim() > 1][
            -1:
        ]
        if not last:
            raise InputError("no weight of the backbone that learns has two dimensions; name a layer by layer=...")
        return last
    modules = dict(backbone.named_modules())
    if path not in modules:
        raise InputError(f"the backbone has no layer {path!r}{hint(path, modules)}")
    parameters = [parameter for parameter in modules[path].parameters() if parameter.requires_grad]
    if not parameters:
        raise InputError(f"the layer {path!r} of the backbone has no parameter that learns; name another")
    return parameters


def _rate(name: str) -> str:
    return f"rate of {name}"
