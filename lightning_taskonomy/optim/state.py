"""What a pass through a network leaves behind besides its output, so that a pass can be repeated as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["PassState", "spare_buffers"]


@dataclass(frozen=True)
class PassState:
    """Random generators and buffers as they were before a pass.

    Attributes:
        generators: State of the generator of each device involved, the CPU included.
        buffers: Copies of the network's buffers, running statistics above all.
    """

    generators: dict[torch.device, Tensor]
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The state now.

        Args:
            module: The network that is about to run.
        """
        devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
        buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
        return cls(_generators(devices), buffers)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draws random numbers as in that pass, dropout masks above all; afterwards the stream goes on as before."""
        before = _generators(self.generators)
        _set_generators(self.generators)
        try:
            yield
        finally:
            _set_generators(before)

    def fresh_buffers(self) -> dict[str, Tensor]:
        """Copies of the buffers for a pass whose updates of running statistics are to be lost."""
        return {name: buffer.clone() for name, buffer in self.buffers.items()}


@contextmanager
def spare_buffers(module: nn.Module | None) -> Iterator[None]:
    """The module runs on copies of its buffers: updates of running statistics are lost.

    The originals are not written to, as a tape may hold them.

    Args:
        module: A network, or None.
    """
    inner = [] if module is None else list(module.modules())
    kept = [(owner, name, buffer) for owner in inner for name, buffer in owner.named_buffers(recurse=False)]
    for owner, name, buffer in kept:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)


def _generators(devices: Iterable[torch.device]) -> dict[torch.device, Tensor]:
    states = {torch.device("cpu"): torch.get_rng_state()}
    for device in devices:
        if device.type not in ("cpu", "meta"):
            states[device] = torch.get_device_module(device).get_rng_state(*_index(device))
    return states


def _set_generators(states: dict[torch.device, Tensor]) -> None:
    for device, state in states.items():
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, *_index(device))


def _index(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # one generator for all of mps
