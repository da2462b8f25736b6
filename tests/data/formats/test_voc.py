"""Pascal VOC: its XML, against torchvision's reading of it on real images."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCDetection

from lightning_taskonomy.data.formats.voc import VOCDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog.voc import CLASSES

torch.set_num_threads(1)
REAL = Path(__file__).parents[3].parent / "shared" / "realdata" / "voc2012_det" / "VOC2012"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no Pascal VOC at {REAL}")
KEYS = ["image", "boxes", "object_classes", "crowd_boxes", "crowd_classes"]
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
)


def written(root: Path, *objects: str, size: str = "<width>12</width><height>8</height>") -> VOCDataModule:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(root / "JPEGImages" / "000005.jpg")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("000005\n")
    text = f"<annotation><size>{size}<depth>3</depth></size>{''.join(objects)}</annotation>"
    (root / "Annotations" / "000005.xml").write_text(text)
    return VOCDataModule(str(root))


def test_pixels_count_from_1_and_difficult_objects_are_to_be_ignored(tmp_path: Path) -> None:
    """A box from pixel 3 to pixel 3 covers one pixel, the third."""
    data = written(
        tmp_path, OBJECT.format("dog", 0, 3, 2, 3, 2), OBJECT.format("cat", 1, 1, 1, 12, 8),
        OBJECT.format("person", "", 2, 2, 4.5, 5),
    )  # fmt: skip
    sample = data.build("trainval", KEYS)[0]
    assert sample["boxes"].tolist() == [[2, 1, 3, 2], [1, 1, 4.5, 5]]
    assert [CLASSES[number] for number in sample["object_classes"].tolist()] == ["dog", "person"]
    assert sample["crowd_boxes"].tolist() == [[0, 0, 12, 8]] and sample["crowd_classes"].tolist() == [7]


def test_bad_annotations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"000005\.xml has an object 'unicorn', but there are aeroplane"):
        written(tmp_path, OBJECT.format("unicorn", 0, 1, 1, 2, 2)).build("trainval", KEYS)[0]
    with pytest.raises(InputError, match="is 12x8 pixels but its annotations say 8x12"):
        written(tmp_path, size="<width>8</width><height>12</height>").build("trainval", KEYS)[0]
    for text, reason in (("<annotation>", "no XML"), (OBJECT.format("dog", 0, "a", 1, 2, 2), "xmin of 'dog' is 'a'")):
        data = written(tmp_path)
        (tmp_path / "Annotations" / "000005.xml").write_text(f"<a>{text}</a>")
        samples = data.build("trainval", KEYS)
        sample = samples[0]
        assert not sample[presence("boxes")] and len(sample["boxes"]) == 0
        (problem,) = samples.problems  # type: ignore[attr-defined]
        assert reason in problem.reason and "000005.xml" in problem.reason
    (tmp_path / "Annotations" / "000005.xml").unlink()
    assert not VOCDataModule(str(tmp_path)).build("trainval", KEYS)[0][presence("boxes")]
    with pytest.raises(InputError, match=r"has no ImageSets/Main/test\.txt; root must hold JPEGImages"):
        VOCDataModule(str(tmp_path)).build("test", KEYS)


@real
@pytest.mark.parametrize(("split", "count"), [("train", 70), ("validation", 30)])
def test_real_annotations_are_those_that_torchvision_reads(split: str, count: int) -> None:
    samples = VOCDataModule(str(REAL)).build(split, KEYS)
    assert len(samples) == count
    for index in range(count):
        sample, file = samples[index], REAL / "Annotations" / f"{samples.images[index].stem}.xml"  # type: ignore[attr-defined]
        entries = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())["annotation"]["object"]
        for key, difficult in (("boxes", "0"), ("crowd_boxes", "1")):
            expected = [
                [float(entry["bndbox"][side]) - (side in ("xmin", "ymin")) for side in ("xmin", "ymin", "xmax", "ymax")]
                for entry in entries
                if entry["difficult"] == difficult
            ]
            assert sample[key].tolist() == expected
        names = [CLASSES[number] for number in sample["object_classes"].tolist()]
        assert names == [entry["name"] for entry in entries if entry["difficult"] == "0"]
    assert not samples.problems  # type: ignore[attr-defined]
