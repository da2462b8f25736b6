"""What a meta step is given: its batches, what follows the bifurcation, and how its gradients are taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from torch import Tensor, nn

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim.features import Features

__all__ = ["Branch", "HeldOut", "MetaBatch", "MetaOptions"]


@dataclass(frozen=True)
class Branch:
    """What follows the bifurcation for one task.

    Attributes:
        loss: The task's loss from the features, through the task's head.
        module: The head. Its parameters get gradients and its running statistics move once; None where neither is
            wanted.
    """

    loss: Callable[[Features], Tensor]
    module: nn.Module | None = None

    def parameters(self) -> list[nn.Parameter]:
        """The head's parameters that learn."""
        return [] if self.module is None else [p for p in self.module.parameters() if p.requires_grad]


@dataclass(frozen=True)
class HeldOut:
    """Other images with primary labels, on which the primary loss at Θ⁺ is taken.

    Attributes:
        args: Positional inputs of the backbone.
        kwargs: Keyword inputs of the backbone.
        primary: The primary task's branch.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    primary: Branch


@dataclass(frozen=True)
class MetaBatch:
    """A batch, or a micro-batch, with parallel labels.

    Attributes:
        args: Positional inputs of the backbone.
        auxiliary: A branch per auxiliary task; one that names its head must be there on all processes or none.
        primary: The primary task's branch.
        kwargs: Keyword inputs of the backbone.
        held_out: What takes the batch's place at Θ⁺, with random numbers and buffers as in the batch's pass; None: the
            batch itself, as in the paper.
    """

    args: tuple[Any, ...]
    auxiliary: Mapping[str, Branch]
    primary: Branch
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class MetaOptions:
    """How a meta-gradient is taken.

    Attributes:
        method: ``auto`` tries the forward mode and falls back to the double VJP; the others force one way;
            ``finite_difference`` is not exact.
        approximate: Takes v at Θ instead of Θ⁺, the limit of small steps, without the virtual pass: not exact.
        compare: With ``approximate``: the exact meta-gradient too, for their cosine.
        primary_at: Whether the network's primary gradient is taken at Θ⁺ (Eq. 2) or at Θ.
        on_meta: What the backbone learns from: the primary gradient (the paper's), or jointly the sum of it and of the
            projected auxiliary gradient, which is that at Θ.
        combine: Whether projected gradients of several auxiliary tasks are summed (Eq. 6) or averaged (section 4.4).
        loss_scale: Factor on all losses against underflow in fp16; taken out of all results.
        wait: With ``auto``: whether each step's check decides at once if its product is taken, for which it waits
            for the device; else ``consistent`` of the result is the caller's to read.
        inspect: With ``auto``: one more pass, which finds an operation whose forward mode is silently wrong even where
            its share is too small for the consistency check; for the first step of many.
        measure: Whether the result has ``step_length`` and ``stretch``, which nothing else needs.

    Raises:
        InputError: Unknown ``method``, ``primary_at``, ``on_meta`` or ``combine``.
    """

    method: Literal["auto", "forward", "double_vjp", "finite_difference"] = "auto"
    approximate: bool = False
    compare: bool = False
    primary_at: Literal["virtual", "current"] = "virtual"
    on_meta: Literal["primary", "joint"] = "primary"
    combine: Literal["sum", "mean"] = "sum"
    loss_scale: float = 1.0
    wait: bool = True
    inspect: bool = False
    measure: bool = True

    def __post_init__(self) -> None:
        """Refuses words that are not allowed."""
        for entry in fields(self):
            value, allowed = getattr(self, entry.name), get_args(entry.type)  # the words of a Literal
            if allowed and value not in allowed:
                raise InputError(f"a meta-gradient has no {entry.name} {value!r}{hint(str(value), allowed)}")
