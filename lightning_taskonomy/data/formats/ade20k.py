"""ADE20K's scene parsing (Zhou et al., CVPR 2017): photos of scenes with 150 classes."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Numbers, numbered
from lightning_taskonomy.data.formats.pixels import PixelDataModule, halves, pictures
from lightning_taskonomy.tasks.catalog.ade20k import SEMANTIC_SEGMENTATION

__all__ = ["ADE20KDataModule"]


class ADE20KDataModule(PixelDataModule):
    """Scenes with 150 classes, 0 in the files missing; ``root`` is ``ADEChallengeData2016`` (20,210 and 2,000)."""

    title = "ADE20K"
    layout = "images/training, images/validation and the same two in annotations (ADEChallengeData2016)"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        numbered(150, first=1, missing=(0,)), "annotations of the scene parsing benchmark have 0 to 150"
    )),)  # fmt: skip
    splits = halves("training", "validation")

    def images(self, part: str) -> list[Path]:
        """Those of a part."""
        return pictures(self.root / "images" / part)

    def label(self, key: str, image: Path) -> Path:
        """The map of the same name."""
        return self.root / "annotations" / image.parent.name / f"{image.stem}.png"
