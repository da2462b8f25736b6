"""Channels times a width factor: of one layer, and of all layers of a network that has no such option."""

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError

__all__ = ["FixedWidthError", "check_width", "rescale", "scaled"]

_COUNTS = (
    "num_features",
    "num_channels",
    "channels",
    "normalized_shape",
)  # where layers that are no convolution keep their channels


class FixedWidthError(InputError):
    """A network whose layers do not fit together with other channels."""


def check_width(width: float) -> None:
    """Refuses what is no factor.

    Args:
        width: The factor.

    Raises:
        InputError: It is not a number above 0.
    """
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"width={width} is no factor of channels; give a number above 0 (1: as published)")


def scaled(channels: int, width: float, multiple: int = 1) -> int:
    """Channels of a layer in a network whose channels are multiplied by a factor.

    Args:
        channels: Channels of the layer at width 1.
        width: The factor; 1 leaves them as they are.
        multiple: What the result must be a multiple of, such as a number of groups.

    Returns:
        The nearest multiple of 8 from 64 channels on, of 2 below; of ``multiple`` too.

    Raises:
        InputError: No channels are left, or the width is no factor.
    """
    check_width(width)
    if width == 1:
        return channels
    grid = math.lcm(8 if channels * width >= 64 else 2, multiple)
    result = math.floor(channels * width / grid + 0.5) * grid
    if result < 1:
        raise InputError(
            f"width={width:g} leaves a layer of {channels} channels without any; {grid / 2 / channels:.3g} is the least"
        )
    return result


def rescale(network: nn.Module, width: float, in_channels: int) -> dict[int, int]:
    """Multiplies the channels of all layers of a network, in place; the image's stay.

    Layers of equally many channels stay equal, so that shortcuts and sums fit; whether the network does without what
    else it may count on, such as heads of attention, a pass must show. Weights of another shape are drawn anew: normal,
    at the standard deviation of those that they replace times the square root of the ratio of the inputs; weights that
    were all equal keep their value.

    Args:
        network: Its layers are convolutions, linear layers and normalisations, or hold weights per channel.
        width: The factor.
        in_channels: Channels of the image.

    Returns:
        The new number of channels by the old one.

    Raises:
        InputError: A layer would be without channels.
    """
    multiples: defaultdict[int, int] = defaultdict(lambda: 1)
    for layer in network.modules():
        for count, multiple in _counts(layer):
            multiples[count] = math.lcm(multiples[count], multiple)
    fixed = {1: 1, in_channels: in_channels}
    counts = {n: scaled(n, width, multiple) for n, multiple in multiples.items() if n not in fixed} | fixed
    for layer in network.modules():
        _rescale_layer(layer, counts)
    return counts


def _counts(layer: nn.Module) -> list[tuple[int, int]]:
    """The channel counts of a layer, each with what divides it."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        multiple = 1 if layer.groups == layer.in_channels else _kept(layer)
        return [(layer.in_channels, multiple), (layer.out_channels, multiple)]
    if isinstance(layer, nn.Linear):
        return [(layer.in_features, 1), (layer.out_features, 1)]
    if isinstance(layer, nn.GroupNorm):
        return [(layer.num_channels, layer.num_groups)]
    return [(count, 1) for weights in layer.parameters(recurse=False) for count in weights.shape[-1:]]


def _kept(layer: nn.modules.conv._ConvNd) -> int:
    """What stays of a convolution in groups: their number, or their size where that is the better multiple."""
    size = layer.in_channels // layer.groups
    candidates = [layer.groups, size] if layer.in_channels == layer.out_channels else [layer.groups]
    return min(candidates, key=lambda multiple: math.lcm(8, multiple))


def _rescale_layer(layer: nn.Module, counts: dict[int, int]) -> None:
    if isinstance(layer, nn.modules.conv._ConvNd):
        before, after, kept = layer.in_channels, layer.out_channels, _kept(layer)
        layer.in_channels, layer.out_channels = counts[before], counts[after]
        if layer.groups == before > 1:
            layer.groups, layer.out_channels = counts[before], counts[before] * (after // before)
        elif kept != layer.groups > 1:
            layer.groups = layer.in_channels // kept
        read, made = layer.in_channels, layer.out_channels
        ends = (read, made // layer.groups) if layer.transposed else (made, read // layer.groups)
        shapes = {"weight": (*ends, *layer.kernel_size), "bias": (made,)}
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = counts[layer.in_features], counts[layer.out_features]
        shapes = {"weight": (layer.out_features, layer.in_features), "bias": (layer.out_features,)}
    else:
        for name in _COUNTS:
            if isinstance(count := getattr(layer, name, None), int):
                setattr(layer, name, counts.get(count, count))
            elif isinstance(count, tuple):
                setattr(layer, name, tuple(counts.get(one, one) for one in count))
        tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        shapes = {name: tuple(counts.get(count, count) for count in tensor.shape) for name, tensor in tensors}
    for name, shape in shapes.items():
        tensor: Any = getattr(layer, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            values = _drawn(tensor.detach(), shape)
            trained = isinstance(tensor, nn.Parameter)
            setattr(layer, name, nn.Parameter(values, tensor.requires_grad) if trained else values)


def _drawn(weights: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Weights like these of another shape."""
    if weights.is_meta:
        return weights.new_empty(shape)
    if weights.dim() == 0 or bool((weights == weights.flatten()[0]).all()):
        return weights.new_full(shape, weights.flatten()[0].item())
    gain = math.sqrt(math.prod(weights.shape[1:]) / math.prod(shape[1:]))
    return torch.randn(shape, dtype=weights.dtype, device=weights.device) * (weights.std() * gain)
