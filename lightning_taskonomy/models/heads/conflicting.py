"""A head whose task pulls the backbone the wrong way: for experiments with auxiliary tasks that conflict."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads.base import Head
from lightning_taskonomy.tasks import Task

__all__ = ["ConflictingHead"]


class ConflictingHead(Head):
    """Another head, behind which the gradient of the features is multiplied by a fixed matrix M = 2·P − 1.

    P is an orthogonal projector of rank r in the C channels, drawn from a seed: M keeps r directions and turns the sign
    of the other C − r; M·M = 1. The head itself learns as ever, and its task as far as the features allow, but what the
    backbone is taught is M·g, whatever method is at work. A target that is turned would not conflict, since the head
    learns to turn it back. φ = M undoes it; in the form diag(λ) + U·Uᵀ that is λ = −1 and a U of rank r.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out.
        head: The head in use: ``{class_path: DenseHead}`` in a recipe.
        rank: r, 0 to the channels of the narrowest map; 0 turns the whole gradient.
        seed: Of P; of several maps each has a P of its own.

    Raises:
        InputError: The rank is out of range, or the head does not fit the task.
    """

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        head: Callable[[list[int], list[int], Task], Head],
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if not 0 <= rank <= min(in_channels):
            raise InputError(
                f"ConflictingHead: rank {rank} for {min(in_channels)} channels; give 0 to that number"
            )
        self.head, self.maps = head(in_channels, reductions, task), len(in_channels)
        random = torch.Generator().manual_seed(seed)
        for number, channels in enumerate(in_channels):
            kept, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64, generator=random))
            matrix = 2 * kept[:, :rank] @ kept[:, :rank].mT - torch.eye(channels, dtype=torch.float64)
            self.register_buffer(f"matrix_{number}", matrix.float(), persistent=False)

    def matrix(self, number: int = 0) -> Tensor:
        """M of a feature map, (C, C).

        Args:
            number: Which map.
        """
        return self.get_buffer(f"matrix_{number}")

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """What the head makes of the features; see the base class."""
        turned = [cast(Tensor, _Turn.apply(features[number], self.matrix(number))) for number in range(self.maps)]
        output: Tensor = self.head([*turned, *features[self.maps :]], size)  # behind the maps: indices for unpooling
        return output


class _Turn(torch.autograd.Function):
    """Identity forward, also of tangents; a symmetric matrix over the channels backward, differentiable again."""

    @staticmethod
    def forward(feature: Tensor, matrix: Tensor) -> Tensor:
        return feature.view_as(feature)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        return torch.einsum("oc,bc...->bo...", matrix.to(gradients[0].dtype), gradients[0]), None

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, *tangents: Tensor) -> Tensor:
        return tangents[0].view_as(tangents[0])
