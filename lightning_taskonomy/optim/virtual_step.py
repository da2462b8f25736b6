"""The virtual step Θ⁺ = Θ - Δ(d) of Task Meta-Transfer (paper Eq. 1) from a gradient d of the backbone's parameters.

The paper descends by α·d, as SGD does. An adaptive optimizer makes another step, often hundreds of times longer, so
that Θ⁺ of plain descent says little about where its step would lead. Δ is elementwise in all cases, and so is Δ′(d).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim.optimizer_rules import RULES, Rule, Scalar, Slot, number
from lightning_taskonomy.optim.sums import times

__all__ = ["GradientStep", "Inner", "OptimizerStep", "VirtualStep"]

Inner = Literal["optimizer", "gradient", "full"]
Moved = Iterator[tuple[Sequence[nn.Parameter], list[Tensor]]]
_SMALL, _JOINT = 2**16, 2**20  # weights: parameters up to the former are moved as one vector of up to the latter


class VirtualStep:
    """How far a gradient moves the parameters.

    A subclass defines :meth:`displacements` and its derivative :meth:`pulls`, or sets ``uniform``, where neither is
    called.

    Attributes:
        needs_gradient: Whether :meth:`pulls` reads the gradients; else None may be passed.
        uniform: The rate, where Δ = rate·d with the same number for all parameters; else None.
    """

    needs_gradient: bool = True
    uniform: float | None = None

    def prepare(self, parameters: Sequence[nn.Parameter]) -> None:
        """Reads what holds for the whole step.

        Args:
            parameters: The backbone's.
        """

    def displacements(self, gradients: Mapping[nn.Parameter, Tensor], scale: float) -> Moved:
        """Δ(scale·d) = Θ - Θ⁺, some parameters at a time and each once.

        Args:
            gradients: d by parameter, for all that :meth:`prepare` was given: mean over processes.
            scale: What makes d what the optimizer would be given: mean over micro-batches, no loss scale.

        Yields:
            Parameters, and Δ of each.
        """
        raise NotImplementedError(f"{type(self).__name__} must define displacements(gradients, scale)")

    def pulls(
        self, gradients: Mapping[nn.Parameter, Tensor] | None, scale: float, vectors: Mapping[nn.Parameter, Tensor]
    ) -> Moved:
        """Δ′(scale·d) ⊙ vector, likewise.

        Args:
            gradients: d by parameter, as above; None where they are not needed.
            scale: As above.
            vectors: By parameter, for all that :meth:`prepare` was given.

        Yields:
            Parameters, and the product of each.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pulls(gradients, scale, vectors)")


class GradientStep(VirtualStep):
    """Δ = α·d: the paper's.

    Args:
        rate: α.
    """

    needs_gradient = False

    def __init__(self, rate: float) -> None:
        self.uniform = float(rate)


