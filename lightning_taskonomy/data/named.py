"""Data sets by their names: ``coco`` is ``COCODataModule``."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping

from lightning_taskonomy import data
from lightning_taskonomy.data import formats
from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.errors import InputError, hint

__all__ = ["data_sets", "named"]

_SHARED = ("objects", "pixels", "tiles")
"""Modules of ``formats`` that hold what several data sets share."""


def data_sets() -> Mapping[str, type[TaskDataModule]]:
    """All data sets of this library that lie in a folder, by name: ``coco``, ``coco_keypoints``, ``voc``, ..."""
    for info in pkgutil.iter_modules(formats.__path__):
        importlib.import_module(f"{formats.__name__}.{info.name}")
    classes = {}
    for kind in _below(TaskDataModule):
        module = kind.__module__
        root = inspect.signature(kind).parameters.get("root")
        is_ours = module.startswith(f"{data.__name__}.") and module.rpartition(".")[2] not in _SHARED
        if is_ours and root is not None and root.default is inspect.Parameter.empty:
            classes[_name(kind)] = kind
    return dict(sorted(classes.items()))


def _name(kind: type[TaskDataModule]) -> str:
    """Its module's, or of another one there its class's in words."""
    module, words = kind.__module__.rpartition(".")[2], kind.__name__.removesuffix("DataModule")
    if _letters(words) == _letters(module):
        return module
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words).lower()


def _below(kind: type[TaskDataModule]) -> Iterator[type[TaskDataModule]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


def named(name: str) -> type[TaskDataModule]:
    """The data module of a data set.

    Args:
        name: Its name; capitals, blanks, hyphens and underscores do not count.

    Raises:
        InputError: There is none; names the nearest.
    """
    sets = data_sets()
    by_letters = {_letters(known): kind for known, kind in sets.items()}
    if _letters(name) not in by_letters:
        raise InputError(f"no data set {name!r}{hint(name, sets)}")
    return by_letters[_letters(name)]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
