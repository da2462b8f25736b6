"""ISPRS' aerial pictures of Potsdam and Vaihingen (Rottensteiner et al., 2014) with 6 classes."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_taskonomy.data.formats.codes import Colours
from lightning_taskonomy.data.formats.pixels import first_of, halves, pictures
from lightning_taskonomy.data.formats.tiles import TileDataModule
from lightning_taskonomy.tasks.catalog.isprs import COLOURS, SEMANTIC_SEGMENTATION

__all__ = ["ISPRSDataModule"]


class ISPRSDataModule(TileDataModule):
    """Tiles of Potsdam (38 pictures), which are trained on, and of Vaihingen (33), which are evaluated.

    ``root`` holds ``potsdam`` and ``vaihingen``, each with ``top`` (pictures) and ``gt`` (labels), or with the folders
    of the downloads: ``2_Ortho_RGB`` and ``5_Labels_all``, ``top`` and
    ``ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE``.

    Args:
        root: That folder.
        size: Height and width to resize tiles to; None keeps theirs.
        background: Whether clutter counts as a class; if not, it is missing.
        side: Pixels along each side of a tile.
        overlap: Pixels that neighbouring tiles share at least.
        cache: A folder for decoded pictures; None decodes a file again whenever another one came between.
        shared_channels: Potsdam has red, green and blue, Vaihingen infrared, red and green. If true, both become red,
            green and their mean, as by the paper's authors; if not, channels are as stored.
        **options: Those of ``TaskDataModule``.
    """

    title = "ISPRS"
    layout = (
        "potsdam/top/top_potsdam_2_10_RGB.tif and so on with potsdam/gt/top_potsdam_2_10_label.tif, and "
        "vaihingen/top/top_mosaic_09cm_area1.tif and so on with the same names in vaihingen/gt"
    )
    codes = ((SEMANTIC_SEGMENTATION, Colours(
        {colour: number for number, colour in enumerate(COLOURS.values())}, bits=True
    )),)  # fmt: skip
    splits = halves("potsdam", "vaihingen")

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        side: int = 800,
        overlap: int = 200,
        cache: str | None = None,
        shared_channels: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, side, overlap, cache, **options)
        self.shared_channels = shared_channels

    def images(self, part: str) -> list[Path]:
        """Those of a town that have a label."""
        town = self.root / part
        files = pictures(first_of(town / "top", town / "2_Ortho_RGB"))
        return [file for file in files if self.label("semantic", file).exists()]

    def label(self, key: str, image: Path) -> Path:
        """The colours of classes of the same picture."""
        town = image.parents[1]
        folder = first_of(
            town / "gt", town / "5_Labels_all", town / "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE"
        )
        return folder / f"{image.stem.removesuffix('_RGB')}{'_label' if town.name == 'potsdam' else ''}.tif"

    def picture(self, pixels: NDArray[np.uint8], file: Path) -> Tensor:
        """An image (3, H, W) in [0, 1] of a tile's colours."""
        image = super().picture(pixels, file)
        if self.shared_channels:
            first = 0 if file.parents[1].name == "potsdam" else 1
            image[:2] = image[first : first + 2].clone()
            image[2] = image[:2].mean(0)
        return image
