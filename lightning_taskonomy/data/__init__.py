"""Images with labels, some missing: data sets, joint transforms, the data module they share."""

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.camvid import CamVidDataModule
from lightning_taskonomy.data.cityscapes import CityscapesDataModule
from lightning_taskonomy.data.folder import FolderDataModule
from lightning_taskonomy.data.images import ImageFiles
from lightning_taskonomy.data.multi_source import MultiSourceData
from lightning_taskonomy.data.nyuv2 import NYUv2DataModule
from lightning_taskonomy.data.parallel import ParallelLabels
from lightning_taskonomy.data.representations import RepresentationDataModule
from lightning_taskonomy.data.rooms import RoomsDataModule, RoomsDataset
from lightning_taskonomy.data.taskonomy import TaskonomyDataModule
from lightning_taskonomy.data.turns import InTurns

__all__ = [
    "CamVidDataModule",
    "CityscapesDataModule",
    "FolderDataModule",
    "ImageFiles",
    "InTurns",
    "MultiSourceData",
    "NYUv2DataModule",
    "ParallelLabels",
    "RepresentationDataModule",
    "RoomsDataModule",
    "RoomsDataset",
    "TaskDataModule",
    "TaskonomyDataModule",
]

from lightning_taskonomy.data import formats as formats  # below the names that its modules read
