"""ScanNet (Dai et al., CVPR 2017): frames of indoor scans with the 40 classes of NYU or the benchmark's 20."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Numbers
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, listed, pictures
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.scannet import IDS_20, SEMANTIC_20, SEMANTIC_SEGMENTATION

__all__ = ["ScanNetDataModule"]

_ALLOWED = "labels of scannet_frames_25k are NYU's numbers 0 to 40"


class ScanNetDataModule(PixelDataModule):
    """Frames of indoor scans, ``semantic`` (40 classes) and ``semantic_20``, by lists of scenes (19,466 and 5,436).

    ``root`` holds ``scannet_frames_25k/SCENE/color/*.jpg`` and ``label/*.png`` and the official lists
    ``scannetv2_train.txt`` and ``scannetv2_val.txt``.
    """

    title = "ScanNet"
    layout = "scannet_frames_25k/SCENE/color/*.jpg and label/*.png, scannetv2_train.txt and scannetv2_val.txt"
    codes = (
        (SEMANTIC_SEGMENTATION, Numbers({0: IGNORE_INDEX, **{n: n for n in range(1, 41)}}, _ALLOWED)),
        (SEMANTIC_20, Numbers(
            {**dict.fromkeys(range(41), IGNORE_INDEX), **{number: n for n, number in enumerate(IDS_20)}}, _ALLOWED
        )),
    )  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those of the scenes that a list names and that are there."""
        scenes = listed(self.root / f"scannetv2_{part}.txt", f"root must hold {self.layout}")
        frames = first_of(self.root / "scannet_frames_25k", self.root)
        return [image for scene in scenes for image in pictures(frames / scene / "color")]

    def label(self, key: str, image: Path) -> Path:
        """The map of the same frame."""
        return image.parents[1] / "label" / f"{image.stem}.png"
