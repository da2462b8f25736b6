"""What the tasks of data sets with a class or a depth per pixel have in common."""

from collections.abc import Iterable

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

__all__ = ["BACKGROUND", "depth", "segmentation"]

BACKGROUND = "background"
"""Class 0 of most tables here, as in those that the authors of "Factors of Influence" published.

Where files mark it, it is a class, or missing if a data module is told so. Where they mark nothing but what has no
class, no pixel has it: it is there to count classes as the paper's Table 1 does."""


def segmentation(class_names: Iterable[str], *, name: str = "semantic_segmentation", target: str = "semantic") -> Task:
    """A class per pixel, missing where -100.

    Args:
        class_names: In order, from class 0.
        name: The task's name in its module of the catalog.
        target: The batch key of its labels, (H, W) int64.
    """
    names = tuple(class_names)
    return Task(name, TaskKind.SEGMENTATION, target, len(names), family=Family.SEMANTIC, class_names=names)


def depth(shift: float, scale: float) -> Task:
    """Metres along the camera's axis for each pixel, ``depth_z`` (1, H, W), missing where NaN.

    The loss is that of "Factors of Influence" (A.5).

    Args:
        shift: About the mean, in metres.
        scale: About the spread, in metres.
    """
    loss = "lightning_taskonomy.losses.l1_and_gradients"
    return Task("depth_z", TaskKind.DENSE, "depth_z", units="m", shift=shift, scale=scale, loss=loss)
