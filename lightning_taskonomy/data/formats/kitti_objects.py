"""KITTI's object benchmark (Geiger et al., 2012): driving images with boxes of 8 classes."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from lightning_taskonomy.data.formats.objects import Annotated, Marks, ObjectDataModule, whole
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import FileProblem, by_stem, near, read_text
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, Task
from lightning_taskonomy.tasks.catalog.kitti_objects import CLASSES, DETECTION, IGNORED

__all__ = ["KITTIObjectsDataModule"]

_WITHOUT = (
    "only its training images have labels; keep a part of them by fit_size, validation_share and test_split train"
)


class KITTIObjectsDataModule(ObjectDataModule):
    """Images of KITTI with ``boxes`` and ``object_classes``; where nobody looked (DontCare) is to be ignored.

    The one split is ``train`` (7481 images). Boxes are as in the files, which count pixels from 0.

    Args:
        root: The folder of ``training/image_2`` and ``training/label_2``.
        size: Height and width to resize to; None keeps those of the files, which differ.
        **options: Those of ``TaskDataModule``.
    """

    splits = whole(train="training")
    lacks: ClassVar[Mapping[str, str]] = {"validation": _WITHOUT, "test": _WITHOUT}

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection."""
        return (DETECTION,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The training images; one without or with damaged labels is not labelled.

        Raises:
            InputError: There is no image.
        """
        folder = self.root / part
        images = by_stem(folder / "image_2", (".png", ".jpg"))
        if not images:
            raise InputError(
                f"{folder} has no image_2/*.png{near('image_2', folder)}; root must hold training/image_2 and "
                "training/label_2 of KITTI's object benchmark"
            )
        labels = by_stem(folder / "label_2", (".txt",))
        images |= {stem: folder / "image_2" / f"{stem}.png" for stem in labels.keys() - images.keys()}  # missing
        return [
            _read(images[stem], folder / "label_2" / f"{stem}.txt", stable_id("kitti", stem)) for stem in sorted(images)
        ], ()


def _read(image: Path, file: Path, number: int) -> Annotated:
    marks = Marks()
    refusal = None
    try:
        for position, line in enumerate(read_text(file).splitlines(), 1):
            kind, *numbers = line.split() or [""]
            if not kind:
                continue
            try:
                box = [float(one) for one in numbers[3:7]]
            except ValueError:
                box = []
            if len(numbers) < 14 or len(box) < 4:
                raise FileProblem(file, f"damaged (line {position} is not a type and 14 numbers)")
            if kind == IGNORED:
                marks.add(box, IGNORE_INDEX, is_crowd=True)
            elif kind in CLASSES:
                marks.add(box, CLASSES.index(kind))
            else:
                refusal = f"{file}, line {position}: no type {kind!r}; there are {', '.join(CLASSES)} and {IGNORED}"
    except FileProblem as problem:
        return Annotated(image, number, labelled=False, problem=str(problem))
    return marks.annotated(image, number, refusal=refusal)
