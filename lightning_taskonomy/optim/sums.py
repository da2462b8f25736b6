"""Gradients that add up over micro-batches and processes, and parameters that get none."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lightning_taskonomy.optim.processes import any_process

__all__ = ["GradientSum", "Gradients", "Reduce", "times"]

Gradients = dict[nn.Parameter, Tensor]
Reduce = Callable[[list[Tensor]], list[Tensor]]


class GradientSum:
    """A gradient per parameter, summed; one that never had any stays without."""

    def __init__(self) -> None:
        self._sums: dict[nn.Parameter, Tensor | None] = {}

    def add(self, parameters: Iterable[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        """Adds gradients to the sums.

        Args:
            parameters: What the gradients belong to.
            gradients: One each, None where the parameter played no part.
        """
        for parameter, gradient in zip(parameters, gradients, strict=True):
            total = self._sums.get(parameter)
            if total is not None and gradient is not None:
                self._sums[parameter] = total + gradient
            else:
                self._sums[parameter] = gradient if total is None else total

    def values(self, parameters: Iterable[nn.Parameter], factor: float) -> list[Tensor]:
        """The sums of these parameters times the factor, zeros where there is none."""
        totals = [(parameter, self._sums.get(parameter)) for parameter in parameters]
        return [torch.zeros_like(p) if total is None else times(total, factor) for p, total in totals]

    def present(self, parameters: Iterable[nn.Parameter]) -> list[bool]:
        """Whether these parameters have a gradient on any process."""
        return any_process([self._sums.get(parameter) is not None for parameter in parameters])

    def reduced(self, factor: float, reduce: Reduce) -> Gradients:
        """All sums times the factor, their mean over processes; without those that have no gradient on any.

        Args:
            factor: What to multiply by.
            reduce: The mean over processes of a list of tensors.
        """
        if not self._sums:
            return {}
        gradients = self.values(self._sums, factor)
        return {
            parameter: gradient
            for parameter, gradient, there in zip(self._sums, reduce(gradients), self.present(self._sums), strict=True)
            if there
        }


def times(tensor: Tensor, factor: float) -> Tensor:
    """The product, or the tensor itself where the factor is 1."""
    return tensor if factor == 1 else factor * tensor
