"""The appearances of Rooms, a module each: a new file with an ``APPEARANCE`` is a new appearance."""

import importlib
import pkgutil
from functools import cache

from lightning_taskonomy.data.rooms.appearances.base import Appearance
from lightning_taskonomy.errors import InputError, hint

__all__ = ["DEFAULT", "Appearance", "appearance", "names"]

DEFAULT = "indoor"


@cache
def names() -> tuple[str, ...]:
    """All appearances, sorted: the modules here that have one."""
    modules = sorted(info.name for info in pkgutil.iter_modules(__path__))
    return tuple(name for name in modules if hasattr(importlib.import_module(f"{__name__}.{name}"), "APPEARANCE"))


@cache
def appearance(name: str) -> Appearance:
    """The appearance of that name.

    Raises:
        InputError: There is none; names the nearest.
    """
    if name not in names():
        raise InputError(f"rooms has no appearance {name!r}{hint(name, names())}; allowed: {', '.join(names())}")
    look: Appearance = importlib.import_module(f"{__name__}.{name}").APPEARANCE
    return look
