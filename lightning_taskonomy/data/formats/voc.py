"""Pascal VOC (Everingham et al., 2010): consumer photographs with boxes of 20 classes, in the files of the devkit."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from lightning_taskonomy.data.formats.annotations import read_xml, required
from lightning_taskonomy.data.formats.objects import Annotated, Marks, ObjectDataModule, whole
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import FileProblem, read_text
from lightning_taskonomy.tasks import IGNORE_INDEX, Task
from lightning_taskonomy.tasks.catalog.voc import CLASSES, DETECTION

__all__ = ["VOCDataModule", "read_voc"]


class VOCDataModule(ObjectDataModule):
    """Images of Pascal VOC with ``boxes`` and ``object_classes``; objects called difficult are regions to ignore.

    Splits are those of ``ImageSets/Main``: ``train``, ``validation``, ``trainval``, ``test`` (or ``official_test``;
    VOC2007: 2501, 2510, 5011 and 4952 images). The paper trains on VOC2007's trainval: give ``fit_split: trainval``
    and a ``validation_share``. The files count pixels from 1 and name the last one within a box; here a box ends at
    that one's outer edge.

    Args:
        root: The folder of ``JPEGImages``, ``Annotations`` and ``ImageSets`` (``VOCdevkit/VOC2007``).
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits = whole(train="train", validation="val", trainval="trainval", test="test", official_test="test")

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection."""
        return (DETECTION,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images that a list names; one whose file of annotations is damaged is not labelled.

        Raises:
            InputError: There is no list.
        """
        listing = required(
            self.root, [f"ImageSets/Main/{part}.txt"],
            "JPEGImages, Annotations and ImageSets/Main of the VOC devkit",
        )  # fmt: skip
        names = [line.split()[0] for line in read_text(listing).splitlines() if line.strip()]
        classes = {name: number for number, name in enumerate(CLASSES)}
        return [
            read_voc(
                self.root / "JPEGImages" / f"{name}.jpg", self.root / "Annotations" / f"{name}.xml",
                stable_id("voc", name), classes, first=1,
            )
            for name in names
        ], ()  # fmt: skip


def read_voc(
    image: Path,
    file: Path,
    number: int,
    classes: Mapping[str, int],
    *,
    first: float = 0,
    ignored: Collection[str] = (),
    overlaid: Collection[str] = (),
) -> Annotated:
    """One image with the annotations of an XML file in VOC's layout.

    Args:
        image: The image file.
        file: The XML file.
        number: The image's stable id.
        classes: The number of each name.
        first: The number of the first pixel. With 1 the last pixel is within the box, as VOC counts; with 0 numbers are
            distances from the image's corner.
        ignored: Names of what is neither object nor background, of any class.
        overlaid: Names that count for nothing.

    Returns:
        The image; not labelled where the file is missing or damaged.
    """
    marks = Marks()
    refusal = None
    try:
        root = read_xml(file)
        size = _size(file, root)
        for entry in root.iterfind("object"):
            name = _text(entry, "name")
            if name in overlaid:
                continue
            if name not in classes and name not in ignored:
                refusal = f"{file} has an object {name!r}, but there are {', '.join(classes)}; use FolderDataModule"
                continue
            left, top, right, bottom = (_number(file, entry, side) for side in ("xmin", "ymin", "xmax", "ymax"))
            is_crowd = name in ignored or _text(entry, "difficult") not in ("", "0")
            marks.add([left - first, top - first, right, bottom], classes.get(name, IGNORE_INDEX), is_crowd=is_crowd)
    except FileProblem as problem:
        return Annotated(image, number, labelled=False, problem=str(problem))
    return marks.annotated(image, number, size=size, refusal=refusal)


def _text(entry: Element, name: str) -> str:
    return (entry.findtext(name) or "").strip()


def _number(file: Path, entry: Element, side: str) -> float:
    text = _text(entry, f"bndbox/{side}")
    try:
        return float(text)
    except ValueError:
        raise FileProblem(file, f"damaged ({side} of {_text(entry, 'name')!r} is {text!r}, not a number)") from None


def _size(file: Path, root: Element) -> tuple[int, int] | None:
    """Height and width, where the file says them; 0 is what some tools write where they do not know."""
    sides = [_text(root, f"size/{side}") for side in ("height", "width")]
    if not all(side.isdecimal() for side in sides) or "0" in sides:
        return None
    return int(sides[0]), int(sides[1])