class OptimizerStep(VirtualStep):
    """The step that a torch optimizer would make, read from its state; the state is neither changed nor copied.

    By ``optimizer``, Δ = α·P·d with P = 1/(√v̂ + ε): the gradient as the optimizer scales it, with v̂ after the moving
    average has taken in d², and P held fixed when differentiated. Where v̂ is 0, P is 0. SGD has P = 1. By ``gradient``
    P = 1 for any optimizer. By ``full``, Δ is the whole step on d alone, with momentum and weight decay, and Δ′ its
    derivative (0 where v̂ is 0). An optimizer that maximizes climbs by all three.

    Args:
        optimizer: SGD, Adam, AdamW, NAdam, RMSprop or Adagrad of torch; any with ``inner="gradient"``.
        inner: What Δ is.
        inner_lr: Replaces the largest rate of the backbone's parameters; the others keep their proportion to it.
        state: Read in place of ``optimizer.state``.

    Raises:
        InputError: Another optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        inner: Inner = "optimizer",
        inner_lr: float | None = None,
        state: Mapping[Any, Any] | None = None,
    ) -> None:
        if inner != "gradient" and not self.is_known(optimizer):
            raise InputError(
                f"no virtual step of {type(optimizer).__name__}; take one of {self.names()}, or inner 'gradient', "
                "plain descent"
            )
        self.full, self.inner_lr = inner == "full", inner_lr
        self.state = optimizer.state if state is None else state
        self.needs_gradient = inner != "gradient" and not isinstance(optimizer, torch.optim.SGD)
        self._rule = Rule() if inner == "gradient" else RULES[type(optimizer)]
        self._groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
        self.prepare(list(self._groups))

    @staticmethod
    def is_known(optimizer: torch.optim.Optimizer) -> bool:
        """Whether this optimizer's step can be made virtually; a subclass may step otherwise and is not."""
        return type(optimizer) in RULES

    @staticmethod
    def names() -> str:
        """The optimizers whose step can be made virtually, for a message."""
        return ", ".join(entry.__name__ for entry in RULES)

    def prepare(self, parameters: Sequence[nn.Parameter]) -> None:
        """Reads the learning rates as they are now.

        Args:
            parameters: The backbone's; those in no group of the optimizer do not move.
        """
        groups = list({id(group): group for p in parameters if (group := self._groups.get(p)) is not None}.values())
        rates = {id(group): number(group["lr"]) for group in groups}
        if self.inner_lr is not None and rates:
            rates = _rescaled(rates, self.inner_lr)
        self._rates, self._parameters = rates, parameters
        self._bundled: list[list[nn.Parameter]] = []
        self.uniform = None
        plain = not self.needs_gradient and not self.full and not any(group.get("maximize") for group in groups)
        if plain and len({*rates.values()}) == 1 and all(p in self._groups for p in parameters):
            rate = next(iter(rates.values()))
            self.uniform = None if isinstance(rate, Tensor) else rate

    def displacements(self, gradients: Mapping[nn.Parameter, Tensor], scale: float) -> Moved:
        """Δ(scale·d); small parameters are moved together, as each operation takes its time however small they are."""
        for members in self._bundles():
            slot = self._slot(members)
            d = times(slot.join([gradients[p] for p in members]), scale)
            yield members, slot.split(self._displacement(slot, d))

    def pulls(
        self, gradients: Mapping[nn.Parameter, Tensor] | None, scale: float, vectors: Mapping[nn.Parameter, Tensor]
    ) -> Moved:
        """Δ′(scale·d) ⊙ vector, likewise."""
        for members in self._bundles():
            slot = self._slot(members)
            d = None if gradients is None else times(slot.join([gradients[p] for p in members]), scale)
            yield members, slot.split(self._pull(slot, d, slot.join([vectors[p] for p in members])))

    def _displacement(self, slot: Slot, d: Tensor) -> Tensor:
        if not slot.group:
            return torch.zeros_like(d)
        if not self.full:
            return self._scaled(slot, d, d)
        seen = slot.seen(d)
        step, _ = self._rule.numerator(slot, seen)
        second = self._rule.second(slot, seen)
        if second is not None:
            step = step / second[0].mul_(second[1]).sqrt_().add_(slot.group["eps"])
        rest = self._rule.rest(slot)
        step = (step if rest is None else step + rest) * self._rule.rate(slot)
        return step + slot.rate * slot.group["weight_decay"] * slot.theta() if slot.decoupled else step

    def _pull(self, slot: Slot, d: Tensor | None, vector: Tensor) -> Tensor:
        if not slot.group:
            return torch.zeros_like(vector)
        if not self.full:
            return self._scaled(slot, d, vector)
        seen = slot.seen(vector if d is None else d)
        step, slope = self._rule.numerator(slot, seen)
        factor = slot.sign * self._rule.rate(slot)
        second = self._rule.second(slot, seen)
        if second is None:
            return vector * (factor * slope)
        root = torch.threshold_(second[0].mul_(second[1]).sqrt_(), 0.0, math.inf)
        denominator = root + slot.group["eps"]
        inner = (step / denominator).mul_(self._rule.half(slot, seen)).div_(root)
        derivative: Tensor = (slope - inner).div_(denominator).mul_(vector).mul_(factor)
        return derivative

    def _scaled(self, slot: Slot, d: Tensor | None, vector: Tensor) -> Tensor:
        """α·P·vector."""
        factor = slot.sign * self._rule.rate(slot)
        second = self._rule.second(slot, slot.seen(d)) if self.needs_gradient and d is not None else None
        if second is None:
            return vector * factor
        scale = second[1] ** 0.5
        denominator = torch.threshold_(second[0].sqrt_(), 0.0, math.inf).add_(slot.group["eps"] / scale)  # P(0) = 0
        return torch.div(vector, denominator, out=denominator).mul_(factor / scale)

    def _slot(self, parameters: Sequence[nn.Parameter]) -> Slot:
        group = self._groups.get(parameters[0], {})
        return Slot(parameters, [self.state.get(p, {}) for p in parameters], group, self._rates.get(id(group), 0.0))

    def _bundles(self) -> list[list[nn.Parameter]]:
        """Small parameters whose numbers are the same together, the others alone."""
        if self._bundled:
            return self._bundled
        bundles = self._bundled
        open_ones: dict[Any, tuple[list[nn.Parameter] | None, int]] = {}
        for parameter in self._parameters:
            state, group, size = self.state.get(parameter, {}), self._groups.get(parameter), parameter.numel()
            numbers = tuple(number(state[key]) for key in ("step", "mu_product") if key in state)
            if size > _SMALL or group is None or any(isinstance(value, Tensor) for value in numbers):
                bundles.append([parameter])
                continue
            filled = tuple(key for key, value in state.items() if value is not None)
            key = (id(group), parameter.device, parameter.dtype, numbers, filled)
            members, total = open_ones.get(key, (None, 0))
            if members is None or total + size > _JOINT:
                members, total = [], 0
                bundles.append(members)
            members.append(parameter)
            open_ones[key] = (members, total + size)
        return bundles


def _rescaled(rates: dict[int, Scalar], largest: float) -> dict[int, Scalar]:
    """The rates times what makes the largest this; all are this where all are 0, as in the first step of a warm-up."""
    if all(isinstance(rate, float) for rate in rates.values()):
        top = max(float(rate) for rate in rates.values())
        return {key: largest * (rate / top) if top > 0 else largest for key, rate in rates.items()}
    device = next(rate.device for rate in rates.values() if isinstance(rate, Tensor))
    stacked = torch.stack([torch.as_tensor(rate, dtype=torch.float64, device=device) for rate in rates.values()])
    scaled = torch.where(stacked.max() > 0, largest * stacked / stacked.max(), largest)
    return dict(zip(rates, scaled.unbind(), strict=True))
