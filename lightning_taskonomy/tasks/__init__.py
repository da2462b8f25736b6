"""What a task is, and every task the library knows. Standard library only."""

from lightning_taskonomy.tasks.base import VIEWS, Family, Task, TaskKind, imported, keys_of, stored_keys_of, targets_of
from lightning_taskonomy.tasks.catalog import catalog, find, resolve
from lightning_taskonomy.tasks.labels import CONVENTION, IGNORE_INDEX, Extent, Label, LabelKind, map_size, presence

__all__ = [
    "CONVENTION",
    "IGNORE_INDEX",
    "VIEWS",
    "Extent",
    "Family",
    "Label",
    "LabelKind",
    "Task",
    "TaskKind",
    "catalog",
    "find",
    "imported",
    "keys_of",
    "map_size",
    "presence",
    "resolve",
    "stored_keys_of",
    "targets_of",
]
