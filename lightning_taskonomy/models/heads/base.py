"""What a head is, and how the views of a pair or a triplet reach one."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task, TaskKind

__all__ = ["BatchNorm", "Head", "initialise_output", "maps_from", "merge_views"]


class Head(nn.Module):
    """Feature maps to the raw output of one task; the task's shift and scale are applied by the module that owns it.

    A subclass names the kinds it ``fits`` and defines ``forward``.

    Args:
        in_channels: Channels of each feature map; for a task of V views, V times the backbone's.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out.

    Raises:
        InputError: The head does not fit the task's kind, or there is no feature map.
    """

    fits: ClassVar[frozenset[TaskKind]] = frozenset(TaskKind)

    def __init__(self, in_channels: list[int], reductions: list[int], task: Task) -> None:
        super().__init__()
        if task.kind not in self.fits:
            allowed = ", ".join(sorted(kind.value for kind in self.fits))
            raise InputError(
                f"{type(self).__name__} does not fit task {task.name!r} of kind {task.kind.value}; it serves {allowed}"
            )
        if not in_channels or len(in_channels) != len(reductions):
            raise InputError(
                f"{type(self).__name__} got {len(in_channels)} channel counts and {len(reductions)} reductions; "
                "one of each per feature map, at least one map"
            )

    def connect(self, heads: Mapping[str, nn.Module]) -> None:
        """Called once all heads of a module are made, for a head that depends on another.

        Args:
            heads: All heads by task, this one among them.
        """

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The raw output.

        Args:
            features: Maps (B, C, h, w), one per entry of ``in_channels``.
            size: Height and width of a dense output; other outputs ignore it.

        Returns:
            (B, channels, *size) for a task with a value per pixel, else (B, channels).
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(features, size) -> Tensor")


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that falls back on its running statistics where a batch holds one value per channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, H, W)."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def initialise_output(layer: nn.Conv2d | nn.Linear, kind: TaskKind) -> None:
    """Starts predictions near zero; directions and embeddings, for which zero is singular, at about unit length."""
    fan_in = layer.weight[0].numel()
    unit = kind in (TaskKind.NORMALS, TaskKind.GROUPING)
    nn.init.normal_(layer.weight, std=(fan_in * len(layer.weight)) ** -0.5 if unit else 0.1 * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def maps_from(reductions: list[int], finest: int) -> list[int]:
    """Which feature maps a dense head reads: those not finer than a reduction; if all are finer, the coarsest.

    Args:
        reductions: Image pixels per pixel of each feature map.
        finest: The least reduction.
    """
    coarse = [i for i, reduction in enumerate(reductions) if reduction >= finest]
    return coarse or [max(range(len(reductions)), key=reductions.__getitem__)]


def merge_views(features: list[Tensor], views: int) -> list[Tensor]:
    """Feature maps of the views of each sample, side by side in channels.

    The towers of a pair, a triplet or a jigsaw share their weights because one backbone sees all views as one batch.

    Args:
        features: Maps (B * V, C, h, w), the views of a sample next to each other, as ``images.flatten(0, 1)`` has them.
        views: V.

    Returns:
        Maps (B, V * C, h, w), view by view.
    """
    return [feature.unflatten(0, (-1, views)).flatten(1, 2) for feature in features]
