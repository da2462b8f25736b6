"""The backbone's inputs for other images of a meta batch, as ``training_step`` would give them."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn

from lightning_taskonomy.batch import HELD_OUT
from lightning_taskonomy.callbacks.bifurcation.no_trace import leaving_no_trace
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import PassState

__all__ = ["backbone_inputs", "held_out_pass"]


class _ReachedBackboneError(Exception):
    """Ends a ``training_step`` where its backbone begins."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.inputs = args, kwargs


def held_out_pass(
    module: LightningModule, backbone: nn.Module, batch: Any, number: int
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The other images of a meta batch, and what ``training_step`` hands to the backbone for them.

    Args:
        module: The module.
        backbone: Its backbone, which does not run.
        batch: The meta batch.
        number: Its number in the epoch.

    Returns:
        The other batch, and the backbone's positional and keyword inputs.

    Raises:
        InputError: The batch brings no other one, or ``training_step`` does not run the backbone on it.
    """
    if not isinstance(batch, Mapping) or HELD_OUT not in batch:
        raise InputError(
            f"meta_batch is 'held_out', and a meta batch has no {HELD_OUT!r}; give ParallelLabels held_out: true, or "
            f"let your loader put a batch of other images with primary labels under the key {HELD_OUT!r}"
        )
    others = batch[HELD_OUT]
    return (others, *backbone_inputs(module, backbone, others, number))


def backbone_inputs(
    module: LightningModule, backbone: nn.Module, batch: Any, number: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What ``training_step`` hands to the backbone for a batch: it runs until the backbone begins, without a trace.

    Args:
        module: The module.
        backbone: Its backbone, which does not run.
        batch: The batch.
        number: Its number in the epoch.

    Returns:
        The backbone's positional and keyword inputs.

    Raises:
        InputError: ``training_step`` does not run the backbone on it.
    """

    def stop(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _ReachedBackboneError(args, kwargs)

    takes_number = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)  # as Lightning asks
    handle = backbone.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with (
            torch.compiler.set_stance("force_eager"),
            PassState.of(backbone).replayed(),
            leaving_no_trace(module, backbone, silent=True),
        ):
            module.training_step(batch, *([number] if takes_number else []))
    except _ReachedBackboneError as reached:
        return reached.inputs
    finally:
        handle.remove()
    raise InputError("training_step does not run the backbone on the held-out batch; it must, as on any other")
