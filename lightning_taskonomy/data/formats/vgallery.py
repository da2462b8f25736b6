"""Virtual Gallery (Weinzaepfel et al., CVPR 2019): a rendered museum with 10 classes and depth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_taskonomy.data.formats.codes import Code, Colours, Depth
from lightning_taskonomy.data.formats.pixels import PixelDataModule, below, halves
from lightning_taskonomy.data.stored import visible
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.vgallery import COLOURS, DEPTH_Z, SEMANTIC_SEGMENTATION

__all__ = ["VGalleryDataModule"]

_KINDS = {"semantic": ("classsegmentation", "classgt"), "depth_z": ("depth", "depth")}


class VGalleryDataModule(PixelDataModule):
    """A rendered museum with ``semantic`` (10 classes) and ``depth_z``, seen by a robot and, for tests, by visitors.

    Args:
        root: The folder of ``training`` and ``testing``.
        size: Height and width to resize to; None keeps the files'.
        background: Whether the background counts as a class; if not, it is missing.
        farthest: Beyond so many metres there is no depth. The paper's authors give 0.21 to 14.89 m as the range to clip
            to (``fids/vgallery.py``). None keeps all but what the files cut off at 655.35 m, such as the sky.
        **options: Those of ``TaskDataModule``.
    """

    title = "Virtual Gallery"
    layout = (
        "training/gallery_light1_loop1/frames/rgb/camera_0/rgb_00000.jpg and so on, testing likewise, with "
        "classsegmentation/camera_0/classgt_00000.png and depth/camera_0/depth_00000.png beside rgb"
    )
    codes = (
        (SEMANTIC_SEGMENTATION, Colours({colour: number for number, colour in enumerate(COLOURS.values())})),
        (DEPTH_Z, Depth(0.01, is_cut=True)),
    )
    splits = halves("training", "testing")

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        farthest: float | None = 14.89,
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, **options)
        self.farthest = farthest

    def images(self, part: str) -> list[Path]:
        """Those of a part, by run and camera."""
        return [image for run in visible(self.root / part) for image in below(run / "frames" / "rgb")]

    def label(self, key: str, image: Path) -> Path:
        """The map of the same frame and camera."""
        folder, name = _KINDS[key]
        return image.parents[2] / folder / image.parent.name / f"{name}_{image.stem.rpartition('_')[2]}.png"

    def reader(self, task: Task, code: Code) -> Code:
        """Depths up to the farthest."""
        return replace(code, farthest=self.farthest) if isinstance(code, Depth) else code
