"""What decides which networks a study of transfer chains trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from lightning_taskonomy.affinity.chains import FIRST_LINK, Setting
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.influence.measures import measure
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec, HeadSpec, OptimizerSpec
from lightning_taskonomy.tasks import Task, find, stored_keys_of

__all__ = ["SCRATCH", "SELF_SUPERVISED", "ChainTask", "ImageSet", "InfluenceSettings", "Training"]

SCRATCH = "scratch"
"""The start of a target that is trained from random weights."""

SELF_SUPERVISED = "self_supervised"
"""The type of what learns from images alone: a source or the first link, never a target (appendix B)."""


@dataclass(frozen=True)
class Training:
    """How networks of one task type are trained (appendix A; of three learning rates the best is kept, section 5.1).

    Args:
        steps: Optimizer steps of a source, and of a target with all its images.
        small_steps: Those of a target with a few images.
        rates: Learning rates; each network keeps the one that is best on its validation images.
        optimizer: Optimizer without a learning rate; AdamW where not given.
        decay: ``step`` divides the rate by ten at each milestone; ``poly`` takes it to zero, times
            (1 - step / steps) ** 0.9.
        milestones: Shares of the steps, for ``step``.
        batch_size: Images per batch; the data module's where not given.
        metric: The metric that counts, as a fit logs it; the first of the task's where not given.

    Raises:
        InputError: A number is out of range.
    """

    steps: int
    small_steps: int
    rates: list[float]
    optimizer: OptimizerSpec | None = None
    decay: Literal["step", "poly"] = "step"
    milestones: list[float] = field(default_factory=lambda: [0.7, 0.9])
    batch_size: int | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "small_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"training: {name} is {getattr(self, name)}, must be at least 1")
        if not self.rates or not all(rate > 0 for rate in self.rates) or len(set(self.rates)) < len(self.rates):
            raise InputError(f"training: rates are {self.rates}; give different learning rates above 0, such as three")
        if not all(0 < share < 1 for share in self.milestones):
            raise InputError(f"training: milestones are {self.milestones}; give shares of the steps, as in [0.7, 0.9]")


@dataclass(frozen=True)
class ImageSet:
    """A data set with labels of one or several task types.

    Args:
        data: The data module's class and arguments.
        tasks: Its tasks by type: names of the catalog or dotted paths. A type is any word, such as ``segmentation``;
            transfers within and across types are told apart by it. The type ``self_supervised`` stands for a module
            that learns from images alone, such as ``SimCLRModule``; it is no target.
        domain: The image domain that it is counted to, such as ``driving`` (section 3.2).
        small: Images of its small training set; the study's where not given.
        training: How its networks are trained, by type, in place of the study's.
        images: Whose images these are, where two sets share them; a target is marked where a source has seen them.
    """

    data: DataSpec
    tasks: dict[str, str]
    domain: str
    small: int | None = None
    training: dict[str, Training] | None = None
    images: str | None = None

    def __post_init__(self) -> None:
        described: Any = self.training or {}  # a recipe gives plain data
        object.__setattr__(self, "training", {kind: _built(Training, one) for kind, one in described.items()})


@dataclass(frozen=True)
class ChainTask:
    """A task of the paper: a task type on a data set.

    Args:
        set_name: The data set's name.
        type: The task type.
        reference: The task as a recipe names it; the module's class where it is self-supervised.
        images: The data set.
        training: How its networks are trained.
    """

    set_name: str
    type: str
    reference: str
    images: ImageSet
    training: Training

    @property
    def name(self) -> str:
        """``set/type``."""
        return f"{self.set_name}/{self.type}"

    @property
    def pool(self) -> str:
        """Whose images it has."""
        return self.images.images or self.set_name

    @property
    def is_self_supervised(self) -> bool:
        """Whether it learns from images alone."""
        return self.type == SELF_SUPERVISED

    @cached_property
    def task(self) -> Task:
        """The task, unless it is self-supervised."""
        return find(self.reference)

    @property
    def stored_keys(self) -> list[str]:
        """What the data set stores of what it reads."""
        return ["image"] if self.is_self_supervised else stored_keys_of([self.task])

    @cached_property
    def metric(self) -> tuple[str, bool]:
        """The metric that counts, and whether higher is better; the loss where it is self-supervised."""
        return ("loss", False) if self.is_self_supervised else measure(self.task, self.training.metric)

    def logged(self, split: Literal["val", "test"]) -> str:
        """The metric that counts, as a fit logs it."""
        return f"{split}/loss" if self.is_self_supervised else f"{split}/{self.task.name}/{self.metric[0]}"


@dataclass(frozen=True)
class InfluenceSettings:
    """What decides which networks a study of transfer chains trains.

    Args:
        sets: Data sets by name.
        backbone: The backbone of all networks; its own pretrained weights are the first link where ``first`` is not
            given.
        training: How networks are trained, by task type.
        first: The first link of all chains, trained here: a data set of one task; what stands in for ILSVRC'12.
        heads: Head factories by task or kind.
        targets: Those of the tasks, ``set/type``, that are targets; all where not given.
        sources: Those that are sources; all where not given.
        settings: ``small``, ``full`` and ``small_source``, any of them.
        small: Images of a small target training set (section 5.2: 150, and 1,000 of COCO and ADE20K).
        source_limit: Images of a source in the setting ``small_source`` (section 5.4: 1,500).
        multi_source: Models of several sources of one type: ``{name: [set/type, ...]}`` (section 5.1).
        scratch: Whether targets are trained from scratch too (section 6, A1).
        validation_share: Images that are not trained on but decide the learning rate, per image of a training set that
            includes them. Those of a small training set come on top of it: 150 and 17.
        normalise: Whether the images of each data set have zero mean and unit deviation in each colour channel (section
            4.1), by what is measured once on its training images; a data set whose ``data`` have a ``normalise`` keeps
            it. The backbone then needs the option ``normalises``, as ``HRNetV2`` and ``TimmBackbone`` have it.
        trainer: Further arguments of every Trainer.
        seed: Of weights, batches, and the choice of images.

    Raises:
        InputError: A name is unknown, or a setting out of range.
    """

    sets: dict[str, ImageSet]
    backbone: BackboneSpec
    training: dict[str, Training]
    first: ImageSet | None = None
    heads: dict[str, HeadSpec] | None = None
    targets: list[str] | None = None
    sources: list[str] | None = None
    settings: list[Setting] = field(default_factory=lambda: ["small"])
    small: int = 150
    source_limit: int = 1500
    multi_source: dict[str, list[str]] | None = None
    scratch: bool = True
    validation_share: float = 0.1
    normalise: bool = True
    trainer: dict[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        plain: Any = (self.sets, self.training, self.first)  # a recipe gives plain data
        object.__setattr__(self, "sets", {name: _built(ImageSet, one) for name, one in plain[0].items()})
        object.__setattr__(self, "training", {name: _built(Training, one) for name, one in plain[1].items()})
        object.__setattr__(self, "first", _built(ImageSet, plain[2]))
        names = list(self.tasks)
        for option in ("targets", "sources"):
            for name in getattr(self, option) or ():
                if name not in names:
                    raise InputError(f"{option} names {name!r}, which is not a task here{hint(name, names)}")
        for name in self.targets or ():
            if self.tasks[name].is_self_supervised:
                raise InputError(f"targets names {name!r}, which learns from images alone; it can be a source only")
        for model, parts in (self.multi_source or {}).items():
            for name in parts:
                if name not in names:
                    raise InputError(f"multi_source {model!r} names {name!r}, not a task here{hint(name, names)}")
            if len({self.tasks[name].type for name in parts}) > 1 or len(set(parts)) < max(2, len(parts)):
                raise InputError(f"multi_source {model!r} is {parts}; give two or more different tasks of one type")
            if any(self.tasks[name].is_self_supervised for name in parts):
                raise InputError(f"multi_source {model!r} is self-supervised; its parts need tasks with labels")
            if model in names or model in (FIRST_LINK, SCRATCH):
                raise InputError(f"multi_source {model!r} has the name of another source; name it otherwise")
        for option in ("small", "source_limit"):
            if getattr(self, option) < 1:
                raise InputError(f"{option} is {getattr(self, option)}, must be at least 1 image")
        if not 0 < self.validation_share < 1:
            raise InputError(f"validation_share is {self.validation_share}, must be a share above 0 and below 1")
        if not self.settings or len(set(self.settings)) < len(self.settings):
            raise InputError(f"settings are {self.settings}; give one or several of small, full and small_source")
        if self.first is not None and len(self.first.tasks) != 1:
            raise InputError(f"first has {len(self.first.tasks)} tasks; the first link is trained on one")
        if not any(not task.is_self_supervised for task in self.tasks.values()):
            raise InputError("a study of chains needs a target; its tasks are all self-supervised")
        if len(names) < 2:
            raise InputError(f"a study of chains needs two tasks; these sets have {', '.join(names) or 'none'}")
        for task in [*self.tasks.values(), *([] if self.first_task is None else [self.first_task])]:
            _ = task.metric

    @cached_property
    def tasks(self) -> Mapping[str, ChainTask]:
        """All tasks by name, ``set/type``."""
        listed = [task for name, images in self.sets.items() for task in self._tasks_of(name, images)]
        return {task.name: task for task in listed}

    @cached_property
    def used(self) -> Mapping[str, ChainTask]:
        """The tasks that are a target, a source or one of several sources: the data of no others are needed."""
        if self.targets is None or self.sources is None:
            return self.tasks
        parts = [part for parts in (self.multi_source or {}).values() for part in parts]
        names = {*self.targets, *self.sources, *parts}
        return {name: task for name, task in self.tasks.items() if name in names}

    @property
    def used_sets(self) -> Mapping[str, ImageSet]:
        """The data sets of the tasks that are used."""
        return {task.set_name: task.images for task in self.used.values()}

    @cached_property
    def first_task(self) -> ChainTask | None:
        """The task of the first link; None where the backbone's own weights are it."""
        return None if self.first is None else next(iter(self._tasks_of(FIRST_LINK, self.first)))

    def _tasks_of(self, name: str, images: ImageSet) -> list[ChainTask]:
        tasks = []
        for kind, reference in images.tasks.items():
            training = (images.training or {}).get(kind) or self.training.get(kind)
            if training is None:
                raise InputError(
                    f"training says nothing of {kind!r}, a task type of {name!r}{hint(kind, self.training)}; add it"
                )
            tasks.append(ChainTask(name, kind, reference, images, training))
        return tasks

    def but(self, **changes: Any) -> "InfluenceSettings":
        """A copy with some settings changed."""
        return replace(self, **changes)


def _built(kind: type[Any], described: Any) -> Any:
    """What a recipe describes by plain data."""
    return kind(**described) if isinstance(described, Mapping) else described
