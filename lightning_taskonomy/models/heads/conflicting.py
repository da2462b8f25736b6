"""A head whose task pulls the backbone the wrong way: for experiments with auxiliary tasks that conflict."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.models.heads.base import Head
from lightning_taskonomy.tasks import Task

__all__ = ["ConflictingHead"]


class ConflictingHead(Head):
    """Another head, behind which the gradient of the features is multiplied by a fixed matrix M = 2·P − 1.

    P is an orthogonal projector of rank r in the C channels, drawn from a seed: M keeps r directions and turns the sign
    of the other C − r; M·M = 1. The head itself learns as ever, and its task as far as the features allow, but what the
    backbone is taught is M·g, whatever method is at work. A target that is turned would not conflict, since the head
    learns to turn it back. φ = M undoes it; in the form diag(λ) + U·Uᵀ that is λ = −1 and a U of rank r.

    A head of its own still finds a way to read what it needs in the features, so that the backbone loses little. With
    ``copy_of`` there is no such way: the task is read out by the other task's head as it is at the time, which does not
    learn from this task. Where both tasks have the same labels (:data:`~lightning_taskonomy.tasks.controls.DEPTH_AGAIN`
    with a copy of the head of ``depth_z``), the auxiliary gradient is then M times that of the primary loss, in images
    without primary labels.

    Args:
        in_channels: Channels of each feature map.
        reductions: Image pixels per pixel of each feature map.
        task: What is read out.
        head: The head in use: ``{class_path: DenseHead}`` in a recipe.
        copy_of: In place of ``head``: the task whose head is copied.
        rank: r, 0 to the channels of the narrowest map; 0 turns the whole gradient.
        seed: Of P; of several maps each has a P of its own.

    Raises:
        InputError: The rank is out of range, the head does not fit the task, or there is not one of ``head`` and
            ``copy_of``.
    """

    def __init__(
        self,
        in_channels: list[int],
        reductions: list[int],
        task: Task,
        *,
        head: Callable[[list[int], list[int], Task], Head] | None = None,
        copy_of: str | None = None,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(in_channels, reductions, task)
        if not 0 <= rank <= min(in_channels):
            raise InputError(f"ConflictingHead: rank {rank} for {min(in_channels)} channels; give 0 to that number")
        if (head is None) == (copy_of is None):
            raise InputError(
                f"ConflictingHead of task {task.name!r} needs either a head or copy_of, the name of a task"
            )
        self.head, self.maps = None if head is None else head(in_channels, reductions, task), len(in_channels)
        self.task, self.copy_of = task.name, copy_of
        self._copied: tuple[_Unhooked, ...] = ()  # in a tuple, since it belongs to the other task
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

    def connect(self, heads: Mapping[str, nn.Module]) -> None:
        """Takes the head that is copied; see the base class.

        Args:
            heads: All heads by task.

        Raises:
            InputError: There is none of that name, or it is a copy too.
        """
        if self.copy_of is None:
            return
        others = {name: head for name, head in heads.items() if getattr(head, "copy_of", None) is None}
        if self.copy_of not in others:
            raise InputError(
                f"ConflictingHead of task {self.task!r} is to copy the head of {self.copy_of!r}, which is no other "
                f"task with a head of its own{hint(self.copy_of, others) or '; give a head in place of copy_of'}"
            )
        self._copied = (_Unhooked(others[self.copy_of]),)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """What the head makes of the features; see the base class."""
        turned = [cast(Tensor, _Turn.apply(features[number], self.matrix(number))) for number in range(self.maps)]
        inputs = [*turned, *features[self.maps :]]  # behind the maps: indices for unpooling
        if self.head is not None:
            output: Tensor = self.head(inputs, size)
            return output
        if not self._copied:
            raise InputError(f"ConflictingHead of task {self.task!r} has no module whose head it could copy")
        (copied,) = self._copied
        state = {name: parameter.detach() for name, parameter in copied.named_parameters()}
        state |= {name: buffer.clone() for name, buffer in copied.named_buffers()}  # its statistics stay
        copied_output: Tensor = functional_call(copied, state, (inputs, size))
        return copied_output


class _Unhooked(nn.Module):
    """Another head without the hooks that are on it."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        output: Tensor = self.head.forward(features, size)
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
