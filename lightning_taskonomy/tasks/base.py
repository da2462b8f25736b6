"""A task is what is read from an image: its input, its target, its kind. Everything else follows from the kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from lightning_taskonomy.errors import InputError

__all__ = ["IGNORE_INDEX", "VIEWS", "Family", "Task", "TaskKind"]

IGNORE_INDEX = 255
"""The class id of a missing label, per pixel or per sample. A missing regression label is NaN."""

VIEWS = {
    "image_tiles": 9,
    "pair_fixated": 2,
    "pair_nonfixated": 2,
    "pair_matching": 2,
    "triplet": 3,
}
"""Inputs of several views per sample, shape (B, V, 3, H, W), and their V. Every other input is (B, 3, H, W)."""


class TaskKind(StrEnum):
    """What kind of output a task has; ``modules.objectives`` maps it to head, loss, metrics and score."""

    DENSE = "dense"
    """Values per pixel: target (B, C, H, W) float, NaN where missing."""
    NORMALS = "normals"
    """Unit vectors per pixel: target (B, 3, H, W) float, NaN where missing."""
    SEGMENTATION = "segmentation"
    """A class per pixel: target (B, H, W) int64, 255 where missing."""
    GROUPING = "grouping"
    """An unsupervised partition: target (B, H, W) int64 segment ids without meaning across images, 255 where missing;
    the prediction is an embedding (B, C, H, W) in which pixels of one segment lie together."""
    CLASSIFICATION = "classification"
    """A class per sample: target (B,) int64, 255 where missing."""
    VECTOR = "vector"
    """Values per sample: target (B, C) float, NaN where missing."""


class Family(StrEnum):
    """The four families of the Taskonomy paper (Fig. 13)."""

    TWO_D = "2D"
    THREE_D = "3D"
    LOW_DIMENSIONAL = "low-dimensional"
    SEMANTIC = "semantic"


@dataclass(frozen=True)
class Task:
    """One visual task.

    Args:
        name: Its name in logs, files and module dictionaries; letters, digits and underscores.
        kind: What kind of output it has; gives head, loss, metrics and score.
        target: The batch key of its label.
        channels: Values or classes of its output (the embedding's size for a grouping).
        input: The batch key of its input; ``image`` unless the task alters the picture or needs several views.
        family: The family it is drawn in.
        source_only: Never a target in studies (colorization, in-painting, jigsaw and random projection in the paper).
        units: Units of target and prediction.
        shift: Added to the head's output times ``scale``: about the mean of the target, in its units.
        scale: About the spread of the target, in its units; the loss of a regression is taken in multiples of it.
        stride: Image pixels per pixel of a dense target, along each axis.
        weight: Its weight in the summed loss of several tasks.
        class_names: Names of the classes, in order.
        head: Dotted path of another head than the kind's; called as ``head(in_channels, reductions, task)``.
        loss: Dotted path of another loss; called as ``loss(preds, target)``, a mean over what is valid.
        metric: Dotted path of another torchmetrics class; built as ``metric()``, or with the number of classes.
        score: Dotted path of another score; called as ``score(preds, target)``, returns (B,), lower is better,
            NaN where unlabelled.

    Raises:
        InputError: The name is no identifier, or channels, stride or scale are not positive.
    """

    name: str
    kind: TaskKind
    target: str
    channels: int = 1
    input: str = "image"
    family: Family = Family.THREE_D
    source_only: bool = False
    units: str = ""
    shift: float = 0.0
    scale: float = 1.0
    stride: int = 1
    weight: float = 1.0
    class_names: Sequence[str] | None = None
    head: str | None = None
    loss: str | None = None
    metric: str | None = None
    score: str | None = None

    def __post_init__(self) -> None:
        """Checks what can be checked without data."""
        if not self.name.isidentifier():
            raise InputError(f"task name {self.name!r}: use letters, digits and underscores")
        object.__setattr__(self, "kind", TaskKind(self.kind))
        object.__setattr__(self, "family", Family(self.family))
        for field in ("channels", "stride", "scale"):
            if not getattr(self, field) > 0:
                raise InputError(f"task {self.name!r}: {field} is {getattr(self, field)!r}, must be positive")
        if self.kind is TaskKind.NORMALS and self.channels != 3:
            raise InputError(f"task {self.name!r}: normals have 3 channels, not {self.channels}")
        if self.class_names is not None:
            object.__setattr__(self, "class_names", tuple(self.class_names))
            if len(self.class_names) != self.channels:
                raise InputError(
                    f"task {self.name!r}: {len(self.class_names)} class names for {self.channels} channels"
                )

    @property
    def views(self) -> int:
        """Views per sample of its input: 1 for an image, 2 for a pair, 3 for a triplet, 9 for jigsaw tiles."""
        return VIEWS.get(self.input, 1)

    @property
    def is_dense(self) -> bool:
        """Whether the output has a value per pixel."""
        return self.kind in (TaskKind.DENSE, TaskKind.NORMALS, TaskKind.SEGMENTATION, TaskKind.GROUPING)

    @property
    def is_classes(self) -> bool:
        """Whether the target holds class or segment ids, missing where ``IGNORE_INDEX``."""
        return self.kind in (TaskKind.SEGMENTATION, TaskKind.GROUPING, TaskKind.CLASSIFICATION)

    def but(self, **changes: Any) -> "Task":
        """A copy with some fields changed."""
        return replace(self, **changes)
