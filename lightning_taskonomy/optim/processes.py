"""What processes that train together agree upon by their hosts, without waiting for a device."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import distributed

__all__ = ["any_process"]


def any_process(flags: Sequence[bool]) -> list[bool]:
    """Each flag, true where it is on any process; all processes must ask at the same place.

    Args:
        flags: As many on each process.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.uint8)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX, _hosts(distributed.group.WORLD))
    return [bool(flag) for flag in shared.numpy()]


@lru_cache(maxsize=1)
def _hosts(world: Any) -> Any:
    """The processes' hosts, which talk by gloo whatever the devices talk by."""
    return world if distributed.get_backend(world) == "gloo" else distributed.new_group(backend="gloo")
