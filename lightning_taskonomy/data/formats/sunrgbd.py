"""SUN RGB-D (Song et al., CVPR 2015): rooms with 37 classes and depth."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning_taskonomy.data.formats.codes import Code, Depth, Numbers, numbered
from lightning_taskonomy.data.formats.pixels import PixelDataModule, first_of, halves, listed, pictures
from lightning_taskonomy.data.stored import listed_path
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.sunrgbd import DEPTH_Z, SEMANTIC_SEGMENTATION

__all__ = ["SUNRGBDDataModule"]

_FIRST = {"testing": 1, "training": 5051}
"""The number of the first label of each list: the 5,050 of the tests come first."""


class SUNRGBDDataModule(PixelDataModule):
    """Rooms with ``semantic`` (37 classes, 0 in the files missing) and ``depth_z`` (5,285 and 5,050).

    ``root`` holds the official ``SUNRGBD`` with its scenes and, of the repository ankurhanda/sunrgbd-meta-data, the
    lists ``sunrgbd_training_images.txt`` and ``sunrgbd_testing_images.txt`` and the folder
    ``sunrgbd_train_test_labels`` with ``img-000001.png`` and so on, which stand for the toolbox's one file of labels.

    Args:
        root: That folder.
        size: Height and width to resize to; None keeps the files'.
        background: Of no effect here: there is no such class.
        depth: ``filled``: of ``depth_bfx``, with holes filled; ``measured``: of ``depth``.
        farthest: What is farther than so many metres is taken to be as far: 8 in the toolbox (``read3dPoints.m``) and
            in the code of the paper's authors (``fids/sunrgbd.py``). None keeps what the files have.
        **options: Those of ``TaskDataModule``.
    """

    title = "SUN RGB-D"
    layout = (
        "SUNRGBD, sunrgbd_training_images.txt, sunrgbd_testing_images.txt and sunrgbd_train_test_labels/img-000001.png "
        "and so on (ankurhanda/sunrgbd-meta-data)"
    )
    codes = (
        (SEMANTIC_SEGMENTATION, Numbers(numbered(37, first=1, missing=(0,)), "labels of 37 classes have 0 to 37")),
        (DEPTH_Z, Depth(0.001, turned=3, clips=True)),
    )
    splits = halves("training", "testing")

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        background: bool = True,
        depth: Literal["filled", "measured"] = "filled",
        farthest: float | None = 8.0,
        **options: Any,
    ) -> None:
        super().__init__(root, size, background, **options)
        if depth not in ("filled", "measured"):
            raise InputError(f"SUN RGB-D: depth is {depth!r}; allowed: 'filled', 'measured'")
        self.depth, self.farthest = depth, farthest
        self._numbers: dict[Path, int] = {}

    def images(self, part: str) -> list[Path]:
        """Those that a list names."""
        names = listed(self.root / f"sunrgbd_{part}_images.txt", f"root must hold {self.layout}")
        images = [self.root / listed_path(name) for name in names]
        self._numbers |= {image: number for number, image in enumerate(images, _FIRST[part])}
        return images

    def label(self, key: str, image: Path) -> Path:
        """The scene's depth, or the label of the image's number in both lists together."""
        if key == SEMANTIC_SEGMENTATION.target:
            return self.root / "sunrgbd_train_test_labels" / f"img-{self._numbers[image]:06d}.png"
        folder = image.parents[1] / ("depth_bfx" if self.depth == "filled" else "depth")
        return first_of(folder / f"{image.stem}.png", *pictures(folder))

    def reader(self, task: Task, code: Code) -> Code:
        """Depths no farther than the farthest."""
        return replace(code, farthest=self.farthest) if isinstance(code, Depth) else code
