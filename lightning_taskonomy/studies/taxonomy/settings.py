"""What decides which networks a Taskonomy study trains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypedDict

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.studies.specs import BackboneSpec, DataSpec, HeadSpec, OptimizerSpec, SchedulerSpec
from lightning_taskonomy.tasks import TaskKind, resolve

__all__ = ["TaxonomySettings", "Variant"]


@dataclass(frozen=True)
class TaxonomySettings:
    """What decides which networks a Taskonomy study trains.

    Args:
        tasks: Names of the catalog or dotted paths; source-only ones are never targets.
        data: The data module's class and arguments.
        backbone: The encoder's class and arguments, the same for all tasks.
        heads: Head factories by task or kind.
        transfer_heads: Those behind a readout; those of ``heads`` where not given.
        transfer_width: Channels of the readout's two convolutions.
        optimizer: The optimizer's class and arguments.
        scheduler: The schedule's class and arguments.
        scheduler_interval: Whether schedules count epochs or steps.
        transfer_scheduler: The schedule of transfers, annealed earlier; the networks' where not given.
        trainer: Further arguments of every Trainer (precision, accelerator, ...).
        epochs: Of task-specific networks.
        transfer_epochs: Of transfers.
        scratch_epochs: Of networks from scratch on the transfers' data; as many as transfers where not given.
        scratch_scheduler: Their schedule; that of transfers where not given.
        scratch_validation: The share of the transfers' images that they are not trained on but validated on, to keep
            the weights of their best epoch; 0 trains on all images and keeps the last.
        transfer_size: Images of the validation buildings that transfers train on; all where not given.
        test_images: Test images used; all where not given.
        max_order: The highest order of transfers.
        beam: The sources combined up to this order, 5 in the paper.
        seed: Of everything.

    Raises:
        InputError: A setting is out of range, or no target is left.
    """

    tasks: list[str]
    data: DataSpec
    backbone: BackboneSpec
    heads: dict[str, HeadSpec] | None = None
    transfer_heads: dict[str, HeadSpec] | None = None
    transfer_width: int = 32
    optimizer: OptimizerSpec | None = None
    scheduler: SchedulerSpec | None = None
    scheduler_interval: Literal["epoch", "step"] = "epoch"
    transfer_scheduler: SchedulerSpec | None = None
    trainer: dict[str, Any] | None = None
    epochs: int = 20
    transfer_epochs: int = 10
    scratch_epochs: int | None = None
    scratch_scheduler: SchedulerSpec | None = None
    scratch_validation: float = 0.0
    transfer_size: int | None = None
    test_images: int | None = None
    max_order: int = 1
    beam: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        tasks = resolve(self.tasks)
        for name, value in {"max_order": self.max_order, "beam": self.beam}.items():
            if value < 1:
                raise InputError(f"{name} is {value}, must be at least 1")
        if len(tasks) < 2 or all(task.source_only for task in tasks.values()):
            raise InputError(f"a study needs two tasks, one of them a target; given: {', '.join(tasks)}")
        for name, task in tasks.items():
            if task.kind is TaskKind.SET:
                raise InputError(
                    f"task {name!r} predicts sets of objects, for which there is no average guess; leave it out"
                )
        if not 0 <= self.scratch_validation < 1:
            raise InputError(
                f"scratch_validation is {self.scratch_validation}, must be a share of at least 0 and below 1"
            )

    def but(self, changes: Mapping[str, Any]) -> Self:
        """A copy with some settings changed.

        Raises:
            InputError: There is no such setting.
        """
        names = TaxonomySettings.__dataclass_fields__
        for name in changes:
            if name not in names:
                raise InputError(f"a variant changes {name!r}, which is not a setting{hint(name, names)}")
        return replace(self, **changes)


class Variant(TypedDict, total=False):
    """Settings of a Taskonomy study that a variant changes; the meaning of each is in ``TaxonomySettings``."""

    tasks: list[str]
    data: DataSpec
    backbone: BackboneSpec
    heads: dict[str, HeadSpec] | None
    transfer_heads: dict[str, HeadSpec] | None
    transfer_width: int
    optimizer: OptimizerSpec | None
    scheduler: SchedulerSpec | None
    scheduler_interval: str
    transfer_scheduler: SchedulerSpec | None
    scratch_scheduler: SchedulerSpec | None
    scratch_validation: float
    trainer: dict[str, Any] | None
    epochs: int
    transfer_epochs: int
    scratch_epochs: int | None
    transfer_size: int | None
    test_images: int | None
    max_order: int
    beam: int
    seed: int
