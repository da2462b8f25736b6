"""Types of what a study is given: descriptions (``class_path``, ``init_args``) of objects that its runs build.

A study builds each of them many times, in other processes, and names runs by the hash of their description; so its
constructor takes descriptions. A type checker sees plain dictionaries; the parser of a recipe sees the class that is
described, and checks every key of it.
"""

from typing import TYPE_CHECKING

from lightning_taskonomy.configurations import Spec

__all__ = ["BackboneSpec", "DataSpec", "HeadSpec", "OptimizerSpec", "SchedulerSpec", "Spec"]

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
