"""iSAID (Waqas Zamir et al., CVPR Workshops 2019): aerial pictures with 15 classes and the background."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Colours
from lightning_taskonomy.data.formats.pixels import first_of, pictures
from lightning_taskonomy.data.formats.tiles import TileDataModule
from lightning_taskonomy.tasks.catalog.isaid import COLOURS, SEMANTIC_SEGMENTATION

__all__ = ["ISAIDDataModule"]

_END = "_instance_color_RGB.png"


class ISAIDDataModule(TileDataModule):
    """Tiles of aerial pictures with 16 classes, in ``train`` (1,411 pictures) and ``val`` (458).

    Labels lie beside their pictures, as the devkit wants them, or in ``Semantic_masks/images``, as downloaded.
    """

    title = "iSAID"
    layout = f"train/images/*.png and beside them, or in train/Semantic_masks/images, *{_END}, val likewise"
    codes = ((SEMANTIC_SEGMENTATION, Colours({colour: number for number, colour in enumerate(COLOURS.values())})),)

    def images(self, part: str) -> list[Path]:
        """Those of a part."""
        return [file for file in pictures(self.root / part / "images") if not file.stem.endswith("_RGB")]

    def label(self, key: str, image: Path) -> Path:
        """The colours of classes of the same picture."""
        name = image.stem + _END
        return first_of(image.parent / name, image.parents[1] / "Semantic_masks" / "images" / name)
