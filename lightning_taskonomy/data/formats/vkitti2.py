"""Virtual KITTI 2 (Cabon et al., 2020): rendered drives with 14 classes and depth."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_taskonomy.data.formats.codes import Code, Colours, Depth
from lightning_taskonomy.data.formats.pixels import PixelDataModule, below
from lightning_taskonomy.data.stored import visible
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.vkitti2 import COLOURS, DEPTH_Z, SEMANTIC_SEGMENTATION

__all__ = ["VKITTI2DataModule"]

_KINDS = {"semantic": ("classSegmentation", "classgt"), "depth_z": ("depth", "depth")}


class VKITTI2DataModule(PixelDataModule):
    """Rendered drives with ``semantic`` (15 classes, of which the background is what has no colour) and ``depth_z``.

    Evaluated is Scene18, as by the paper's authors; Scene01, Scene02, Scene06 and Scene20 are trained on, all their
    variations and both cameras.

    Args:
        root: The folder with ``Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg`` and so on.
        size: Height and width to resize to; None keeps the files'.
        background: Whether what has no colour counts as a class; if not, it is missing.
        farthest: Beyond so many metres there is no depth. The paper's authors give 0.94 to 80 m as the range to clip to
            (``fids/vkitti2.py``). None keeps all but what the files cut off at 655.35 m, such as the sky.
        **options: Those of ``TaskDataModule``.
    """

    title = "Virtual KITTI 2"
    layout = (
        "Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg and so on, with classSegmentation/Camera_0/classgt_00000.png "
        "and depth/Camera_0/depth_00000.png beside rgb"
    )
    codes = (
        (SEMANTIC_SEGMENTATION, Colours({colour: number for number, colour in enumerate(COLOURS.values())})),
        (DEPTH_Z, Depth(0.01, is_cut=True)),
    )

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        farthest: float | None = 80.0,
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, **options)
        self.farthest = farthest

    def images(self, part: str) -> list[Path]:
        """Those of the part's scenes, by variation and camera."""
        scenes = [folder for folder in visible(self.root) if folder.name.startswith("Scene")]
        scenes = [folder for folder in scenes if (folder.name == "Scene18") == (part == "val")]
        return [image for folder in scenes for kind in visible(folder) for image in below(kind / "frames" / "rgb")]

    def label(self, key: str, image: Path) -> Path:
        """The map of the same frame and camera."""
        folder, name = _KINDS[key]
        return image.parents[2] / folder / image.parent.name / f"{name}_{image.stem.rpartition('_')[2]}.png"

    def reader(self, task: Task, code: Code) -> Code:
        """Depths up to the farthest."""
        return replace(code, farthest=self.farthest) if isinstance(code, Depth) else code
