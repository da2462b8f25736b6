"""The formulas of torch's optimizers as functions of the gradient, read from their state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RULES", "Rule", "Scalar", "Slot", "number"]

Scalar = float | Tensor
"""A number, or where it lies on a device a tensor () that nobody waits for."""


@dataclass(frozen=True)
class Slot:
    """What the optimizer has for a parameter, or for several whose numbers are the same, laid out as one vector.

    Attributes:
        parameters: One in its own shape, or several.
        states: The optimizer's state of each.
        group: The settings of their group.
        rate: The learning rate.
    """

    parameters: Sequence[nn.Parameter]
    states: Sequence[Mapping[str, Any]]
    group: Mapping[str, Any]
    rate: Scalar

    @property
    def sign(self) -> float:
        """-1 where the optimizer climbs."""
        return -1.0 if self.group.get("maximize", False) else 1.0

    @property
    def decoupled(self) -> bool:
        """Whether weight decay is a step of its own."""
        return bool(self.group.get("decoupled_weight_decay", False)) and self.group.get("weight_decay", 0) != 0

    @property
    def count(self) -> Scalar:
        """The number t of this step, from 1."""
        return number(self.states[0].get("step", 0.0)) + 1

    def state(self, key: str) -> Tensor | None:
        """A tensor of the state; None where there is none yet."""
        return None if self.states[0].get(key) is None else self.join([state[key] for state in self.states])

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """One tensor of one for each parameter."""
        return tensors[0] if len(self.parameters) == 1 else torch.cat([tensor.reshape(-1) for tensor in tensors])

    def split(self, whole: Tensor) -> list[Tensor]:
        """Undoes :meth:`join`."""
        if len(self.parameters) == 1:
            return [whole]
        pieces = whole.split([p.numel() for p in self.parameters])
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def theta(self) -> Tensor:
        """The parameters themselves."""
        return self.join([p.detach() for p in self.parameters])

    def seen(self, d: Tensor) -> Tensor:
        """The gradient that enters the averages: downhill, with coupled weight decay."""
        seen = -d if self.group.get("maximize", False) else d
        decay = self.group.get("weight_decay", 0)
        return seen if decay == 0 or self.decoupled else seen.add(self.theta(), alpha=decay)


class Rule:
    """Δ = rate·(n/(√v̂ + ε) + rest): what differs between optimizers, g being the gradient that enters the averages."""

    def rate(self, slot: Slot) -> Scalar:
        """The learning rate of this step."""
        return slot.rate

    def second(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar] | None:
        """U in memory of its own and c with v̂ = c·u; None: no denominator."""
        return None

    def half(self, slot: Slot, g: Tensor) -> Tensor:
        """½·∂v̂/∂g."""
        raise NotImplementedError(f"{type(self).__name__} has no denominator")

    def numerator(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        """n, linear in g, and ∂n/∂g."""
        return g, 1.0

    def rest(self, slot: Slot) -> Tensor | None:
        """What is not divided."""
        return None


class _SGD(Rule):
    def numerator(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        momentum = slot.group["momentum"]
        if momentum == 0:
            return g, 1.0
        before, slope = slot.state("momentum_buffer"), 1.0
        buffer = g
        if before is not None:
            slope = 1 - slot.group["dampening"]
            buffer = momentum * before + slope * g
        return (g + momentum * buffer, 1 + momentum * slope) if slot.group["nesterov"] else (buffer, slope)


class _Adam(Rule):
    def second(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        beta = number(slot.group["betas"][1])
        mean, factor = _mean_square(slot.state("exp_avg_sq"), beta, g)
        if slot.group.get("amsgrad") and (largest := slot.state("max_exp_avg_sq")) is not None:
            mean = torch.maximum(mean, largest / factor)
        return mean, factor / (1 - beta**slot.count)

    def half(self, slot: Slot, g: Tensor) -> Tensor:
        beta = number(slot.group["betas"][1])
        half = g * ((1 - beta) / (1 - beta**slot.count))
        if slot.group.get("amsgrad") and (largest := slot.state("max_exp_avg_sq")) is not None:
            mean, factor = _mean_square(slot.state("exp_avg_sq"), beta, g)
            return torch.where(mean > largest / factor, half, 0.0)
        return half

    def numerator(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        beta = number(slot.group["betas"][0])
        correction = 1 - beta**slot.count
        return _weighted(slot.state("exp_avg"), beta / correction, (1 - beta) / correction, g)


class _NAdam(_Adam):
    def numerator(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        beta, decay = number(slot.group["betas"][0]), slot.group["momentum_decay"]
        now, ahead = (beta * (1 - 0.5 * 0.96 ** ((slot.count + later) * decay)) for later in (0, 1))
        product = number(slot.states[0].get("mu_product", torch.ones(())) * now)  # rounded as there
        of_gradient, of_mean = (1 - now) / (1 - product), ahead / (1 - product * ahead)
        return _weighted(slot.state("exp_avg"), of_mean * beta, of_gradient + of_mean * (1 - beta), g)


class _RMSprop(Rule):
    def second(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        mean, factor = _mean_square(slot.state("square_avg"), number(slot.group["alpha"]), g)
        if not slot.group["centered"]:
            return mean, factor
        return mean.mul_(factor).sub_(self._mean(slot, g).square_()).relu_(), 1.0

    def half(self, slot: Slot, g: Tensor) -> Tensor:
        return (g - self._mean(slot, g) if slot.group["centered"] else g) * (1 - float(slot.group["alpha"]))

    def rest(self, slot: Slot) -> Tensor | None:
        before = slot.state("momentum_buffer") if slot.group["momentum"] > 0 else None
        return None if before is None else before * float(slot.group["momentum"])

    def _mean(self, slot: Slot, g: Tensor) -> Tensor:
        return _weighted(slot.state("grad_avg"), slot.group["alpha"], 1 - slot.group["alpha"], g)[0]


class _Adagrad(Rule):
    def rate(self, slot: Slot) -> Scalar:
        return slot.rate / (1 + (slot.count - 1) * float(slot.group["lr_decay"]))

    def second(self, slot: Slot, g: Tensor) -> tuple[Tensor, Scalar]:
        before = slot.state("sum")
        start = float(slot.group["initial_accumulator_value"])
        return g.square() + start if before is None else before.addcmul(g, g), 1.0

    def half(self, slot: Slot, g: Tensor) -> Tensor:
        return g


RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.SGD: _SGD(),
    torch.optim.Adam: _Adam(),
    torch.optim.AdamW: _Adam(),
    torch.optim.NAdam: _NAdam(),
    torch.optim.RMSprop: _RMSprop(),
    torch.optim.Adagrad: _Adagrad(),
}


def number(value: Any) -> Scalar:
    """A Python number, but for what lies on a device: that stays there, in double precision where it has one.

    Args:
        value: A number or a tensor ().
    """
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
    return float(value)


def _mean_square(before: Tensor | None, beta: Scalar, g: Tensor) -> tuple[Tensor, Scalar]:
    """U in memory of its own and the factor c with c·u = β·before + (1 - β)·g²."""
    if before is None or (isinstance(beta, float) and beta == 0):
        return g.square(), 1 - beta
    if isinstance(beta, Tensor):
        return (g.square() * ((1 - beta) / beta)).add_(before), beta
    return before.addcmul(g, g, value=(1 - beta) / beta), beta


def _weighted(before: Tensor | None, keep: Scalar, share: Scalar, g: Tensor) -> tuple[Tensor, Scalar]:
    """The sum keep·before + share·g and its derivative in g."""
    return (g * share if before is None else before * keep + g * share), share
