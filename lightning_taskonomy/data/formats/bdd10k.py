"""The segmentation of BDD (Yu et al., CVPR 2020): driving images with 19 classes."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Numbers
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, pictures
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.bdd10k import SEMANTIC_SEGMENTATION

__all__ = ["BDD10KDataModule"]


class BDD10KDataModule(PixelDataModule):
    """Driving images with Cityscapes' 19 classes, 255 missing, in ``train`` (7,000) and ``val`` (1,000).

    ``root`` is ``bdd100k`` with ``images/10k`` and ``labels/sem_seg/masks``, or with ``seg/images`` and ``seg/labels``
    of the first download, whose files end in ``_train_id.png``.
    """

    title = "BDD"
    layout = "images/10k/train/*.jpg and labels/sem_seg/masks/train/*.png (or seg/images and seg/labels), val likewise"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        {**{number: number + 1 for number in range(19)}, 255: IGNORE_INDEX},
        "masks have train ids 0 to 18, and 255 for none",
    )),)  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those of a part."""
        return pictures(first_of(self.root / "images" / "10k", self.root / "seg" / "images") / part)

    def label(self, key: str, image: Path) -> Path:
        """The mask of the same name."""
        part = image.parent.name
        return first_of(
            self.root / "labels" / "sem_seg" / "masks" / part / f"{image.stem}.png",
            self.root / "seg" / "labels" / part / f"{image.stem}_train_id.png",
        )
