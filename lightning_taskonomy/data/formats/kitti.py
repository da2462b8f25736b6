"""KITTI: semantic labels of 200 driving images (Abu Alhaija et al., IJCV 2018), and depth (Uhrig et al., 3DV 2017)."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Depth, Numbers
from lightning_taskonomy.data.formats.pixels import PixelDataModule, below, first_of, pictures
from lightning_taskonomy.data.stored import UnexpectedFiles
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.cityscapes import IDS_32
from lightning_taskonomy.tasks.catalog.kitti import DEPTH_Z, SEMANTIC_SEGMENTATION

__all__ = ["KITTIDepthDataModule", "KITTISemanticDataModule"]

_EVALUATED = (
    1, 3, 7, 8, 20, 22, 24, 25, 26, 30, 37, 43, 49, 50, 52, 57, 60, 61, 63, 68, 71, 72, 76, 79, 86, 96, 101, 115, 121,
    128, 129, 131, 133, 134, 137, 139, 140, 141, 142, 144, 146, 149, 156, 157, 169, 175, 178, 190, 192, 196,
)  # fmt: skip
"""The 50 of the 200 labelled images that MSeg, and with it the paper, evaluates on (``kitti-34/list/val.txt``)."""


def _number(file: Path) -> str:
    return file.stem.partition("_")[0]


class KITTISemanticDataModule(PixelDataModule):
    """200 driving images with Cityscapes' classes, in ``data_semantics/training``: 150 and 50 as in MSeg's lists."""

    title = "KITTI semantics"
    layout = "training/image_2/*.png and training/semantic/*.png (data_semantics)"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        {**dict.fromkeys((0, 3, 255), IGNORE_INDEX), **{id: n for n, id in enumerate(IDS_32.values(), 1)}},
        "semantic labels are Cityscapes' numbers 0 to 33",
    )),)  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those of a list.

        Raises:
            UnexpectedFiles: A picture is not called by a number.
        """
        files = pictures(self.root / "training" / "image_2")
        for file in files:
            if not _number(file).isdecimal():
                raise UnexpectedFiles(
                    f"{file} is no image of {self.title}, which are called 000000_10.png to 000199_10.png; move it away"
                )
        return [file for file in files if (int(_number(file)) in _EVALUATED) == (part == "val")]

    def label(self, key: str, image: Path) -> Path:
        """The map of the same name."""
        return image.parents[1] / "semantic" / image.name


class KITTIDepthDataModule(PixelDataModule):
    """Driving images and the distances that lidar measured at about a fifth of the pixels, 256 steps per metre.

    ``root`` holds ``train`` and ``val`` of ``data_depth_annotated`` and, by date, the drives of the raw data. Only
    frames with a depth count, and of the left colour camera.
    """

    title = "KITTI depth"
    layout = (
        "train/DRIVE/proj_depth/groundtruth/image_02/*.png, val likewise, and the raw drives "
        "DATE/DRIVE/image_02/data/*.png"
    )
    codes = ((DEPTH_Z, Depth(1 / 256)),)

    def images(self, part: str) -> list[Path]:
        """Those of the raw drives for which there is a depth."""
        depths = below(self.root / part, "proj_depth", "groundtruth", "image_02")
        return [self.root / depth.parents[3].name[:10] / depth.parents[3].name / "image_02" / "data" / depth.name
                for depth in depths]  # fmt: skip

    def label(self, key: str, image: Path) -> Path:
        """The depth of the same frame, which is in one of the parts."""
        drive = image.parents[2].name
        inner = Path(drive) / "proj_depth" / "groundtruth" / "image_02" / image.name
        return first_of(self.root / "train" / inner, self.root / "val" / inner)
