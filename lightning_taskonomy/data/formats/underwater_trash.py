"""Trash-ICRA19 (Fulton et al., 2019): underwater images with boxes of plastic, plants and animals, and equipment."""

from collections.abc import Collection, Sequence

from lightning_taskonomy.data.formats.objects import Annotated, ObjectDataModule, whole
from lightning_taskonomy.data.formats.voc import read_voc
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import by_stem, near
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.underwater_trash import CLASSES, DETECTION, IGNORED, NAMES, OVERLAID

__all__ = ["UnderwaterTrashDataModule"]


class UnderwaterTrashDataModule(ObjectDataModule):
    """Images of Trash-ICRA19 with ``boxes`` and ``object_classes``; trash of other kinds is to be ignored.

    Splits are ``train``, ``validation`` and ``test`` (or ``official_test``): 5720, 820 and 1144 images. In each
    folder an image has its annotations beside it, in VOC's layout; their numbers are taken for distances from the
    image's corner.

    Args:
        root: The folder of ``dataset`` as unpacked, or that folder.
        size: Height and width to resize to; None keeps those of the files.
        **options: Those of ``TaskDataModule``.
    """

    splits = whole(train="train", validation="val", test="test", official_test="test")

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection."""
        return (DETECTION,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images of a folder; one without or with damaged annotations is not labelled.

        Raises:
            InputError: There is no image.
        """
        folders = [self.root / place / part for place in ("dataset", "")]
        folder = next((one for one in folders if one.is_dir()), folders[0])
        images = by_stem(folder, (".jpg", ".jpeg"))
        if not images:
            raise InputError(
                f"{self.root} has no image in {part}{near(part, self.root)}; root must hold "
                f"dataset/{part}/*.jpg and *.xml of Trash-ICRA19"
            )
        labels = by_stem(folder, (".xml",))
        images |= {stem: folder / f"{stem}.jpg" for stem in labels.keys() - images.keys()}  # missing
        classes = {name: number for number, name in enumerate(CLASSES)}
        classes |= {name: classes[kind] for name, kind in NAMES.items()}
        return [
            read_voc(
                image, image.with_suffix(".xml"), stable_id("underwater_trash", part, stem), classes,
                ignored=IGNORED, overlaid=OVERLAID,
            )
            for stem, image in sorted(images.items())
        ], ()  # fmt: skip
