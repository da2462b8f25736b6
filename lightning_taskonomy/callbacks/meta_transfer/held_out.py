"""The backbone's inputs for other images of a meta batch, as ``training_step`` would give them."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import nn

from lightning_taskonomy.batch import HELD_OUT
from lightning_taskonomy.callbacks.bifurcation import Bifurcation
from lightning_taskonomy.callbacks.bifurcation.no_trace import leaving_no_trace
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim import PassState, any_process

__all__ = ["backbone_inputs", "held_out_pass"]


class _ReachedBackboneError(Exception):
    """Ends a ``training_step`` where its backbone begins."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.inputs = args, kwargs


def held_out_pass(
    module: LightningModule, split: Bifurcation, primary: str, batch: Any, number: int
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The other images of a meta batch, and what ``training_step`` hands to the backbone for them.

    Args:
        module: The module.
        split: Its parts; the backbone does not run.
        primary: The primary task.
        batch: The meta batch.
        number: Its number in the epoch.

    Returns:
        The other batch, and the backbone's positional and keyword inputs.

    Raises:
        InputError: The batch brings no other one on some process, or one that is no mapping or lacks the primary label;
            or ``training_step`` does not run the backbone on it.
    """
    others = batch.get(HELD_OUT) if isinstance(batch, Mapping) else None
    absent, shapeless, unlabelled = any_process([
        others is None,
        others is not None and not isinstance(others, Mapping),
        split.has_label(primary, batch) and not split.has_label(primary, others),  # else labels have other keys
    ])  # fmt: skip
    if absent:
        raise InputError(
            f"meta_batch is 'held_out', and a meta batch has no {HELD_OUT!r}; give ParallelLabels held_out: true, or "
            f"let your loader put a batch of other images with primary labels under the key {HELD_OUT!r}"
        )
    if shapeless:
        raise InputError(
            f"what a meta batch has under the key {HELD_OUT!r} is not a dictionary; put a batch of other images there, "
            "with keys as in the meta batch"
        )
    if unlabelled:
        raise InputError(
            f"the batch under the key {HELD_OUT!r} has no valid label of the primary task {primary!r}, from which "
            f"meta_batch 'held_out' learns; give it labels under the key {split.label_keys[primary]!r}"
        )
    return (others, *backbone_inputs(module, split.backbone, others, number))


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
