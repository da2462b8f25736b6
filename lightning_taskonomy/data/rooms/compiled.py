"""How loops are compiled: without fast-math and threads, so that a picture is the same bits every time.

The machine code that Numba keeps beside the sources is renewed when a function's own file changes, not when one
that it calls does: whoever edits ``rays`` or ``textures`` also removes ``__pycache__/*.nb?`` of this folder.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compiles a function at its first call; the machine code is kept on disk for later processes."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))
