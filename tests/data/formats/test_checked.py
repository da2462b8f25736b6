"""``data check --format``: every data set by its name; a damaged copy of each real sample is diagnosed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from lightning_taskonomy.cli import main
from lightning_taskonomy.data.doctor import Report, check
from lightning_taskonomy.data.named import data_sets, named
from lightning_taskonomy.errors import InputError

torch.set_num_threads(1)
REAL = Path(__file__).parents[3].parent / "shared" / "realdata"
COPIED = 4


def test_data_sets_have_names() -> None:
    names = data_sets()
    expected = {"coco", "coco_keypoints", "voc", "bdd100k", "underwater_trash", "mpii", "stanford_dogs", "imagenet"}
    assert expected | {"cityscapes", "taskonomy", "folder"} <= names.keys() and "rooms" not in names
    assert (
        named("ImageNet") is named("image-net") is names["imagenet"] and named("camvid").__name__ == "CamVidDataModule"
    )
    with pytest.raises(InputError, match="no data set 'coc'; did you mean 'coco'"):
        named("coc")


def _json(root: Path, name: str, change: Callable[[Any], Any]) -> None:
    file = root / name
    content = json.loads(file.read_text())
    changed = change(content)
    file.write_text(json.dumps(content if changed is None else changed))


def _coco(root: Path) -> list[Path]:
    files = []
    for part in ("train2017", "val2017"):
        kept: set[int] = set()
        for kind in ("instances", "person_keypoints"):
            name = f"annotations/{kind}_{part}.json"
            (root / "annotations").mkdir(exist_ok=True)
            content = json.loads((REAL / "coco_tiny" / name).read_text())
            people = {one["image_id"] for one in content["annotations"] if one.get("num_keypoints", 0) > 3}
            kept = kept or {image["id"] for image in content["images"][: 2 * COPIED]}
            if kind == "person_keypoints":
                kept &= people or kept
            content["images"] = [image for image in content["images"] if image["id"] in kept]
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
            (root / name).write_text(json.dumps(content))
            for image in content["images"]:
                (root / part).mkdir(exist_ok=True)
                shutil.copy(REAL / "coco_tiny" / part / image["file_name"], root / part)
        files += [root / part / image["file_name"] for image in content["images"]]
    return files


def _voc(root: Path) -> list[Path]:
    files = []
    for name in ("train", "val"):
        source = REAL / "voc2012_det" / "VOC2012"
        stems = (source / "ImageSets" / "Main" / f"{name}.txt").read_text().split()[:COPIED]
        for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems))
        for stem in stems:
            shutil.copy(source / "JPEGImages" / f"{stem}.jpg", root / "JPEGImages")
            shutil.copy(source / "Annotations" / f"{stem}.xml", root / "Annotations")
        files += [root / "JPEGImages" / f"{stem}.jpg" for stem in stems]
    return files


def _folder(name: str, pattern: str) -> Callable[[Path], list[Path]]:
    def copy(root: Path) -> list[Path]:
        shutil.copytree(REAL / name, root, dirs_exist_ok=True)
        return sorted(root.glob(pattern))

    return copy


COPIES: dict[str, tuple[str, Callable[[Path], list[Path]]]] = {
    "coco": ("coco_tiny", _coco),
    "coco_keypoints": ("coco_tiny", _coco),
    "voc": ("voc2012_det", _voc),
    "mpii": ("mpii", _folder("mpii", "images/*.jpg")),
    "stanford_dogs": ("stanford_extra", _folder("stanford_extra", "sample_imgs/*/*.jpg")),
    "kitti_objects": ("kitti_object", _folder("kitti_object", "training/image_2/*.png")),
    "dota": ("dota", _folder("dota", "images/*.png")),
}


def _checked(name: str, root: Path) -> Report:
    return check(named(name)(root=str(root)))  # type: ignore[call-arg]


def _damaged(name: str, tmp_path: Path) -> list[Path]:
    folder, copy = COPIES[name]
    if not (REAL / folder).is_dir():
        pytest.skip(f"no {folder} at {REAL}")
    return copy(tmp_path)


@pytest.mark.parametrize("name", COPIES)
def test_a_damaged_copy_of_each_real_sample_is_diagnosed(tmp_path: Path, name: str) -> None:
    """One image is cut short, another is missing: both are named and listed, nothing else is; as copied all is well."""
    files = _damaged(name, tmp_path)
    if name in ("coco", "voc", "mpii"):  # the others take longer, and are read whole elsewhere
        sound = _checked(name, tmp_path)
        assert sound.problems == [] and sound.skip == []
    files[0].write_bytes(files[0].read_bytes()[:200])
    (removed := files[-1]).unlink()
    report = _checked(name, tmp_path)
    assert any(str(files[0]) in problem and "damaged" in problem for problem in report.problems)
    assert any(f"{removed}: missing" in problem for problem in report.problems) and len(report.problems) == 2
    assert sorted(report.skip) == sorted(file.relative_to(tmp_path).as_posix() for file in (files[0], removed))


@pytest.mark.parametrize("name", ["coco", "voc", "stanford_dogs"])
def test_an_image_of_another_size(tmp_path: Path, name: str) -> None:
    files = _damaged(name, tmp_path)
    Image.new("RGB", (33, 44)).save(files[1])
    report = _checked(name, tmp_path)
    assert any("is 33x44 pixels but its annotations say" in problem for problem in report.problems)
    assert report.skip == [files[1].relative_to(tmp_path).as_posix()]


def test_an_image_of_both_parts(tmp_path: Path) -> None:
    """The same picture under another name, re-encoded pictures under one id, and one name in two lists."""
    files = _damaged("voc", tmp_path)
    shutil.copy(files[-1], files[0])
    last, first = (tmp_path / "Annotations" / f"{file.stem}.xml" for file in (files[-1], files[0]))
    shutil.copy(last, first)
    with (tmp_path / "ImageSets" / "Main" / "val.txt").open("a") as listing:
        listing.write(f"\n{files[1].stem}\n")
    report = _checked("voc", tmp_path)
    assert any("train and validation share 2 identical images" in problem for problem in report.problems)
    assert any("train and validation share 1 images of one id" in problem for problem in report.problems)
    assert {Path(name).stem for name in report.skip} == {files[0].stem, files[1].stem}


def _shares(content: dict[str, Any]) -> None:
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for one in content["annotations"]:
        one["bbox"] = [number / side for number, side in zip(one["bbox"], 2 * sizes[one["image_id"]], strict=True)]


def test_labels_in_other_units_and_unknown_classes(tmp_path: Path) -> None:
    _damaged("coco", tmp_path)
    _json(tmp_path, "annotations/instances_val2017.json", _shares)
    _json(tmp_path, "annotations/instances_train2017.json", lambda c: c["annotations"][0].update(category_id=99))
    problems = _checked("coco", tmp_path).problems
    assert any("validation: boxes of an object within the first pixel; if they are shares" in one for one in problems)
    assert any("is of category 99 which is none of COCO's 80" in one for one in problems)
    (tmp_path / "annotations" / "instances_train2017.json").write_text('{"images": [')
    problems = _checked("coco", tmp_path).problems
    assert any("instances_train2017.json: damaged (no JSON" in one for one in problems)


def _exchanged(content: dict[str, Any]) -> None:
    for one in content["annotations"]:
        numbers = one["keypoints"]
        numbers[::3], numbers[1::3] = numbers[1::3], numbers[::3]


def test_points_that_contradict_their_boxes(tmp_path: Path) -> None:
    _damaged("coco_keypoints", tmp_path)
    _json(tmp_path, "annotations/person_keypoints_train2017.json", _exchanged)
    problems = _checked("coco_keypoints", tmp_path).problems
    (problem,) = [one for one in problems if "they disagree" in one]
    assert problem.startswith("train: ") and "in boxes read as x and y exchanged" in problem


def test_boxes_that_annotations_cannot_have(tmp_path: Path) -> None:
    files = _damaged("voc", tmp_path)
    file = tmp_path / "Annotations" / f"{files[0].stem}.xml"
    tree = ElementTree.parse(file)
    box = tree.find("object/bndbox")
    assert box is not None
    low, high = box.find("xmin"), box.find("xmax")
    assert low is not None and high is not None
    low.text, high.text = high.text, low.text
    tree.write(file)
    (problem,) = _checked("voc", tmp_path).problems
    assert "their boxes have no area or their sides in the wrong order" in problem and str(files[0]) in problem


def test_the_command_writes_report_and_skip_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    files = _damaged("voc", tmp_path / "data")
    files[0].unlink()
    words = ["data", "check", "--root", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main([*words, "--format", "voc"]) == 1
    printed = capsys.readouterr()
    skip = tmp_path / "out" / "skip.txt"
    assert f"or leave 1 images out by skip: {skip}" in printed.err and "\n" not in printed.err.strip()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["skip"] == [f"JPEGImages/{files[0].name}"]
    assert (tmp_path / "out" / "report.txt").read_text() == printed.out
    sound = check(named("voc")(root=str(tmp_path / "data"), skip=str(skip)))  # type: ignore[call-arg]
    assert sound.ok and sound.splits["train"].read == COPIED - 1
    assert main([*words, "--format", "vo"]) == 1
    assert "no data set 'vo'; did you mean 'voc'" in capsys.readouterr().err
    assert main(words) == 1 and "--root is of a --format" in capsys.readouterr().err
    assert main(["data", "check"]) == 1 and "give --format NAME --root FOLDER" in capsys.readouterr().err
