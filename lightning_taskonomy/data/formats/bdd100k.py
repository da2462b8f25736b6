"""BDD100K (Yu et al., 2020): driving images with boxes of 10 classes, in its detection labels of 2020 or 2018."""

from collections.abc import Collection, Sequence

from lightning_taskonomy.data.formats.annotations import Member, read_json, required
from lightning_taskonomy.data.formats.objects import Annotated, Marks, ObjectDataModule, halves
from lightning_taskonomy.data.reading import stable_id
from lightning_taskonomy.data.stored import UnexpectedFiles
from lightning_taskonomy.tasks import Task
from lightning_taskonomy.tasks.catalog.bdd100k import CLASSES, DETECTION, IGNORED, NAMES

__all__ = ["BDD100KDataModule"]


class BDD100KDataModule(ObjectDataModule):
    """Images of BDD100K with ``boxes`` and ``object_classes``; crowds, and what only resembles a class, are ignored.

    Splits are ``train``, ``official_test`` (its validation images: the labels of its test images are not public),
    and half of it each, every other image, ``validation`` and ``test``. Labels are those of 2020 where they are
    there, else those of 2018. A box names the last pixel within it (``box2d_to_xyxy`` of Scalabel); here it ends at
    that one's outer edge.

    Args:
        root: The folder of ``images/100k`` and ``labels``.
        size: Height and width to resize to; None keeps 720 x 1280.
        **options: Those of ``TaskDataModule``.
    """

    splits = halves("train", "val")

    @property
    def own_tasks(self) -> Collection[Task]:
        """Its detection."""
        return (DETECTION,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        """The images that the file of labels lists.

        Raises:
            InputError: It is missing or damaged, or lists an image twice.
        """
        file = required(
            self.root, [f"labels/det_20/det_{part}.json", f"labels/bdd100k_labels_images_{part}.json"],
            f"images/100k/{part} and labels of BDD100K",
        )  # fmt: skip
        content = read_json(file)
        frames = content if isinstance(content, list) else Member(file, "the file", content).list_of("frames")
        images: dict[str, Annotated] = {}
        for entry in frames:
            frame = Member(file, "a frame", entry)
            name = frame.text("name")
            if name in images:
                raise UnexpectedFiles(f"{file}: two frames are called {name}; remove one")
            frame.where = f"frame {name}"
            labels = frame.list_of("labels") if frame.content.get("labels") is not None else []
            marks, refusal = _marks([Member(file, f"a label of {name}", label) for label in labels])
            path = self.root / "images" / "100k" / part / name
            images[name] = marks.annotated(path, stable_id("bdd", name), refusal=refusal)
        return [*images.values()], ()


def _marks(labels: Sequence[Member]) -> tuple[Marks, str | None]:
    """What is annotated in one image, and why it cannot be used."""
    marks = Marks()
    for label in labels:
        if label.content.get("box2d") is None:  # a lane, or where one may drive
            continue
        box, attributes = label.member("box2d"), label.member("attributes")
        called = label.text("category")
        name = NAMES.get(called, called)
        kind = IGNORED.get(name, name)
        if kind not in CLASSES:
            return marks, f"{label.file}: {label.where} is of category {called!r}, but there are {', '.join(CLASSES)}"
        is_crowd = name in IGNORED or any(map(attributes.flag, ("crowd", "ignored", "ignore")))
        sides = [box.number("x1"), box.number("y1"), box.number("x2") + 1, box.number("y2") + 1]
        marks.add(sides, CLASSES.index(kind), is_crowd=is_crowd)
    return marks, None
