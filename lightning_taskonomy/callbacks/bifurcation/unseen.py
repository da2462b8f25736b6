"""Taking a loss again without a trace: ``training_step`` has logged, counted and moved statistics already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn
from torchmetrics import Metric, MetricCollection

__all__ = ["unseen"]


@contextmanager
def unseen(module: LightningModule, backbone: nn.Module) -> Iterator[None]:
    """What the module does meanwhile outside its backbone is lost.

    ``self.log`` is silent; buffers and torchmetrics are copies; the module's own attributes are what they were. What
    lies elsewhere, in a list that grows, say, is not covered.

    Args:
        module: The module.
        backbone: Its backbone, which does not run meanwhile.
    """
    inside = set(backbone.modules())
    kept: list[tuple[nn.Module, str, Any]] = []
    for part in module.modules():
        if part not in inside:
            kept += [(part, name, buffer) for name, buffer in part.named_buffers(recurse=False)]
            kept += [(part, name, child) for name, child in part.named_children() if _counts(child)]
    own = vars(module)
    before = dict(own)
    try:
        for owner, name, value in kept:
            setattr(owner, name, value.clone())
        own["log"] = _silent
        yield
    finally:
        own.clear()
        own.update(before)
        for owner, name, value in kept:
            setattr(owner, name, value)


def _counts(child: nn.Module) -> bool:
    """Whether this is a metric, or several, that ``training_step`` has updated: others are no part of a loss."""
    return isinstance(child, (Metric, MetricCollection)) and any(
        part.update_count > 0 for part in child.modules() if isinstance(part, Metric)
    )


def _silent(*args: Any, **kwargs: Any) -> None:
    """In the place of ``self.log``."""
