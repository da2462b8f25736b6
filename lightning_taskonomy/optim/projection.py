"""The gradient projection φ of Task Meta-Transfer (paper section 3.5) and its siblings.

φ maps the gradient of one feature map, pixel by pixel, over the map's channels: g' = φ·g. All start at or next to the
identity, that is next to plain multi-task learning.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_taskonomy.errors import InputError

__all__ = ["Diagonal", "Full", "Identity", "LowRank", "Normalized", "Projection", "Scalar", "project"]


class Projection(nn.Module):
    """A learnable map over the channels of a gradient.

    A subclass defines :meth:`project`, or overrides ``forward`` outright; the gradient in its parameters comes from
    autograd. Parameters stay in float32 whatever the network computes in, outputs have the gradient's dtype.

    Args:
        channels: Channels C of the feature map.

    Raises:
        InputError: ``channels`` is below 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 1:
            raise InputError(f"a projection has {channels} channels; a feature map has at least 1")
        self.channels = channels

    def forward(self, gradient: Tensor) -> Tensor:
        """The projected gradient.

        Args:
            gradient: (B, C, ...) in any memory format.

        Returns:
            The same shape, dtype and memory format.

        Raises:
            InputError: The gradient has other channels.
        """
        if gradient.dim() < 2 or gradient.shape[1] != self.channels:
            raise InputError(
                f"a projection of {self.channels} channels got a gradient of shape {tuple(gradient.shape)}; make one "
                "projection per feature map, with its number of channels in the second dimension"
            )
        dtype = gradient.dtype
        for parameter in self.parameters():
            dtype = torch.promote_types(dtype, parameter.dtype)
        with torch.autocast(gradient.device.type, enabled=False):
            if gradient.dim() > 2 and gradient.movedim(1, -1).is_contiguous():  # channels last: pixels are rows
                rows = gradient.movedim(1, -1)
                projected = self.project(rows.reshape(1, -1, self.channels).mT.to(dtype))
                return projected.mT.reshape(rows.shape).movedim(-1, 1).to(gradient.dtype)
            columns = gradient.reshape(gradient.shape[0], self.channels, -1).to(dtype)
            return self.project(columns).reshape(gradient.shape).to(gradient.dtype)

    def project(self, gradient: Tensor) -> Tensor:
        """φ·g for columns g.

        Args:
            gradient: (B, C, L), float32 at least; a transposed view where the network is in channels-last format.

        Returns:
            (B, C, L).
        """
        raise NotImplementedError(f"{type(self).__name__} must define project(gradient) or forward(gradient)")

    def extra_repr(self) -> str:
        """Channels, for ``print``."""
        return f"channels={self.channels}"


class LowRank(Projection):
    """φ = diag(λ) + U·Uᵀ with U of C x r (section 3.5): C + r·C parameters.

    λ starts at 1 and U small and random: next to the identity, but not at U = 0, where the gradient in U vanishes.

    Args:
        channels: Channels C.
        rank: Rank r of U·Uᵀ, 1 to C.
        scale: Expected norm of a column of U at the start.
        product: ``dense`` forms the C x C matrix first, ``low_rank`` applies Uᵀ, then U; ``auto`` is the faster of the
            two at this C and r (see ``benchmarks/meta_gradient.py --projection``).

    Raises:
        InputError: Rank below 1 or above C, or a scale that is not positive.
    """

    def __init__(
        self,
        channels: int,
        rank: int = 5,
        scale: float = 0.1,
        product: Literal["auto", "dense", "low_rank"] = "auto",
    ) -> None:
        super().__init__(channels)
        if not 1 <= rank <= channels:
            raise InputError(f"rank {rank} for {channels} channels; a rank is 1 to {channels}; lower the rank")
        if not 0 < scale < math.inf:
            raise InputError(f"scale {scale} of U; U = 0 is a stationary point; give a positive number")
        self.rank = rank
        self.dense = product == "dense" or (product == "auto" and (channels <= 128 or 2 * rank >= channels))
        self.diagonal = nn.Parameter(torch.ones(channels))
        self.factor = nn.Parameter(torch.randn(channels, rank) * (scale / math.sqrt(channels)))

    def project(self, gradient: Tensor) -> Tensor:
        """φ·g, (B, C, L) to (B, C, L)."""
        if self.dense:
            return _product(torch.diag(self.diagonal) + self.factor @ self.factor.mT, gradient)
        return _product(self.factor, _product(self.factor.mT, gradient)) + self.diagonal[:, None] * gradient

    @torch.no_grad()
    def spectrum(self) -> Tensor:
        """Eigenvalues of U·Uᵀ that may differ from 0, (r,), largest first."""
        singular: Tensor = torch.linalg.svdvals(self.factor)
        return singular.square()

    def extra_repr(self) -> str:
        """Channels, rank and product, for ``print``."""
        return f"{super().extra_repr()}, rank={self.rank}, product={'dense' if self.dense else 'low_rank'}"


