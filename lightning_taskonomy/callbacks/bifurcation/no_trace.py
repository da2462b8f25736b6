"""Taking a loss again without a trace: ``training_step`` has logged, counted and moved statistics already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn
from torchmetrics import Metric, MetricCollection

from lightning_taskonomy.modules.bifurcation import Bifurcated

__all__ = ["leaving_no_trace"]


@contextmanager
def leaving_no_trace(module: LightningModule, backbone: nn.Module, silent: bool = False) -> Iterator[None]:
    """What the module does meanwhile outside its backbone is lost.

    Buffers and torchmetrics are copies, and the module's attributes are put back. The losses of a ``Bifurcated`` module
    log nothing anyway; ``self.log`` of any other is silenced. What lies elsewhere, in a list that grows, say, is not
    covered.

    Args:
        module: The module.
        backbone: Its backbone, which does not run meanwhile.
        silent: Whether a ``Bifurcated`` module is silenced too.
    """
    shared = set(backbone.modules())
    originals: list[tuple[nn.Module, str, Any]] = []
    for part in module.modules():
        if part not in shared:
            originals += [(part, name, buffer) for name, buffer in part.named_buffers(recurse=False)]
            originals += [(part, name, child) for name, child in part.named_children() if _counts(child)]
    attributes = vars(module)
    before = dict(attributes)
    try:
        for owner, name, value in originals:
            setattr(owner, name, value.clone())
        if silent or not isinstance(module, Bifurcated):
            attributes["log"] = _silent
        yield
    finally:
        attributes.clear()
        attributes.update(before)
        for owner, name, value in originals:
            setattr(owner, name, value)


def _counts(child: nn.Module) -> bool:
    """Whether this is a metric, or several, that ``training_step`` has updated: others play no part in a loss."""
    return isinstance(child, (Metric, MetricCollection)) and any(
        part.update_count > 0 for part in child.modules() if isinstance(part, Metric)
    )


def _silent(*args: Any, **kwargs: Any) -> None:
    """In the place of ``self.log``."""
