"""Every task, one module per data set. A task is found by name here; a new file or a new line is enough to add one."""

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.tasks.base import Task

__all__ = ["catalog", "find", "resolve"]

_DEFAULT = "rooms"


@cache
def catalog() -> Mapping[str, Task]:
    """All tasks by name: ``normals`` of the default dictionary of 26, ``camvid.semantic_segmentation`` of others.

    What a module lists as ``FURTHER`` is not of the dictionary: ``rooms.segmentation``.
    """
    tasks = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        further = getattr(module, "FURTHER", ())
        for value in vars(module).values():
            if isinstance(value, Task):
                plain = info.name == _DEFAULT and value not in further
                tasks[value.name if plain else f"{info.name}.{value.name}"] = value
    return tasks


def find(name: str) -> Task:
    """The task of that name, or the ``Task`` at that dotted path.

    Args:
        name: ``normals``, ``camvid.semantic_segmentation`` or ``my_project.tasks.WALLS``.

    Raises:
        InputError: There is none; names the nearest.
    """
    tasks = catalog()
    if name in tasks:
        return tasks[name]
    module, _, attribute = name.rpartition(".")
    if module:
        try:
            value = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            value = None
        if isinstance(value, Task):
            return value
    raise InputError(f"no task {name!r}{hint(name, tasks)}")


def resolve(tasks: Iterable[str | Task]) -> dict[str, Task]:
    """Names and tasks to tasks by name, in order.

    Raises:
        InputError: A name is unknown or stands twice, or there is none at all.
    """
    by_name: dict[str, Task] = {}
    for entry in tasks:
        task = find(entry) if isinstance(entry, str) else entry
        if task.name in by_name:
            raise InputError(f"task {task.name!r} is listed twice; name each once")
        by_name[task.name] = task
    if not by_name:
        raise InputError("no task given; name at least one, such as 'normals'")
    return by_name
