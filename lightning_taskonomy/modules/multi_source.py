"""One backbone that learns from several data sets, each with a head of its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_taskonomy.batch import origin_key
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules.multitask import MultiTaskModule
from lightning_taskonomy.tasks import Task, resolve

__all__ = ["MultiSourceModule"]


class MultiSourceModule(MultiTaskModule):
    """A network of several sources: a task per data set, of which a batch trains the one that its images belong to.

    "Factors of Influence for Transfer Learning", section 5.1. The tasks may have the same name, label and classes; each
    is called by its data set here, in logs and heads. Batches come from
    :class:`~lightning_taskonomy.data.MultiSourceData`.

    Args:
        tasks: The task of each data set: names of the catalog, dotted paths, or tasks.
        backbone: Any backbone.
        **options: Heads by data set or kind, optimizer and schedule, as :class:`MultiTaskModule` has them.

    Raises:
        InputError: There are fewer than two sources, or a name is not an identifier.
    """

    def __init__(self, tasks: dict[str, str | Task], backbone: Backbone, **options: Any) -> None:
        if len(tasks) < 2:
            raise InputError(f"MultiSourceModule has the sources {sorted(tasks)}; give two or more")
        named = [next(iter(resolve([task]).values())).but(name=name) for name, task in tasks.items()]
        super().__init__([*named], backbone, **options)

    def has_input(self, task: Task, batch: Mapping[str, Tensor]) -> bool:
        """Whether the batch is of the task's data set."""
        return origin_key(task.name) in batch and super().has_input(task, batch)
