"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017): streets all over the world with 65 classes."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Numbers
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, halves, pictures
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.mapillary import CLASSES, SEMANTIC_SEGMENTATION

__all__ = ["MapillaryDataModule"]


class MapillaryDataModule(PixelDataModule):
    """Streets with 65 classes, what is unlabelled missing, in ``training`` (18,000) and ``validation`` (2,000).

    Version 1.2, whose labels are in ``training/labels``, or in ``training/v1.2/labels`` of the download of 2.0.
    """

    title = "Mapillary Vistas"
    layout = "training and validation, each with images/*.jpg and labels/*.png (or v1.2/labels)"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        {**{number: number + 1 for number in range(len(CLASSES))}, len(CLASSES): IGNORE_INDEX},
        f"labels of version 1.2 have 0 to {len(CLASSES)}; use labels of that version",
    )),)  # fmt: skip
    splits = halves("training", "validation")

    def images(self, part: str) -> list[Path]:
        """Those of a part."""
        return pictures(self.root / part / "images")

    def label(self, key: str, image: Path) -> Path:
        """The map of the same name."""
        part = image.parents[1]
        return first_of(part / "labels", part / "v1.2" / "labels") / f"{image.stem}.png"
