"""What decides which networks a grouping study trains, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.grouping.baselines import check_baseline
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec, HeadSpec, OptimizerSpec, SchedulerSpec
from lightning_taskonomy.tasks import resolve

__all__ = ["Candidates", "GroupingSettings"]

Candidates = Literal["all", "pairs", "early", "search"]


@dataclass(frozen=True)
class GroupingSettings:
    """What decides which networks a grouping study trains, and how.

    Standley et al. (ICML 2020), sections 3.1 and 4.2. Where optimizer and schedule are not given they are the paper's:
    SGD from a rate of 0.2, halved when the training loss stalls.

    Args:
        tasks: Names of the catalog or dotted paths.
        data: The data module's class and arguments.
        backbone: The full-size encoder's class and arguments; smaller ones are shrunk by its ``width``.
        shrunk: Encoders of other sizes by their size, where the family has them: ``{0.5: {class_path: ...}}``.
        heads: Head factories by task or kind.
        optimizer: The optimizer's class and arguments.
        scheduler: The schedule's class and arguments; an epoch is what lies between two validations.
        trainer: Further arguments of every Trainer (precision, accelerator, ...).
        candidates: ``all`` groups of tasks; ``pairs`` and single tasks, by which larger groups are predicted (Higher
            Order Approximation); all, but ``early``: for one part of the data (Early Stopping Approximation); what a
            ``search`` asks for next; or groups of your own. By pairs, early and in a search the networks that are
            kept are then trained to the end.
        single_size: The size of the single-task networks that are candidates too; 1 is the full-size encoder.
        small_sizes: Sizes of further single-task networks, which are baselines and never chosen.
        baselines: What the choice is compared with, each trained on all tasks in one network: ``mtl``, ``mgda_ub``,
            ``gradnorm``, ``soft_sharing``, and the aggregators ``pcgrad``, ``cagrad``, ``mgda``,
            ``nash_mtl``, ``imtl_g``, ``aligned_mtl``; or the dotted path of a callback of your own.
        baseline_sizes: Sizes of those networks, in all; of ``soft_sharing`` each task's network has its share.
        affinity_steps: Measure in the network of all tasks, each so many steps, what a step on one task does for the
            others (``TaskAffinity``), an approximation from one training; not measured where not given.
        parts: An epoch is one of so many parts of a pass over the training images; the networks are validated after
            each.
        passes: Passes over the training images at most.
        patience: Training stops after so many validations without a lower loss.
        side_by_side: Networks that one process trains from one stream of batches.
        seed: Of weights, batches and augmentation.

    Raises:
        InputError: A setting is out of range, or a group names what is not a task here, or names one twice.
    """

    tasks: list[str]
    data: DataSpec
    backbone: BackboneSpec
    shrunk: dict[float, BackboneSpec] | None = None
    heads: dict[str, HeadSpec] | None = None
    optimizer: OptimizerSpec | None = None
    scheduler: SchedulerSpec | None = None
    trainer: dict[str, Any] | None = None
    candidates: Candidates | list[list[str]] = "all"
    single_size: float = 0.5
    small_sizes: list[float] | None = None
    baselines: list[str] | None = None
    baseline_sizes: list[float] | None = None
    affinity_steps: int | None = None
    parts: int = 5
    passes: int = 8
    patience: int = 5
    side_by_side: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        names = list(resolve(self.tasks))
        if len(names) < 2:
            raise InputError(f"a study of groups needs two tasks at least; given: {', '.join(names)}")
        for name in ("parts", "passes", "patience", "side_by_side", "affinity_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name, sizes in (("single_size", [self.single_size]), ("small_sizes", self.small_sizes or [])):
            for size in sizes:
                if not 0 < size <= 1:
                    raise InputError(f"{name}: {size:g} is not a share of the full-size encoder, above 0 and at most 1")
        for size in self.baseline_sizes or []:
            if size <= 0:
                raise InputError(f"baseline_sizes: {size:g} must be above 0; 1 is the full-size encoder")
        for baseline in self.baselines or []:
            check_baseline(baseline)
        if not isinstance(self.candidates, str):
            _check_groups(self.candidates, names)
            if not self.candidates:
                raise InputError("candidates is an empty list; name a group, or 'all', 'pairs', 'early' or 'search'")

    @property
    def groups(self) -> list[tuple[str, ...]] | None:
        """The groups of one's own, each in the order of the tasks; None where there are none."""
        if isinstance(self.candidates, str):
            return None
        names = list(resolve(self.tasks))
        return list(dict.fromkeys(tuple(sorted(group, key=names.index)) for group in self.candidates))


def _check_groups(groups: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    for group in groups:
        for task in group:
            if task not in names:
                raise InputError(f"a group names {task!r}, which is not a task of this study{hint(task, names)}")
        if not group or len(set(group)) < len(group):
            raise InputError(f"group {list(group)}: name at least one task, each once")
