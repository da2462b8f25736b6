"""DOTA (Xia et al., 2018): aerial images with quadrilaterals of 15 classes, read as upright boxes around them."""

from collections.abc import Collection, Sequence
from pathlib import Path

from lightning_taskonomy.data.formats.objects import Annotated, Marks, ObjectDataModule, halves
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import FileProblem, by_stem, near, read_text
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.dota import CLASSES, DETECTION

__all__ = ["DOTADataModule"]


class DOTADataModule(ObjectDataModule):
    """Images of DOTA 1.0 with ``boxes`` and ``object_classes``; objects called difficult are to be ignored.

    Splits are ``train``, ``official_test`` (its validation images), and half of it each ``validation`` and
    ``test``. A folder of ``images`` and ``labelTxt`` alone is the training part.

    Args:
        root: The folder of ``train`` and ``val``, each with ``images`` and ``labelTxt``.
        size: Height and width to resize to; None keeps those of the files, which differ.
        **options: Those of ``TaskDataModule``.
    """

    splits = halves("train", "val")

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection."""
        return (DETECTION,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images of a folder; one without or with damaged labels is not labelled.

        Raises:
            InputError: There is no image.
        """
        folder = self.root / part
        if part == "train" and not folder.is_dir() and (self.root / "images").is_dir():
            folder = self.root
        images = by_stem(folder / "images", (".png", ".jpg"))
        if not images:
            raise InputError(
                f"{folder} has no images/*.png{near('images', folder)}; root must hold train and val of DOTA, each "
                "with images and labelTxt"
            )
        labels = by_stem(folder / "labelTxt", (".txt",))
        images |= {stem: folder / "images" / f"{stem}.png" for stem in labels.keys() - images.keys()}  # missing
        return [
            _read(images[stem], folder / "labelTxt" / f"{stem}.txt", stable_id("dota", stem)) for stem in sorted(images)
        ], ()


def _read(image: Path, file: Path, number: int) -> Annotated:
    marks = Marks()
    refusal = None
    try:
        for position, line in enumerate(read_text(file).splitlines(), 1):
            words = line.split()
            if not words or ":" in words[0]:  # imagesource:GoogleEarth, gsd:0.15
                continue
            try:
                corners = [float(word) for word in words[:8]]
            except ValueError:
                corners = []
            if len(corners) < 8 or len(words) not in (9, 10):
                raise FileProblem(file, f"damaged (line {position} is not eight numbers, a class and 0 or 1)")
            name, is_crowd = words[8], words[9:] not in ([], ["0"])
            if name not in CLASSES:
                refusal = f"{file}, line {position}: no class {name!r}; there are {', '.join(CLASSES)}"
                continue
            x, y = corners[::2], corners[1::2]
            marks.add([min(x), min(y), max(x), max(y)], CLASSES.index(name), is_crowd=is_crowd)
    except FileProblem as problem:
        return Annotated(image, number, labelled=False, problem=str(problem))
    return marks.annotated(image, number, refusal=refusal)
