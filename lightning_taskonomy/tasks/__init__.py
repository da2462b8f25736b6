"""What a task is, and every task the library knows. Standard library only."""

from lightning_taskonomy.tasks.base import IGNORE_INDEX, VIEWS, Family, Task, TaskKind
from lightning_taskonomy.tasks.catalog import catalog, find, resolve

__all__ = ["IGNORE_INDEX", "VIEWS", "Family", "Task", "TaskKind", "catalog", "find", "resolve"]
