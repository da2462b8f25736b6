"""Images of a size that a network refuses: is the size why, and which size is taken."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["dry_pass", "taken_size", "takes"]

_MULTIPLES = (2, 4, 8, 14, 16, 28, 32, 64, 128, 224)


@contextmanager
def _measuring(network: nn.Module) -> Iterator[None]:
    """Without gradients, dropout and new batch statistics; afterwards each part trains as before."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def dry_pass(network: nn.Module, channels: int, size: tuple[int, int]) -> None:
    """Passes one black image through a network, which stays as it is; hooks on the network itself do not see it.

    Args:
        network: The network, on any device.
        channels: Channels of the image.
        size: Its height and width.

    Raises:
        Exception: Whatever the network raises.
    """
    with _measuring(network):
        device = next((tensor.device for tensor in network.parameters()), None)
        network.forward(torch.zeros(1, channels, *size, device=device))


def takes(network: nn.Module, channels: int, size: tuple[int, int]) -> bool:
    """Whether a network takes images of this size."""
    try:
        dry_pass(network, channels, size)
    except Exception:  # whatever a network raises: it does not take the size
        return False
    return True


def taken_size(network: nn.Module, channels: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """A size near this one that a network takes: larger by as little as it allows, else the one it was made for."""
    larger = {(-(-size[0] // step) * step, -(-size[1] // step) * step) for step in _MULTIPLES} - {size}
    made_for = (getattr(getattr(network, "model", None), "pretrained_cfg", None) or {}).get("input_size")
    sizes = sorted(larger, key=lambda sides: sides[0] * sides[1]) + ([tuple(made_for[1:])] if made_for else [])
    return next((sides for sides in sizes if takes(network, channels, sides)), None)
