"""Pascal VOC 2012 (Everingham et al., IJCV 2015): photos with 20 classes of objects and the background."""

from pathlib import Path
from typing import Any

from lightning_taskonomy.data.formats.codes import Numbers, numbered
from lightning_taskonomy.data.formats.pixels import PixelDataModule, listed
from lightning_taskonomy.tasks.catalog.voc2012 import SEMANTIC_SEGMENTATION

__all__ = ["VOC2012DataModule"]


class VOC2012DataModule(PixelDataModule):
    """Photos with 21 classes, borders of objects missing, by the lists in ``ImageSets/Segmentation``.

    Args:
        root: ``VOCdevkit/VOC2012``.
        size: Height and width to resize to; None keeps the files'.
        background: Whether the background counts as a class; if not, it is missing.
        training_list: The list that is trained on: ``train`` (1,464 images), or ``trainaug`` (10,582, which the paper
            uses by its count) with the masks of SBD in ``SegmentationClassAug``.
        **options: Those of ``TaskDataModule``.
    """

    title = "Pascal VOC 2012"
    layout = "ImageSets/Segmentation/*.txt, JPEGImages and SegmentationClass (VOCdevkit/VOC2012)"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        numbered(21, missing=(255,)), "masks of VOC have 0 to 20, and 255 for borders"
    )),)  # fmt: skip

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        training_list: str = "train",
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, **options)
        self.training_list = training_list

    def images(self, part: str) -> list[Path]:
        """Those that a list names."""
        name = self.training_list if part == "train" else part
        listing = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
        names = listed(listing, f"root must hold {self.layout}")
        return [self.root / "JPEGImages" / f"{name}.jpg" for name in names]

    def label(self, key: str, image: Path) -> Path:
        """The mask of the same name, that of SBD where the official download has none."""
        mask = self.root / "SegmentationClass" / f"{image.stem}.png"
        if self.training_list != "trainaug" or mask.exists():
            return mask
        return self.root / "SegmentationClassAug" / mask.name
