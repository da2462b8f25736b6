"""Which visual tasks help which, and what to train under a budget.

The names below load when they are first used: importing the package imports neither torch nor lightning.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_taskonomy.affinity import TransfersTable as TransfersTable
    from lightning_taskonomy.affinity.groupings import GroupingsTable as GroupingsTable
    from lightning_taskonomy.batch import Batch as Batch
    from lightning_taskonomy.callbacks import CosineWeighting as CosineWeighting
    from lightning_taskonomy.callbacks import GradientAggregation as GradientAggregation
    from lightning_taskonomy.callbacks import GradNormWeighting as GradNormWeighting
    from lightning_taskonomy.callbacks import KendallWeighting as KendallWeighting
    from lightning_taskonomy.callbacks import MetaWeighting as MetaWeighting
    from lightning_taskonomy.callbacks import MGDAUpperBound as MGDAUpperBound
    from lightning_taskonomy.callbacks import TaskAffinity as TaskAffinity
    from lightning_taskonomy.callbacks import TaskMetaTransfer as TaskMetaTransfer
    from lightning_taskonomy.data.base import TaskDataModule as TaskDataModule
    from lightning_taskonomy.data.camvid import CamVidDataModule as CamVidDataModule
    from lightning_taskonomy.data.cityscapes import CityscapesDataModule as CityscapesDataModule
    from lightning_taskonomy.data.folder import FolderDataModule as FolderDataModule
    from lightning_taskonomy.data.nyuv2 import NYUv2DataModule as NYUv2DataModule
    from lightning_taskonomy.data.parallel import ParallelLabels as ParallelLabels
    from lightning_taskonomy.data.rooms import RoomsDataModule as RoomsDataModule
    from lightning_taskonomy.data.rooms import RoomsDataset as RoomsDataset
    from lightning_taskonomy.data.taskonomy import TaskonomyDataModule as TaskonomyDataModule
    from lightning_taskonomy.data.turns import InTurns as InTurns
    from lightning_taskonomy.errors import InputError as InputError
    from lightning_taskonomy.models.backbones import Backbone as Backbone
    from lightning_taskonomy.models.backbones import HRNetV2 as HRNetV2
    from lightning_taskonomy.models.backbones import SplitRes as SplitRes
    from lightning_taskonomy.models.backbones import SplitVGG as SplitVGG
    from lightning_taskonomy.models.backbones import TaskonomyResNet as TaskonomyResNet
    from lightning_taskonomy.models.backbones import TimmBackbone as TimmBackbone
    from lightning_taskonomy.models.backbones import Xception as Xception
    from lightning_taskonomy.models.heads import Head as Head
    from lightning_taskonomy.modules import GroupedModule as GroupedModule
    from lightning_taskonomy.modules import MultiTaskModule as MultiTaskModule
    from lightning_taskonomy.modules import SoftSharingModule as SoftSharingModule
    from lightning_taskonomy.modules import TransferModule as TransferModule
    from lightning_taskonomy.solvers import GroupingSolver as GroupingSolver
    from lightning_taskonomy.solvers import TaxonomySolver as TaxonomySolver
    from lightning_taskonomy.studies.base import Study as Study
    from lightning_taskonomy.studies.executors import LocalExecutor as LocalExecutor
    from lightning_taskonomy.studies.executors import RayExecutor as RayExecutor
    from lightning_taskonomy.studies.executors import SlurmExecutor as SlurmExecutor
    from lightning_taskonomy.studies.graph import Job as Job
    from lightning_taskonomy.studies.graph import Stage as Stage
    from lightning_taskonomy.studies.influence import InfluenceStudy as InfluenceStudy
    from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy as MetaTransferStudy
    from lightning_taskonomy.studies.runs import RunSpec as RunSpec
    from lightning_taskonomy.studies.taxonomy import TaxonomyStudy as TaxonomyStudy
    from lightning_taskonomy.tasks import Label as Label
    from lightning_taskonomy.tasks import LabelKind as LabelKind
    from lightning_taskonomy.tasks import Task as Task
    from lightning_taskonomy.tasks import TaskKind as TaskKind

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "models.backbones",
    "Batch": "batch",
    "CamVidDataModule": "data.camvid",
    "CityscapesDataModule": "data.cityscapes",
    "CosineWeighting": "callbacks",
    "FolderDataModule": "data.folder",
    "GradNormWeighting": "callbacks",
    "GradientAggregation": "callbacks",
    "GroupedModule": "modules",
    "GroupingSolver": "solvers",
    "GroupingsTable": "affinity.groupings",
    "HRNetV2": "models.backbones",
    "Head": "models.heads",
    "InTurns": "data.turns",
    "InputError": "errors",
    "Job": "studies.graph",
    "KendallWeighting": "callbacks",
    "Label": "tasks",
    "LabelKind": "tasks",
    "LocalExecutor": "studies.executors",
    "MGDAUpperBound": "callbacks",
    "InfluenceStudy": "studies.influence",
    "MetaTransferStudy": "studies.meta_transfer",
    "MetaWeighting": "callbacks",
    "MultiTaskModule": "modules",
    "NYUv2DataModule": "data.nyuv2",
    "ParallelLabels": "data.parallel",
    "RayExecutor": "studies.executors",
    "RoomsDataModule": "data.rooms",
    "RoomsDataset": "data.rooms",
    "RunSpec": "studies.runs",
    "SlurmExecutor": "studies.executors",
    "SoftSharingModule": "modules",
    "SplitRes": "models.backbones",
    "SplitVGG": "models.backbones",
    "Stage": "studies.graph",
    "Study": "studies.base",
    "Task": "tasks",
    "TaskAffinity": "callbacks",
    "TaskDataModule": "data.base",
    "TaskKind": "tasks",
    "TaskMetaTransfer": "callbacks",
    "TaskonomyDataModule": "data.taskonomy",
    "TaskonomyResNet": "models.backbones",
    "TaxonomySolver": "solvers",
    "TaxonomyStudy": "studies.taxonomy",
    "TimmBackbone": "models.backbones",
    "TransferModule": "modules",
    "TransfersTable": "affinity",
    "Xception": "models.backbones",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Imports a public name's module when the name is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *_HOMES})
