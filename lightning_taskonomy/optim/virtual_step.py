"""The virtual step Θ⁺ = Θ - Δ(d) of Task Meta-Transfer (paper Eq. 1) from a gradient d of the backbone's parameters.

The paper descends by α·d, as SGD does. An adaptive optimizer makes another step, often hundreds of times longer, so
that Θ⁺ of plain descent says little about where its step would lead. Δ is elementwise in all cases, and so is Δ′(d).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError

__all__ = ["GradientStep", "Inner", "OptimizerStep", "VirtualStep"]

Inner = Literal["optimizer", "gradient", "full"]
Scalar = float | Tensor
"""A number, or where it lies on a device a tensor () that nobody waits for."""


class VirtualStep:
    """How far a gradient moves a parameter.

    Attributes:
        needs_gradient: Whether :meth:`pull` reads the gradient; else None may be passed.
        uniform: The rate, where Δ = rate·d with the same number for all parameters; else None.
    """

    needs_gradient: bool = True
    uniform: float | None = None

    def prepare(self, parameters: Sequence[nn.Parameter]) -> None:
        """Reads what holds for the whole step.

        Args:
            parameters: The backbone's.
        """

    def displacement(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """Δ(d) = Θ - Θ⁺.

        Args:
            parameter: Θ.
            gradient: d as the optimizer would be given it: mean over micro-batches and processes, no loss scale.

        Returns:
            The gradient's shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define displacement(parameter, gradient)")

    def pull(self, parameter: nn.Parameter, gradient: Tensor | None, vector: Tensor) -> Tensor:
        """Δ′(d) ⊙ vector.

        Args:
            parameter: Θ.
            gradient: d, as above.
            vector: Of the parameter's shape.

        Returns:
            The vector's shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pull(parameter, gradient, vector)")


class GradientStep(VirtualStep):
    """Δ = α·d: the paper's.

    Args:
        rate: α, or one for each parameter; a parameter that has none does not move.
    """

    needs_gradient = False

    def __init__(self, rate: float | Mapping[nn.Parameter, float]) -> None:
        self.rate = rate
        self.uniform = None if isinstance(rate, Mapping) else float(rate)

    def displacement(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """α·d."""
        return gradient * (self.rate.get(parameter, 0.0) if isinstance(self.rate, Mapping) else self.rate)

    def pull(self, parameter: nn.Parameter, gradient: Tensor | None, vector: Tensor) -> Tensor:
        """α·vector."""
        return self.displacement(parameter, vector)


class OptimizerStep(VirtualStep):
    """The step that a torch optimizer would make, read from its state; the state is neither changed nor copied.

    Plainly, Δ = α·P·d with P = 1/(√v̂ + ε): the gradient as the optimizer scales it, with v̂ after the moving average
    has taken in d², and P held fixed when differentiated. Where v̂ is 0, P is 0. SGD has P = 1. With ``full``, Δ is the
    whole step on d alone, with momentum and weight decay, and Δ′ its derivative (0 where v̂ is 0).

    Args:
        optimizer: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of torch.
        full: Whether Δ is the whole step.
        inner_lr: Replaces the largest rate of the backbone's parameters; the others keep their proportion to it.
        state: Read in place of ``optimizer.state``.

    Raises:
        InputError: Another optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        full: bool = False,
        inner_lr: float | None = None,
        state: Mapping[Any, Any] | None = None,
    ) -> None:
        if not self.is_known(optimizer):
            names = ", ".join(entry.__name__ for entry in _RULES)
            raise InputError(
                f"no virtual step of {type(optimizer).__name__}; take one of {names}, or GradientStep for plain descent"
            )
        self.full, self.inner_lr = full, inner_lr
        self.state = optimizer.state if state is None else state
        self.needs_gradient = not isinstance(optimizer, torch.optim.SGD)
        self._rule = _RULES[type(optimizer)]
        self._groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
        self.prepare(list(self._groups))

    @staticmethod
    def is_known(optimizer: torch.optim.Optimizer) -> bool:
        """Whether this optimizer's step can be made virtually; a subclass may step otherwise and is not."""
        return type(optimizer) in _RULES

    def prepare(self, parameters: Sequence[nn.Parameter]) -> None:
        """Reads the learning rates as they are now.

        Args:
            parameters: The backbone's; those in no group of the optimizer do not move.
        """
        groups = list({id(group): group for p in parameters if (group := self._groups.get(p)) is not None}.values())
        rates = {id(group): _number(group["lr"]) for group in groups}
        if self.inner_lr is not None and rates:
            rates = _rescaled(rates, self.inner_lr)
        self._rates = rates
        self.uniform = None
        plain = not self.needs_gradient and not self.full and not any(group["maximize"] for group in groups)
        if plain and len({*rates.values()}) == 1 and all(p in self._groups for p in parameters):
            rate = next(iter(rates.values()))
            self.uniform = None if isinstance(rate, Tensor) else rate

    def displacement(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """Δ(d)."""
        slot = self._slot(parameter)
        if slot is None:
            return torch.zeros_like(gradient)
        if not self.full:
            return self._scaled(slot, parameter, gradient, gradient)
        seen = slot.seen(parameter, gradient)
        step, _ = self._rule.numerator(slot, seen)
        second = self._rule.second(slot, seen)
        if second is not None:
            step = step / second.sqrt_().add_(slot.group["eps"])
        rest = self._rule.rest(slot)
        step = step if rest is None else step + rest
        step = step * self._rule.rate(slot)
        return step + slot.rate * slot.group["weight_decay"] * parameter.detach() if slot.decoupled else step

    def pull(self, parameter: nn.Parameter, gradient: Tensor | None, vector: Tensor) -> Tensor:
        """Δ′(d) ⊙ vector."""
        slot = self._slot(parameter)
        if slot is None:
            return torch.zeros_like(vector)
        if not self.full:
            return self._scaled(slot, parameter, gradient, vector)
        seen = slot.seen(parameter, vector if gradient is None else gradient)
        step, slope = self._rule.numerator(slot, seen)
        factor = slot.sign * self._rule.rate(slot)
        second = self._rule.second(slot, seen)
        if second is None:
            return vector * (factor * slope)
        root = torch.threshold_(second.sqrt_(), 0.0, math.inf)
        denominator = root + slot.group["eps"]
        inner = (step / denominator).mul_(self._rule.half(slot, seen)).div_(root)
        derivative: Tensor = (slope - inner).div_(denominator).mul_(vector).mul_(factor)
        return derivative

    def _scaled(self, slot: "_Slot", parameter: nn.Parameter, gradient: Tensor | None, vector: Tensor) -> Tensor:
        """α·P·vector."""
        factor = slot.sign * self._rule.rate(slot)
        second = None if gradient is None else self._rule.second(slot, slot.seen(parameter, gradient))
        if second is None:
            return vector * factor
        denominator = torch.threshold_(second.sqrt_(), 0.0, math.inf).add_(slot.group["eps"])  # P = 0 where v̂ is
        return torch.div(vector, denominator, out=denominator).mul_(factor)

    def _slot(self, parameter: nn.Parameter) -> "_Slot | None":
        group = self._groups.get(parameter)
        if group is None:
            return None
        return _Slot(group, self.state.get(parameter, {}), self._rates[id(group)])


@dataclass(frozen=True)
class _Slot:
    """What the optimizer has for a parameter: its group's settings, its state and its learning rate."""

    group: Mapping[str, Any]
    state: Mapping[str, Any]
    rate: Scalar

    @property
    def sign(self) -> float:
        return -1.0 if self.group["maximize"] else 1.0

    @property
    def decoupled(self) -> bool:
        """Whether weight decay is a step of its own."""
        return bool(self.group.get("decoupled_weight_decay", False)) and self.group["weight_decay"] != 0

    @property
    def count(self) -> Scalar:
        """The number t of this step, from 1."""
        return _number(self.state["step"] + 1) if "step" in self.state else 1.0

    def seen(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """The gradient that enters the averages."""
        seen = -gradient if self.group["maximize"] else gradient
        decay = self.group["weight_decay"]
        return seen if decay == 0 or self.decoupled else seen.add(parameter.detach(), alpha=decay)


class _Rule:
    """Δ = rate·(n/(√v̂ + ε) + rest): what differs between optimizers, g being the gradient that enters the averages."""

    def rate(self, slot: _Slot) -> Scalar:
        return slot.rate

    def second(self, slot: _Slot, g: Tensor) -> Tensor | None:
        """v̂ in memory of its own; None: no denominator."""
        return None

    def half(self, slot: _Slot, g: Tensor) -> Tensor:
        """½·∂v̂/∂g."""
        raise NotImplementedError

    def numerator(self, slot: _Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        """n, and ∂n/∂g."""
        return g, 1.0

    def rest(self, slot: _Slot) -> Tensor | None:
        """What is not divided."""
        return None


class _SGD(_Rule):
    def numerator(self, slot: _Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        momentum = slot.group["momentum"]
        if momentum == 0:
            return g, 1.0
        before, slope = slot.state.get("momentum_buffer"), 1.0
        buffer = g
        if before is not None:
            slope = 1 - slot.group["dampening"]
            buffer = momentum * before + slope * g
        return (g + momentum * buffer, 1 + momentum * slope) if slot.group["nesterov"] else (buffer, slope)


class _Adam(_Rule):
    def second(self, slot: _Slot, g: Tensor) -> Tensor:
        beta = _number(slot.group["betas"][1])
        correction = 1 - beta**slot.count
        second = _average_square(slot.state.get("exp_avg_sq"), beta / correction, (1 - beta) / correction, g)
        largest = slot.state.get("max_exp_avg_sq") if slot.group.get("amsgrad") else None
        return second if largest is None else torch.maximum(second, largest / correction)

    def half(self, slot: _Slot, g: Tensor) -> Tensor:
        beta = _number(slot.group["betas"][1])
        share = (1 - beta) / (1 - beta**slot.count)
        largest = slot.state.get("max_exp_avg_sq") if slot.group.get("amsgrad") else None
        if largest is None:
            return g * share
        return torch.where(_average_square(slot.state.get("exp_avg_sq"), beta, 1 - beta, g) > largest, g * share, 0.0)

    def numerator(self, slot: _Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        beta = _number(slot.group["betas"][0])
        correction = 1 - beta**slot.count
        slope = (1 - beta) / correction
        before = slot.state.get("exp_avg")
        return g * slope if before is None else before * (beta / correction) + g * slope, slope


class _NAdam(_Adam):
    def numerator(self, slot: _Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        beta, decay = _number(slot.group["betas"][0]), slot.group["momentum_decay"]
        now, ahead = (beta * (1 - 0.5 * 0.96 ** ((slot.count + later) * decay)) for later in (0, 1))
        product = _number(slot.state["mu_product"] * now) if "mu_product" in slot.state else now
        of_gradient, of_average = (1 - now) / (1 - product), ahead / (1 - product * ahead)
        slope = of_gradient + of_average * (1 - beta)
        before = slot.state.get("exp_avg")
        return g * slope if before is None else before * (of_average * beta) + g * slope, slope


class _RMSprop(_Rule):
    def second(self, slot: _Slot, g: Tensor) -> Tensor:
        beta = float(slot.group["alpha"])
        second = _average_square(slot.state.get("square_avg"), beta, 1 - beta, g)
        return second.sub_(self._mean(slot, g).square_()).relu_() if slot.group["centered"] else second

    def half(self, slot: _Slot, g: Tensor) -> Tensor:
        return (g - self._mean(slot, g) if slot.group["centered"] else g) * (1 - float(slot.group["alpha"]))

    def rest(self, slot: _Slot) -> Tensor | None:
        before = slot.state.get("momentum_buffer") if slot.group["momentum"] > 0 else None
        return None if before is None else before * float(slot.group["momentum"])

    def _mean(self, slot: _Slot, g: Tensor) -> Tensor:
        before, share = slot.state.get("grad_avg"), 1 - float(slot.group["alpha"])
        mean: Tensor = g * share if before is None else before.lerp(g, share)
        return mean


class _Adagrad(_Rule):
    def rate(self, slot: _Slot) -> Scalar:
        return slot.rate / (1 + (slot.count - 1) * float(slot.group["lr_decay"]))

    def second(self, slot: _Slot, g: Tensor) -> Tensor:
        before = slot.state.get("sum")
        return g.square() + float(slot.group["initial_accumulator_value"]) if before is None else before.addcmul(g, g)

    def half(self, slot: _Slot, g: Tensor) -> Tensor:
        return g


_RULES: dict[type[torch.optim.Optimizer], _Rule] = {
    torch.optim.SGD: _SGD(),
    torch.optim.Adam: _Adam(),
    torch.optim.AdamW: _Adam(),
    torch.optim.NAdam: _NAdam(),
    torch.optim.RMSprop: _RMSprop(),
    torch.optim.Adagrad: _Adagrad(),
}


def _number(value: Any) -> Scalar:
    """A Python number, but for what lies on a device: that stays there, in double precision where it has one."""
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
    return float(value)


def _average_square(before: Tensor | None, keep: Scalar, share: Scalar, g: Tensor) -> Tensor:
    """keep·before + share·g², in memory of its own."""
    if before is None:
        return g.square().mul_(share)
    if isinstance(share, Tensor):
        return (before * keep).add_(g.square().mul_(share))
    return (before * keep).addcmul_(g, g, value=share)


def _rescaled(rates: dict[int, Scalar], largest: float) -> dict[int, Scalar]:
    """The rates times what makes the largest this; all are this where all are 0, as in the first step of a warm-up."""
    if all(isinstance(rate, float) for rate in rates.values()):
        top = max(float(rate) for rate in rates.values())
        return {key: largest * (rate / top) if top > 0 else largest for key, rate in rates.items()}
    device = next(rate.device for rate in rates.values() if isinstance(rate, Tensor))
    stacked = torch.stack([torch.as_tensor(rate, dtype=torch.float64, device=device) for rate in rates.values()])
    scaled = torch.where(stacked.max() > 0, largest * stacked / stacked.max(), largest)
    return dict(zip(rates, scaled.unbind(), strict=True))
