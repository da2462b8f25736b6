"""The commands that need no Trainer, as typed functions: their arguments are the options, their docstrings the help.

A module per subject; ``data_check`` in one of them is the command ``data check``. Heavy imports stand inside the
functions, and the types of arguments under ``TYPE_CHECKING``, where the parser of that command finds them: ``solve``
needs no torch.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

__all__ = ["commands"]


def commands() -> dict[str, Callable[..., Any]]:
    """All commands by their words."""
    named: dict[str, Callable[..., Any]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        named |= {name.replace("_", " "): getattr(module, name) for name in module.__all__}
    return named
