"""SUIM (Islam et al., IROS 2020): underwater images with 8 classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.formats.codes import Colours, picture_size
from lightning_taskonomy.data.formats.pixels import PixelDataModule, halves, pictures
from lightning_taskonomy.tasks.catalog.suim import COLOURS, SEMANTIC_SEGMENTATION

__all__ = ["SUIMDataModule"]

_CUT = ((375, 590), (435, 910))
"""Height and width of the 37 training images whose masks go on beyond their right or lower edge."""


class _Masks(Colours):
    def load(self, file: Path) -> NDArray[np.int32]:
        """The mask; of one that is too large the part that its image has."""
        colours = super().load(file)
        image = file.parents[1] / "images" / f"{file.stem}.jpg"
        if image.exists() and (size := picture_size(image)) in _CUT:
            return colours[: size[0], : size[1]]
        return colours


class SUIMDataModule(PixelDataModule):
    """Underwater images with 8 classes, one of them the water, in ``train_val`` (1525) and ``TEST`` (110)."""

    title = "SUIM"
    layout = "train_val and TEST, each with images/*.jpg and masks/*.bmp"
    codes = ((SEMANTIC_SEGMENTATION, _Masks({colour: n for n, colour in enumerate(COLOURS.values())}, bits=True)),)
    splits = halves("train_val", "TEST")

    def images(self, part: str) -> list[Path]:
        """Those of a part."""
        return pictures(self.root / part / "images")

    def label(self, key: str, image: Path) -> Path:
        """The bitmap of the same name."""
        return image.parents[1] / "masks" / f"{image.stem}.bmp"
