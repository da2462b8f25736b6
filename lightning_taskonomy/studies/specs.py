"""Types of what a study is given: descriptions (``class_path``, ``init_args``) of objects that its runs build.

A study builds each of them many times, in other processes, and names runs by the hash of their description; so its
constructor takes descriptions. A type checker sees plain dictionaries; the parser of a recipe sees the class that is
described, and checks every key of it.
"""

from typing import TYPE_CHECKING, Any, TypedDict

from lightning_taskonomy.configurations import Spec

__all__ = ["BackboneSpec", "DataSpec", "HeadSpec", "OptimizerSpec", "SchedulerSpec", "Spec", "Variant"]

if TYPE_CHECKING:
    BackboneSpec = Spec
    DataSpec = Spec
    HeadSpec = Spec
    OptimizerSpec = Spec
    SchedulerSpec = Spec
else:
    from lightning.pytorch.cli import LRSchedulerCallable as SchedulerSpec
    from lightning.pytorch.cli import OptimizerCallable as OptimizerSpec

    from lightning_taskonomy.data import TaskDataModule as DataSpec
    from lightning_taskonomy.models.backbones import Backbone as BackboneSpec
    from lightning_taskonomy.modules.objectives import HeadFactory as HeadSpec


class Variant(TypedDict, total=False):
    """Settings of a Taskonomy study that a variant changes; the meaning of each is in ``TaxonomyStudy``."""

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
    trainer: dict[str, Any]
    epochs: int
    transfer_epochs: int
    scratch_epochs: int | None
    transfer_size: int | None
    test_images: int | None
    max_order: int
    beam: int
    seed: int
