"""Tangents that cost less than by torch's own formulas: of batch normalization and of a network's first convolution."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["FusedTangents"]


class FusedTangents(TorchFunctionMode):
    """While it is entered, batch normalization by a batch's statistics has its tangent from its backward kernel.

    For fixed weights its Jacobian in the input, (w/σ)·(1 - mean - x̂·mean(x̂ ⊙ ·)) in each channel, is symmetric: what
    pulls gradients back pushes tangents forward, in one kernel where torch's formula makes a dozen passes. A
    convolution of what has no tangent, such as the image, is not applied to zeros. To be entered without a tape.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the function, or what stands in for it."""
        kwargs = kwargs or {}
        output = None
        if function is functional.batch_norm:
            output = _batch_norm(*args, **kwargs)
        elif function in _CONVOLUTIONS:
            output = _convolution(function, *args, **kwargs)
        return function(*args, **kwargs) if output is None else output


_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


def _convolution(
    function: Callable[..., Tensor],
    input: Tensor,  # names as in torch
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor | None:
    """The same with its tangent; None where there is nothing to gain."""
    kernel, moved = _unpacked(weight)
    shift, shift_moved = _unpacked(bias)
    if moved is None or forward_ad.unpack_dual(input).tangent is not None:
        return None
    output, tangent = (
        function(input, kernel, shift, *args, **kwargs),
        function(input, moved, shift_moved, *args, **kwargs),
    )
    dual: Tensor = forward_ad.make_dual(output, tangent)
    return dual


def _batch_norm(
    input: Tensor,  # names as in torch
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """The same with its tangent; None where there is nothing to gain."""
    features, tangent = forward_ad.unpack_dual(input)
    if not training or tangent is None:
        return None
    scale, scale_tangent = _unpacked(weight)
    shift, shift_tangent = _unpacked(bias)
    output, mean, inverse = torch.native_batch_norm(
        features, scale, shift, running_mean, running_var, True, momentum, eps
    )
    moved: Tensor = torch.ops.aten.native_batch_norm_backward(
        tangent, features, scale, None, None, mean, inverse, True, eps, [True, False, False]
    )[0]
    shape = (-1, *(1 for _ in features.shape[2:]))
    if scale_tangent is not None:  # its share is ẇ·(x - mean)/σ
        slope = scale_tangent * inverse
        moved.addcmul_(features, slope.view(shape).to(moved.dtype))
        offset = -slope * mean
        shift_tangent = offset if shift_tangent is None else shift_tangent + offset
    if shift_tangent is not None:
        moved.add_(shift_tangent.view(shape))
    dual: Tensor = forward_ad.make_dual(output, moved)
    return dual


def _unpacked(dual: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if dual is None:
        return None, None
    unpacked = forward_ad.unpack_dual(dual)
    return unpacked.primal, unpacked.tangent
