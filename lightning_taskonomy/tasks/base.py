"""A task is what is read from an image: its input, its target, its kind. Everything else follows from the kind."""

import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.labels import Label, LabelKind

__all__ = ["VIEWS", "Family", "Task", "TaskKind", "imported", "keys_of", "stored_keys_of", "targets_of"]

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
    """A class per pixel: target (B, H, W) int64, -100 where missing."""
    GROUPING = "grouping"
    """An unsupervised partition: target (B, H, W) int64 segment ids without meaning across images, -100 where missing;
    the prediction is an embedding (B, C, H, W) in which pixels of one segment lie together."""
    CLASSIFICATION = "classification"
    """A class per sample: target (B,) int64, -100 where missing."""
    VECTOR = "vector"
    """Values per sample: target (B, C) float, NaN where missing."""
    SET = "set"
    """Objects, of which an image has any number: targets padded to the batch's largest number, and which images are
    labelled. Head, loss, metric, score and ``decode`` are the task's own, by dotted path."""


_LABELS = {
    TaskKind.DENSE: LabelKind.VALUES,
    TaskKind.NORMALS: LabelKind.NORMALS,
    TaskKind.SEGMENTATION: LabelKind.CLASSES,
    TaskKind.GROUPING: LabelKind.CLASSES,
    TaskKind.CLASSIFICATION: LabelKind.CLASS,
    TaskKind.VECTOR: LabelKind.VECTOR,
}
"""What the target of each kind holds, where a task does not say."""


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
        labels: What its targets hold, where its kind does not say it: of a vector, what a mirror does to it; of a set,
            every label that it reads, the one at ``target`` among them.
        head: Dotted path of another head than the kind's; called as ``head(in_channels, reductions, task)``.
        loss: Dotted path of another loss; called as ``loss(preds, target)``, a mean over what is valid, or element
            errors and their mask; or sums of several terms and by how much each is divided, both (B, terms) float.
            Where the task has several targets, ``target`` is a mapping by key. Loss, normaliser and score that have a
            parameter ``task`` get the task, too.
        normaliser: Dotted path of what the sum of the errors is divided by instead of the number of valid ones; called
            as ``normaliser(target)``, a scalar such as the number of objects.
        metric: Dotted path of another torchmetrics class; built as ``metric()``, or with the number of classes.
        score: Dotted path of another score; called as ``score(preds, target)``, returns (B,), lower is better,
            NaN where unlabelled.
        decode: Dotted path of what turns raw output into what a person wants; called as ``decode(preds, task)``.

    Raises:
        InputError: The name is not an identifier, or channels, stride or scale are not positive.
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
    labels: Sequence[Label] = ()
    head: str | None = None
    loss: str | None = None
    normaliser: str | None = None
    metric: str | None = None
    score: str | None = None
    decode: str | None = None

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
        self._check_labels()
        if self.class_names is not None:
            object.__setattr__(self, "class_names", tuple(self.class_names))
            if len(self.class_names) != self.channels:
                raise InputError(
                    f"task {self.name!r}: {len(self.class_names)} class names for {self.channels} channels"
                )

    def _check_labels(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.target not in self.targets:
            raise InputError(f"task {self.name!r}: labels says nothing of its target {self.target!r}; add it there")
        if any(label.is_set for label in self.targets.values()) is not (self.kind is TaskKind.SET):
            raise InputError(f"task {self.name!r}: kind is '{self.kind}'; sets of objects, and they alone, need 'set'")
        absent = [role for role in ("head", "loss", "score", "decode") if getattr(self, role) is None]
        if self.kind is TaskKind.SET and absent:
            raise InputError(f"task {self.name!r}: a set has no {absent[0]} by default; give one by its dotted path")

    @property
    def stored_targets(self) -> list[str]:
        """The keys of its labels as data sets store them: in place of one that is made, those it is made from."""
        return list(dict.fromkeys(key for label in self.targets.values() for key in label.made_from or (label.key,)))

    @property
    def targets(self) -> Mapping[str, Label]:
        """What it is trained and scored on, by batch key: ``labels``, or what its kind says of ``target``."""
        if self.labels or self.kind not in _LABELS:
            return {label.key: label for label in self.labels}
        stride = self.stride if self.is_dense else 1
        return {self.target: Label(self.target, _LABELS[self.kind], self.channels, stride)}

    @property
    def label(self) -> Label:
        """What its target holds."""
        return self.targets[self.target]

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


def keys_of(tasks: Iterable[Task]) -> list[str]:
    """The batch keys that tasks read and are scored on, sorted."""
    return sorted({key for task in tasks for key in (task.input, *task.targets)})


def stored_keys_of(tasks: Iterable[Task]) -> list[str]:
    """What a data set stores of :func:`keys_of`, sorted."""
    return sorted({key for task in tasks for key in (task.input, *task.stored_targets)})


def targets_of(tasks: Iterable[Task]) -> dict[str, Label]:
    """What inputs and targets of tasks hold, by batch key; of two tasks that share a target the later one says."""
    tasks = list(tasks)
    inputs = {task.input: Label(task.input, LabelKind.VALUES, 3) for task in tasks}
    return inputs | {key: label for task in tasks for key, label in task.targets.items()}


def imported(path: str, role: str) -> Any:
    """What stands at a dotted path.

    Args:
        path: ``package.module.name``.
        role: What it is to be, for the message.

    Raises:
        InputError: Nothing can be imported there.
    """
    module, _, name = path.rpartition(".")
    try:
        return pkgutil.resolve_name(f"{module}:{name}")
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{role} {path!r} cannot be imported ({error})") from error
