"""The Indian Driving Dataset (Varma et al., WACV 2019): roads in India with 34 classes."""

from pathlib import Path

from lightning_taskonomy.data.formats.codes import Numbers
from lightning_taskonomy.data.formats.pixels import PixelDataModule, below
from lightning_taskonomy.tasks import IGNORE_INDEX
from lightning_taskonomy.tasks.catalog.idd import IDS, SEMANTIC_SEGMENTATION

__all__ = ["IDDDataModule"]


class IDDDataModule(PixelDataModule):
    """Roads in India with 34 classes, what is void missing, in ``train`` (6,993) and ``val`` (981).

    ``root`` is ``IDD_Segmentation`` with ``leftImg8bit`` and ``gtFine``, where the authors' ``createLabels.py --id-type
    id`` has made a picture ``*_gtFine_labelids.png`` of each file of polygons.
    """

    title = "IDD"
    layout = "leftImg8bit/train/DRIVE/*_leftImg8bit.png and gtFine/train/DRIVE/*_gtFine_labelids.png, val likewise"
    codes = ((SEMANTIC_SEGMENTATION, Numbers(
        {**dict.fromkeys((17, *range(35, 40), 255), IGNORE_INDEX), **{id: n for n, id in enumerate(IDS.values(), 1)}},
        "labelids are 0 to 39; make them by createLabels.py --id-type id",
    )),)  # fmt: skip

    def images(self, part: str) -> list[Path]:
        """Those of a part, by drive."""
        return below(self.root / "leftImg8bit" / part)

    def label(self, key: str, image: Path) -> Path:
        """The map of the same frame."""
        name = f"{image.stem.removesuffix('_leftImg8bit')}_gtFine_labelids.png"
        return self.root / "gtFine" / image.parents[1].name / image.parent.name / name
