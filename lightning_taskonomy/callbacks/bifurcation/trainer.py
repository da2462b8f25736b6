"""What callbacks with parameters and gradients to step need of the trainer: optimizer, loss scale, processes."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

__all__ = ["adam", "loss_scale", "mean_over_processes"]


def adam(params: Any) -> torch.optim.Optimizer:
    """Adam at the learning rate 1e-3: a callback's optimizer unless another is named."""
    return torch.optim.Adam(params, lr=1e-3)


def loss_scale(trainer: Trainer) -> float | None:
    """What the loss is multiplied by against underflow in fp16; None without a scaler."""
    scaler: torch.amp.GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None or not scaler.is_enabled() else float(scaler.get_scale())


def mean_over_processes(trainer: Trainer, tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor's mean over the processes, all of one type in one message; the tensors themselves in a single one.

    Args:
        trainer: The trainer.
        tensors: The same shapes on every process.
    """
    if trainer.world_size == 1:
        return tensors
    means = list(tensors)
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = trainer.strategy.reduce(torch.cat([tensors[place].flatten() for place in places]), reduce_op="mean")
        assert isinstance(flat, Tensor)  # a tensor in, a tensor out
        for place, part in zip(places, flat.split([tensors[place].numel() for place in places]), strict=True):
            means[place] = part.view_as(tensors[place])
    return means
