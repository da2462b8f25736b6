"""What a step must learn from the device without waiting for it: flags that are read a step late."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["LateFlags"]

_NEVER = -1


class LateFlags:
    """Named flags that are raised on the device and read on the host once they have arrived there.

    A flag stays raised, with the step that raised it first, so that nothing is lost however late it is read.

    Args:
        names: The flags' names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._first: Tensor | None = None  # on the device: the step that raised each
        self._copy: Tensor | None = None  # on the host
        self._view: Any = None
        self._arrived: torch.cuda.Event | None = None
        self._fresh = True  # the copy is the newest

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or one in another process, begins with no flag raised."""
        return LateFlags, (self.names,)

    @torch.no_grad()
    def add(self, raised: Tensor, step: int) -> None:
        """Takes the flags of one step.

        Args:
            raised: (len(names),) bool.
            step: Its number.
        """
        if self._first is None or self._first.device != raised.device:
            self._first = torch.full_like(raised, _NEVER, dtype=torch.int64)
            self._copy = torch.full(raised.shape, _NEVER, dtype=torch.int64, pin_memory=raised.is_cuda)
            self._view, self._arrived = self._copy.numpy(), None
        self._first = torch.where(raised & (self._first == _NEVER), step, self._first)
        self._fresh = False
        if self._arrived is None or self._arrived.query():
            self._send()

    def _send(self) -> None:
        assert self._first is not None
        assert self._copy is not None
        self._copy.copy_(self._first, non_blocking=self._first.is_cuda)
        self._fresh = True
        if self._first.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def arrived(self) -> Mapping[str, int]:
        """The raised flags that have arrived, each with the first step that raised it; does not wait."""
        if self._view is None or (self._arrived is not None and not self._arrived.query()):
            return {}
        return self._read()

    def all(self) -> Mapping[str, int]:
        """The flags raised, after waiting for the device."""
        if self._view is None:
            return {}
        if not self._fresh:
            self._send()
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._read()

    def _read(self) -> Mapping[str, int]:
        return {name: int(step) for name, step in zip(self.names, self._view, strict=True) if step != _NEVER}
