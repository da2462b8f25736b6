"""How loops are compiled: without fast-math and threads, so that a picture is the same bits every time."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compiles a function at its first call; the machine code is kept on disk for later processes."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))
