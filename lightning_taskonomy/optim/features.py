"""What passes the bifurcation: one feature map or several, in any nesting of lists, tuples and mappings."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from lightning_taskonomy.errors import InputError

__all__ = ["Features", "cut", "entries", "graft", "learnable"]

Features = Any
"""A tensor (B, C, ...), or lists, tuples and mappings of such; what is not a tensor or has no gradient passes."""


def entries(features: Features) -> list[Any]:
    """The features' leaves, tensors or not, in order."""
    leaves: list[Any] = []

    def keep(entry: Any) -> Any:
        leaves.append(entry)
        return entry

    graft(features, keep)
    return leaves


def graft(features: Features, function: Callable[[Any], Any]) -> Features:
    """The same nesting with the function applied to each leaf."""
    if isinstance(features, Mapping):
        return {key: graft(value, function) for key, value in features.items()}
    if isinstance(features, (list, tuple)):
        inner = [graft(value, function) for value in features]
        return type(features)(*inner) if hasattr(features, "_fields") else type(features)(inner)
    return function(features)


def learnable(entry: Any) -> bool:
    """Whether a gradient passes this entry: unpooling indices, for one, have none."""
    return isinstance(entry, Tensor) and entry.requires_grad


def cut(features: Features) -> tuple[Features, list[Tensor]]:
    """The features cut off from the network that made them.

    Returns:
        The same nesting with a new leaf for each learnable map, and those leaves.

    Raises:
        InputError: No map has a gradient.
    """
    leaves: list[Tensor] = []

    def leaf(entry: Any) -> Any:
        if not learnable(entry):
            return entry
        leaves.append(entry.detach().requires_grad_())
        return leaves[-1]

    severed = graft(features, leaf)
    if not leaves:
        raise InputError(
            "the backbone's features have no gradient; run it outside torch.no_grad, with parameters that learn"
        )
    return severed, leaves
