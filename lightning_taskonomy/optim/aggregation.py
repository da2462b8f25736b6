"""Conflicting task gradients made into one: the aggregators of torchjd, which is loaded when one is made."""

from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any, Literal, cast

import torch
from torch import Tensor

from lightning_taskonomy.errors import InputError, hint

__all__ = ["AGGREGATORS", "Aggregation", "AggregatorName"]

AggregatorName = Literal["pcgrad", "cagrad", "mgda", "nash_mtl", "imtl_g", "aligned_mtl"]
AGGREGATORS: dict[AggregatorName, tuple[str, str]] = {  # class, and what it needs besides torchjd
    "pcgrad": ("PCGrad", ""),
    "cagrad": ("CAGrad", "cagrad"),
    "mgda": ("MGDA", ""),
    "nash_mtl": ("NashMTL", "nash-mtl"),
    "imtl_g": ("IMTLG", ""),
    "aligned_mtl": ("AlignedMTL", ""),
}


class Aggregation:
    """One gradient out of one per task.

    Args:
        name: PCGrad (Yu et al. 2020), CAGrad (Liu, B. et al. 2021), MGDA (Désidéri 2012), Nash-MTL (Navon et al. 2022),
            IMTL-G (Liu, L. et al. 2021) or Aligned-MTL (Senushkin et al. 2023).
        tasks: How many tasks there are; Nash-MTL must know beforehand.
        **options: The aggregator's, as torchjd names them; ``c`` of CAGrad is 0.4, its paper's value for NYUv2.

    Raises:
        InputError: Unknown name or option, or torchjd or what the aggregator needs is not installed.
    """

    def __init__(self, name: AggregatorName, tasks: int, **options: Any) -> None:
        if name not in AGGREGATORS:
            raise InputError(f"no aggregation is named {name!r}{hint(name, AGGREGATORS)}")
        kind, extra = AGGREGATORS[name]
        defaults: dict[str, dict[str, Any]] = {"cagrad": {"c": 0.4}, "nash_mtl": {"n_tasks": tasks}}
        package = f"torchjd[{extra}]" if extra else "torchjd"
        try:
            aggregator = resolve_name(f"torchjd.aggregation:{kind}")
        except (ImportError, AttributeError) as error:
            raise InputError(f"aggregation {name!r} needs {package}; run: pip install '{package}'") from error
        try:
            self._combine = cast(Callable[[Tensor], Tensor], aggregator(**defaults.get(name, {}) | options))
        except ImportError as error:
            raise InputError(f"aggregation {name!r} needs {package}; run: pip install '{package}'") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"aggregation {name!r} with options {options}: {error}") from error

    def __call__(self, gradients: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
        """The aggregated gradient.

        Args:
            gradients: Per task one gradient for each of the same tensors; None counts as zero.

        Returns:
            One per tensor, in its shape and dtype; None where no task has any.
        """
        columns = list(zip(*gradients, strict=True))
        examples = [next((entry for entry in column if entry is not None), None) for column in columns]
        parts = [
            torch.stack([torch.zeros_like(like) if entry is None else entry for entry in column]).flatten(1)
            for column, like in zip(columns, examples, strict=True)
            if like is not None
        ]
        if not parts:
            return [None for _ in examples]
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        combined = iter(self._combine(torch.cat(parts, 1).to(dtype)).split([part.shape[1] for part in parts]))
        return [None if like is None else next(combined).view_as(like).to(like.dtype) for like in examples]
