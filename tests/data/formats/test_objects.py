"""What all data sets of objects share: turning, cutting, leaving out, refusing, each by geometry."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.data.formats.annotations import Member, read_json, read_xml
from lightning_taskonomy.data.formats.objects import Annotated, ObjectDataModule, whole
from lightning_taskonomy.data.stored import FileProblem
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind, presence

torch.set_num_threads(1)

KEYS = ("boxes", "object_classes", "points", "crowd_boxes", "crowd_classes")
TASK = Task(
    "things",
    TaskKind.SET,
    "boxes",
    3,
    labels=(
        Label("boxes", LabelKind.BOXES, 4),
        Label("object_classes", LabelKind.OBJECT_CLASSES, 3),
        Label("points", LabelKind.POINTS, 2, mirror=(1, 0)),
        Label("crowd_boxes", LabelKind.BOXES, 4, objects="crowds"),
        Label("crowd_classes", LabelKind.OBJECT_CLASSES, 3, objects="crowds"),
    ),
    head="no.head",
    loss="no.loss",
    score="no.score",
    decode="no.decode",
)


class ThingsDataModule(ObjectDataModule):
    """Whatever it was made with."""

    splits = whole(train="all")
    lacks: ClassVar[Mapping[str, str]] = {"test": "there is none"}

    def __init__(self, root: Path, *images: Annotated, **options: Any) -> None:
        super().__init__(str(root), **options)
        self.images, self.times = images, 0

    @property
    def own_tasks(self) -> Collection[Task]:
        return (TASK,)

    def annotated(self, part: str) -> tuple[Sequence[Annotated], Sequence[str]]:
        self.times += 1
        return self.images, ()


def picture(folder: Path, width: int = 12, height: int = 8, name: str = "a.png") -> Path:
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / name)
    return folder / name


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_turns_too(tmp_path: Path, orientation: int) -> None:
    """Its head is looked at before Pillow is asked; a dark box on a bright ground stays where it is named."""
    stored = np.full((32, 48, 3), 255, np.uint8)
    stored[8:16, 24:40] = 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: Any = {"exif": exif} if orientation > 1 else {}
    Image.fromarray(stored).save(tmp_path / "a.jpg", quality=95, **options)
    one = Annotated(tmp_path / "a.jpg", 1, [[24, 8, 40, 16]], [0], size=(32, 48))
    sample = ThingsDataModule(tmp_path, one).build("train", ["image", "boxes"])[0]
    left, top, right, bottom = (int(side) for side in sample["boxes"][0])
    inside = sample["image"][:, top:bottom, left:right]
    assert inside.numel() == 3 * 8 * 16 and inside.max() < 0.2
    assert sample["image"].sum() > 0.95 * (sample["image"].numel() - inside.numel())


@pytest.mark.parametrize(
    ("orientation", "said"),
    [(number, said) for number in range(1, 9) for said in ("stored", "nothing")]
    + [(n, "upright") for n in range(5, 9)],
)
def test_boxes_and_points_turn_with_the_picture(tmp_path: Path, orientation: int, said: str) -> None:
    """One bright pixel, which box and point name: after reading they still name it, and Pillow turned the picture."""
    stored = np.zeros((8, 12, 3), np.uint8)
    stored[2, 9] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        turned = np.asarray(ImageOps.exif_transpose(image))[..., 0]
    of = turned if said == "upright" else stored[..., 0]
    (y,), (x,) = np.nonzero(of)
    one = Annotated(
        tmp_path / "a.png", 1, [[x, y, x + 1, y + 1]], [2], [[[x + 0.5, y + 0.5], [np.nan, np.nan]]],
        [[x, y, x + 1, y + 1]], [1], size={"stored": (8, 12), "nothing": None, "upright": turned.shape}[said],
    )  # fmt: skip
    sample = ThingsDataModule(tmp_path, one).build("train", ["image", *KEYS])[0]
    (row,), (column,) = np.nonzero(turned)
    assert sample["image"][0, row, column] == 1 and sample["image"].sum() == 3
    box = [[float(column), float(row), column + 1.0, row + 1.0]]
    assert sample["boxes"].tolist() == box and sample["crowd_boxes"].tolist() == box
    assert sample["points"][0, 0].tolist() == [column + 0.5, row + 0.5] and bool(sample["points"][0, 1].isnan().all())
    assert sample["object_classes"].tolist() == [2] and sample["crowd_classes"].tolist() == [1]


def test_objects_that_cannot_be_are_left_out_and_said(tmp_path: Path) -> None:
    boxes = [[1, 1, 4, 5], [2, 2, 2, 6], [6, 2, 3, 4], [20, 1, 25, 4], [-5, 3, 4, 20], [0.5, 0.5, 12.4, 8]]
    boxes += [[0, 0, np.inf, 8], [-np.inf, 0, 4, 4], [0, np.nan, 4, 4], [0, 0, 4, 1e300]]
    points = np.full((10, 2, 2), np.nan)
    points[0] = [[2, 3], [40, 3]]
    points[4] = [[12.5, 8.5], [-0.5, 4]]
    samples = ThingsDataModule(
        tmp_path, Annotated(picture(tmp_path), 1, boxes, [0, 1, 2, 0, 1, 2, 0, 0, 0, 0], points, [[3, 3, 3, 9]], [-100])
    ).build("train", ["image", *KEYS])
    sample = samples[0]
    assert sample["boxes"].tolist() == [[1, 1, 4, 5], [0, 3, 4, 8], [0.5, 0.5, 12, 8]]
    assert sample["object_classes"].tolist() == [0, 1, 2] and len(sample["crowd_boxes"]) == 0
    assert sample["points"][0, 0].tolist() == [2, 3] and bool(sample["points"][0, 1].isnan().all())
    assert sample["points"][1].tolist() == [[12, 8], [0, 4]]  # within a pixel of the edge: taken for rounding
    (problem,) = samples.problems  # type: ignore[attr-defined]
    assert problem.file == tmp_path / "a.png" and "\n" not in problem.reason
    for text in (
        "4 of 10 objects left out, for a side of their boxes is not a finite number (such as 0, 0, inf, 8)",
        "2 of 10 objects left out, for their boxes have no area or their sides in the wrong order (such as 2, 2, 2, 6)",
        "1 of 10 objects left out, for they lie outside the image (such as 20, 1, 25, 4)",
        "1 of 10 objects cut off at the edge of the image (such as -5, 3, 4, 20)",
        "1 points outside the image are not marked",
        "1 of 1 regions to ignore left out",
    ):
        assert text in problem.reason


def test_no_object_is_not_no_label_and_one_pixel_is_a_picture(tmp_path: Path) -> None:
    one = picture(tmp_path, 1, 1)
    data = ThingsDataModule(
        tmp_path, Annotated(one, 1), Annotated(one, 2, labelled=False),
        Annotated(one, 3, [[0, 0, 1, 1]], [0], [[[0.5, 0.5]] * 2]),
    )  # fmt: skip
    samples = data.build("train", ["image", *KEYS])
    batch = collate([samples[index] for index in range(3)], data.targets)
    assert batch[presence("boxes")].tolist() == [True, False, True] and batch["boxes"].shape == (3, 1, 4)
    assert batch["boxes"][2, 0].tolist() == [0, 0, 1, 1] and bool(batch["boxes"][:2].isnan().all())
    assert samples.unlabelled("boxes", [1]) == "no image is annotated"  # type: ignore[attr-defined]
    assert samples.unlabelled("boxes", [0, 1]) is None  # type: ignore[attr-defined]
    assert data.times == 1
    data.build("train", ["image"])
    assert data.times == 1  # annotations are read once


def test_resizing_scales_boxes_and_points(tmp_path: Path) -> None:
    one = Annotated(picture(tmp_path), 1, [[3, 2, 9, 6]], [0], [[[6, 4], [np.nan, np.nan]]], [[0, 0, 12, 8]], [1])
    sample = ThingsDataModule(tmp_path, one, size=(16, 36)).build("train", ["image", *KEYS])[0]
    assert sample["boxes"].tolist() == [[9, 4, 27, 12]] and sample["points"][0, 0].tolist() == [18, 8]
    assert sample["crowd_boxes"].tolist() == [[0, 0, 36, 16]]


def test_bad_input_is_said_on_one_line(tmp_path: Path) -> None:
    one = picture(tmp_path)
    samples = ThingsDataModule(
        tmp_path, Annotated(one, 1, size=(8, 13)), Annotated(one, 2, refusal="labels.json: a class too many")
    ).build("train", ["image", "boxes"])
    with pytest.raises(InputError, match=r"a\.png is 12x8 pixels but its annotations say 13x8; take both") as caught:
        samples[0]
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="a class too many"):
        samples[1]
    with pytest.raises(InputError, match="Things has no split 'test'; there is none"):
        ThingsDataModule(tmp_path).build("test", ["image"])
    with pytest.raises(InputError, match="Things has no split 'trian'; did you mean 'train'"):
        ThingsDataModule(tmp_path).build("trian", ["image"])


def test_files_of_annotations_are_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"id": "five", "box": [1, 2, "x", 4]}')
    member = Member(file, "annotation 5", read_json(file))
    with pytest.raises(FileProblem, match='annotation 5: id is "five", not a whole number'):
        member.whole("id")
    with pytest.raises(FileProblem, match="annotation 5 has no 'bbox'"):
        member.numbers("bbox", 4)
    with pytest.raises(FileProblem, match=r"box is .* not 4 numbers"):
        member.numbers("box", 4)
    text = '{"a": NaN, "b": [1e999], "c": HUGE, "d": "0", "e": 1, "f": null, "g": [], "h": {"i": true}}'
    file.write_text(text.replace("HUGE", str(10**400)))
    member = Member(file, "annotation 5", read_json(file))
    for name, ask in (("a", member.number), ("c", member.number), ("c", member.whole), ("d", member.flag)):
        with pytest.raises(FileProblem, match=f"annotation 5: {name} is .*, not (a number|a whole n.*|true or f.*)"):
            ask(name)
    with pytest.raises(FileProblem, match=r"b is .*, not 1 numbers"):
        member.numbers("b", 1)
    assert [member.flag(name) for name in "efz"] == [True, False, False] and member.member("h").flag("i")
    assert member.member("f").content == member.member("z").content == {}
    with pytest.raises(FileProblem, match=r"g of annotation 5 is \[\] where an object with named members belongs"):
        member.member("g")
    with pytest.raises(FileProblem, match="is 3 where an object with named members belongs"):
        Member(file, "the file", 3)
    file.write_text('{"id": 5')
    with pytest.raises(FileProblem, match="no JSON"):
        read_json(file)
    for text, reason in (
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
        ("<a><b></a>", "no XML"),
        ("<a>&b;</a>", "no XML"),
    ):
        file.write_text(text)
        with pytest.raises(FileProblem, match=reason):
            read_xml(file)
    with pytest.raises(FileProblem, match="missing"):
        read_xml(tmp_path / "none.xml")