class Full(Projection):
    """φ = any C x C matrix; starts as the identity.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.matrix = nn.Parameter(torch.eye(channels))

    def project(self, gradient: Tensor) -> Tensor:
        """φ·g, (B, C, L) to (B, C, L)."""
        return _product(self.matrix, gradient)


class Diagonal(Projection):
    """φ = diag(λ); starts as the identity.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.diagonal = nn.Parameter(torch.ones(channels))

    def project(self, gradient: Tensor) -> Tensor:
        """φ·g, (B, C, L) to (B, C, L)."""
        return self.diagonal[:, None] * gradient


class Scalar(Projection):
    """φ = one learnt weight: the task weight of Lin et al. 2019, "Adaptive auxiliary task weighting"; starts at 1.

    Args:
        channels: Channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(()))

    def project(self, gradient: Tensor) -> Tensor:
        """φ·g, (B, C, L) to (B, C, L)."""
        return self.weight * gradient


class Identity(Projection):
    """φ = 1, without parameters: plain multi-task learning.

    Args:
        channels: Channels C.
    """

    def project(self, gradient: Tensor) -> Tensor:
        """The gradient itself."""
        return gradient


class Normalized(nn.Module):
    """φ·g scaled to the length of g: φ turns a gradient and neither stretches nor shrinks it.

    Lengths are those of the whole map of a micro-batch on a process. Where φ·g vanishes, the result is φ·g itself.

    Args:
        projection: φ.
    """

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, gradient: Tensor) -> Tensor:
        """φ·g·‖g‖/‖φ·g‖, which autograd differentiates in φ.

        Args:
            gradient: (B, C, ...).

        Returns:
            The same shape, dtype and memory format.
        """
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        projected = self.projection(wide)
        length = torch.linalg.vector_norm(projected)
        ratio = torch.linalg.vector_norm(wide) / torch.where(length > 0, length, 1.0)
        scaled: Tensor = (projected * torch.where(length > 0, ratio, 1.0)).to(gradient.dtype)
        return scaled


def project(features: Tensor, projection: nn.Module) -> Tensor:
    """The features themselves, whose gradient passes through φ on its way back (section 3.4).

    Put between the backbone and an auxiliary head, the head learns as ever and the backbone receives φ·g.

    Args:
        features: One feature map (B, C, ...).
        projection: φ, which gets no gradient here.

    Returns:
        A view of the features.
    """
    projected: Tensor = _Project.apply(features, projection)
    return projected


class _Project(torch.autograd.Function):
    """Identity forward, also of tangents; φ backward."""

    @staticmethod
    def forward(features: Tensor, projection: nn.Module) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, nn.Module], output: Tensor
    ) -> None:
        ctx.projection = inputs[1]  # type: ignore[attr-defined]  # torch's way to hand things to backward

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.projection(gradients[0]), None  # type: ignore[attr-defined]  # set by forward

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, *tangents: Tensor) -> Tensor:
        return tangents[0].view_as(tangents[0])


def _product(matrix: Tensor, columns: Tensor) -> Tensor:
    """(O, C) times (B, C, L) to (B, O, L), in the columns' dtype and memory layout and without copying them."""
    matrix = matrix.to(columns.dtype)
    if columns.stride(1) == 1:  # channels last: pixels are rows
        return (columns.mT @ matrix.mT).mT
    return torch.bmm(matrix.expand(columns.shape[0], *matrix.shape), columns)
