"""What a Task Meta-Transfer callback cannot work with."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_taskonomy.callbacks.meta_transfer.learner import Learner
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim import Identity, Inner

__all__ = ["MetaImages", "check_arguments", "check_fit", "idle_options"]

MetaImages = Literal["same", "held_out"]
"""Where the primary loss at Θ⁺ is taken: on the meta batch, or on the other images that it brings."""


def check_arguments(
    reader: str,
    counts: Mapping[str, Any],
    inner_lr: float | None,
    inner: str,
    meta_batch: str,
    approximate: bool,
    sign: bool,
) -> None:
    """Refuses numbers out of range, unknown words, and options that contradict each other.

    Args:
        reader: The callback, by the name that a user knows.
        counts: Whole numbers by name.
        inner_lr: α, or None.
        inner: The virtual step.
        meta_batch: Where the primary loss at Θ⁺ is taken.
        approximate: Whether there is no pass at Θ⁺.
        sign: Whether a scalar is to be normalized.

    Raises:
        InputError: One of these.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{reader}: {name} is {value!r}, must be at least 1 and a whole number")
    if inner_lr is not None and not inner_lr > 0:
        raise InputError(f"inner_lr is {inner_lr}; the virtual step needs a positive length")
    words: tuple[tuple[str, str, Any], ...] = (("inner", inner, Inner), ("meta_batch", meta_batch, MetaImages))
    for name, word, allowed in words:
        if word not in get_args(allowed):
            raise InputError(f"there is no {name} {word!r}{hint(word, get_args(allowed))}")
    if meta_batch == "held_out" and approximate:
        raise InputError(
            "meta_batch 'held_out' takes the primary loss at Θ⁺, and approximate makes no pass there; leave out either"
        )
    if sign:
        raise InputError(
            "a scalar that is normalized is no more than a sign; leave out normalize, or take another projection"
        )


def check_fit(optimizer: torch.optim.Optimizer, backbone: nn.Module, module: LightningModule) -> None:
    """Refuses an optimizer without the backbone, and statistics that processes share.

    Args:
        optimizer: The network's.
        backbone: The backbone.
        module: The module.

    Raises:
        InputError: One of these.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not trained & set(map(id, backbone.parameters())):
        raise InputError(
            "the optimizer has no parameter of the backbone; give it those, which Task Meta-Transfer trains"
        )
    if any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        raise InputError("Task Meta-Transfer does not work with SyncBatchNorm; use BatchNorm and sync_batchnorm=False")


def idle_options(learner: Learner, separate_moments: bool, optimizer: torch.optim.Optimizer) -> list[str]:
    """Says which options do nothing in a fit.

    Args:
        learner: Has the projections.
        separate_moments: Whether the optimizer's state is to be kept twice.
        optimizer: The network's.
    """
    messages, bounds = [], learner.bounds
    named = {"normalize": bounds.normalize, "anchor": bounds.anchor, "scheduler": bounds.scheduler,
             "phi_batches": bounds.phi_batches > 1}  # fmt: skip
    if learner.make is Identity and (names := [name for name, value in named.items() if value]):
        messages.append(f"projection identity learns nothing; without effect: {', '.join(names)}")
    if separate_moments and isinstance(optimizer, torch.optim.SGD) and not any(
        group["momentum"] for group in optimizer.param_groups
    ):  # fmt: skip
        messages.append("separate_moments changes nothing: SGD without momentum has no moments")
    return messages
