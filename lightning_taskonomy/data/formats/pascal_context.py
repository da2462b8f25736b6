"""Pascal Context (Mottaghi et al., CVPR 2014): photos of VOC 2010 with 59 classes and the background."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.data.formats.annotations import read_mat
from lightning_taskonomy.data.formats.codes import Numbers, numbered
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, listed
from lightning_taskonomy.data.stored import FileProblem
from lightning_taskonomy.tasks.catalog.pascal_context import OF_459, SEMANTIC_SEGMENTATION

__all__ = ["PascalContextDataModule"]

_OF_459 = {**dict.fromkeys(range(461), 0), **{number: n for n, number in enumerate(OF_459.values(), 1)}}
"""By number in a ``.mat`` file, 1 to 459 or none, the class."""


class _Maps(Numbers):
    def load(self, file: Path) -> NDArray[np.int64]:
        """The map of a picture as it is, that of a ``.mat`` file in classes of 60."""
        if file.suffix != ".mat":
            return super().load(file).astype(np.int64)
        stored = np.asarray(read_mat(file, "LabelMap", simplify=False))
        if stored.dtype.kind not in "uif" or stored.ndim != 2 or not stored.size:
            raise FileProblem(file, f"damaged (LabelMap is {stored.dtype} of shape {stored.shape}, no map)")
        if not (stored.min() >= 0 and stored.max() <= max(_OF_459)):
            raise FileProblem(file, f"damaged (LabelMap has {stored.min()} to {stored.max()}, not 0 to {max(_OF_459)})")
        classes = np.array([_OF_459[number] for number in range(len(_OF_459))], dtype=np.int64)
        return np.asarray(classes[stored.astype(np.int64)])


class PascalContextDataModule(PixelDataModule):
    """Photos with 60 classes, by lists of 4,998 and 5,105 names.

    ``root`` is ``VOCdevkit/VOC2010`` with ``JPEGImages``, the lists ``train.txt`` and ``val.txt`` of the data set's
    page, there or in ``ImageSets/SegmentationContext``, and labels: the official ``trainval/*.mat`` with 459 classes,
    of which all but 59 are background, or the usual masks with numbers 0 to 59 in ``SegmentationClassContext``.
    """

    title = "Pascal Context"
    layout = (
        "JPEGImages, train.txt and val.txt (or ImageSets/SegmentationContext/*.txt), and trainval/*.mat or "
        "SegmentationClassContext/*.png"
    )
    codes = ((SEMANTIC_SEGMENTATION, _Maps(
        numbered(60, missing=(255,)), "masks of 59 classes and background have 0 to 59, and 255 for none"
    )),)  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those that a list names."""
        listing = first_of(self.root / f"{part}.txt", self.root / "ImageSets" / "SegmentationContext" / f"{part}.txt")
        names = listed(listing, f"root must hold {self.layout}")
        return [self.root / "JPEGImages" / f"{name}.jpg" for name in names]

    def label(self, key: str, image: Path) -> Path:
        """The mask or map of the same name."""
        return first_of(
            self.root / "SegmentationClassContext" / f"{image.stem}.png", self.root / "trainval" / f"{image.stem}.mat"
        )
