"""Every data set of "Factors of Influence" has the splits that its recipes name."""

from pathlib import Path

import pytest

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.cityscapes import CityscapesDataModule
from lightning_taskonomy.data.formats.ade20k import ADE20KDataModule
from lightning_taskonomy.data.formats.bdd10k import BDD10KDataModule
from lightning_taskonomy.data.formats.bdd100k import BDD100KDataModule
from lightning_taskonomy.data.formats.camvid32 import CamVid32DataModule
from lightning_taskonomy.data.formats.coco import COCODataModule, COCOKeypointsDataModule
from lightning_taskonomy.data.formats.coco_panoptic import COCOPanopticDataModule
from lightning_taskonomy.data.formats.idd import IDDDataModule
from lightning_taskonomy.data.formats.imagenet import ImageNetDataModule
from lightning_taskonomy.data.formats.isaid import ISAIDDataModule
from lightning_taskonomy.data.formats.isprs import ISPRSDataModule
from lightning_taskonomy.data.formats.kitti import KITTISemanticDataModule
from lightning_taskonomy.data.formats.mapillary import MapillaryDataModule
from lightning_taskonomy.data.formats.mpii import MPIIDataModule
from lightning_taskonomy.data.formats.pascal_context import PascalContextDataModule
from lightning_taskonomy.data.formats.scannet import ScanNetDataModule
from lightning_taskonomy.data.formats.stanford_dogs import StanfordDogsDataModule
from lightning_taskonomy.data.formats.suim import SUIMDataModule
from lightning_taskonomy.data.formats.sunrgbd import SUNRGBDDataModule
from lightning_taskonomy.data.formats.underwater_trash import UnderwaterTrashDataModule
from lightning_taskonomy.data.formats.vgallery import VGalleryDataModule
from lightning_taskonomy.data.formats.vkitti2 import VKITTI2DataModule
from lightning_taskonomy.data.formats.voc import VOCDataModule
from lightning_taskonomy.data.formats.voc2012 import VOC2012DataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks.catalog.domains import COLLECTIONS

MODULES: dict[str, tuple[type[TaskDataModule], ...]] = {
    "pascal_context": (PascalContextDataModule,), "voc": (VOC2012DataModule, VOCDataModule), "mpii": (MPIIDataModule,),
    "ade20k": (ADE20KDataModule,), "coco": (COCOPanopticDataModule, COCODataModule, COCOKeypointsDataModule),
    "kitti": (KITTISemanticDataModule,), "camvid": (CamVid32DataModule,), "cityscapes": (CityscapesDataModule,),
    "idd": (IDDDataModule,), "bdd": (BDD10KDataModule, BDD100KDataModule), "mapillary": (MapillaryDataModule,),
    "isprs": (ISPRSDataModule,), "isaid": (ISAIDDataModule,), "sunrgbd": (SUNRGBDDataModule,),
    "scannet": (ScanNetDataModule,), "suim": (SUIMDataModule,), "uwt": (UnderwaterTrashDataModule,),
    "stanford_dogs": (StanfordDogsDataModule,), "vkitti2": (VKITTI2DataModule,), "vgallery": (VGalleryDataModule,),
    "imagenet": (ImageNetDataModule,),
}  # fmt: skip
SPLITS = ("train", "validation", "test", "official_test")


@pytest.mark.parametrize("name", COLLECTIONS)
def test_splits_that_recipes_name(name: str, tmp_path: Path) -> None:
    """Where no file is, a split that there is fails for the files alone, and one that there is not for its name."""
    for module in MODULES[name]:
        for split in (*SPLITS, *["trainval"] * (module is VOCDataModule)):
            with pytest.raises(InputError) as caught:
                module(root=str(tmp_path)).build(split, ["image"])  # type: ignore[call-arg]
            assert "has no split" not in str(caught.value), (module, split)
        with pytest.raises(InputError, match="has no split 'no_split'"):
            module(root=str(tmp_path)).build("no_split", ["image"])  # type: ignore[call-arg]
