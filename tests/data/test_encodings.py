"""What the numbers of a folder's label files mean: each kind of label, each thing an encoding says, each refusal."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lightning_taskonomy.batch import labelled_keys
from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.data.encodings import Encoding
from lightning_taskonomy.data.folder import FolderDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, Task, TaskKind, presence

torch.set_num_threads(1)
HEIGHT, WIDTH = 6, 8
WATER = Task("water", TaskKind.SEGMENTATION, "water", 2)
SEGMENTS = Task("segments", TaskKind.GROUPING, "segments", 16)
DEPTH = Task("depth", TaskKind.DENSE, "depth")
FACING = Task("facing", TaskKind.NORMALS, "facing", 3)
WEATHER = Task("weather", TaskKind.CLASSIFICATION, "weather", 5)
STEERING = Task("steering", TaskKind.VECTOR, "steering", 2)
DISKS = Task(
    "disks", TaskKind.SET, "boxes", head="math.sin", loss="math.sin", score="math.sin", decode="math.sin",
    labels=(
        Label("boxes", LabelKind.BOXES, 4),
        Label("marks", LabelKind.POINTS, 2),
        Label("sorts", LabelKind.OBJECT_CLASSES, 3),
        Label("shapes", LabelKind.MASKS),
    ),
)  # fmt: skip


def classes_of(count: int) -> Task:
    return Task("many", TaskKind.SEGMENTATION, "many", count)


def save(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        file.write_text(content)
    elif file.suffix == ".npy":
        np.save(file, content)
    else:
        Image.fromarray(content).save(file)
    return file


def picture(root: Path, name: str = "a", split: str = "train") -> None:
    rng = np.random.default_rng([*name.encode(), *split.encode()])
    save(root / split / "image" / f"{name}.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def data(root: Path, *tasks: Task, **options: Any) -> FolderDataModule:
    return FolderDataModule(str(root), tasks=[*tasks], **options)


def read(root: Path, task: Task, content: Any, encoding: Encoding | None = None, suffix: str = ".png") -> torch.Tensor:
    """The label at the task's target, written as a file of one image."""
    picture(root)
    save(root / "train" / task.target / f"a{suffix}", content)
    module = data(root, task, encodings=None if encoding is None else {task.target: encoding})
    return module.build("train", ["image", task.target])[0][task.target]


def tiled(*numbers: float, dtype: Any = np.uint8) -> NDArray[Any]:
    """A map with these numbers from left to right, over and over."""
    return np.resize(np.array(numbers, dtype), (HEIGHT, WIDTH))


# Classes


def test_scale_offset_and_table_act_on_classes(tmp_path: Path) -> None:
    """ADE20K counts from 1 and has 0 for what is no class; a mask may be 0 and 255, or 0 and 1 in one bit."""
    ade = read(tmp_path, classes_of(5), tiled(0, 1, 2, 3, 4, 5), Encoding(offset=-1, missing=(0,)))
    assert ade.tolist() == tiled(-100, 0, 1, 2, 3, 4, dtype=int).tolist()
    mask = tiled(0, 255)
    for encoding in (Encoding(classes={0: 0, 255: 1}), Encoding(scale=1 / 255), Encoding(scale=0.00392157)):
        assert read(tmp_path, WATER, mask, encoding).tolist() == tiled(0, 1, dtype=int).tolist()
    assert read(tmp_path, WATER, mask.astype(bool)).tolist() == tiled(0, 1, dtype=int).tolist()
    table = Encoding(classes={7: 0, 8: 0, 9: 1}, missing=(0,))
    assert read(tmp_path, WATER, tiled(7, 8, 9, 0), table).tolist() == tiled(0, 0, 1, -100, dtype=int).tolist()
    assert int(read(tmp_path, WEATHER, "4", Encoding(offset=-1), ".txt")) == 3
    assert int(read(tmp_path, WEATHER, "9", Encoding(missing=(9,)), ".txt")) == -100


def test_255_is_missing_in_8_bits_where_it_is_no_class(tmp_path: Path) -> None:
    stored = tiled(0, 1, 255)
    void = [0, 1, -100, 0, 1, -100, 0, 1]
    assert read(tmp_path, classes_of(255), stored)[0].tolist() == void
    for task, content, encoding in (
        (classes_of(256), stored, None),  # a class of its own
        (classes_of(1000), stored, None),
        (SEGMENTS, stored, None),  # a segment like any other
        (classes_of(1000), stored.astype(np.uint16), None),
        (classes_of(256), stored, Encoding()),
    ):
        assert read(tmp_path, task, content, encoding)[0].tolist() == [0, 1, 255, 0, 1, 255, 0, 1]
    assert read(tmp_path, classes_of(1000), stored, Encoding(missing=(255,)))[0].tolist() == void
    with pytest.raises(InputError, match=r"holds class 255 at 16 of 48 pixels"):
        read(tmp_path, classes_of(4), stored.astype(np.uint16))


def test_300_segments_are_kept_apart(tmp_path: Path) -> None:
    picture(tmp_path)
    save(tmp_path / "train" / "image" / "a.png", np.zeros((20, 15, 3), np.uint8))
    segments = np.random.default_rng(0).permutation(300).reshape(20, 15).astype(np.uint16) + 200
    save(tmp_path / "train" / "segments" / "a.png", segments)
    labels = data(tmp_path, SEGMENTS).build("train", ["image", "segments"])[0]["segments"]
    assert labels.tolist() == segments.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_a_missing_class_and_fractions_are_refused(tmp_path: Path, dtype: Any) -> None:
    classes = read(tmp_path, classes_of(5), tiled(np.nan, 0, 4, dtype=dtype), suffix=".npy")
    assert classes.dtype == torch.int64 and classes.tolist() == tiled(-100, 0, 4, dtype=int).tolist()
    with pytest.raises(InputError, match=r"a\.npy holds 2\.\d+, which is not a class number \(24 such of 48\)"):
        read(tmp_path, classes_of(5), tiled(2.7, 1, dtype=dtype), suffix=".npy")
    with pytest.raises(InputError, match=r"a\.txt holds 2\.5, which is not a class number"):
        read(tmp_path, WEATHER, "2.5", suffix=".txt")


@pytest.mark.parametrize(
    ("task", "content", "encoding", "message"),
    [
        (classes_of(3), tiled(0, 7, 9, 0), None,
         r"holds class 7 at 12 of 48 pixels and 1 more classes, but task 'many' has classes 0 to 2; .*encodings\.many"),
        (classes_of(3), tiled(0, 1), Encoding(offset=-1), r"holds class -1 at 24 of 48 pixels"),
        (classes_of(3), tiled(0, 5), Encoding(classes={0: 0}), r"holds 5 at 24 of 48 places, which is in neither"),
        (classes_of(3), tiled(0, 1), Encoding(classes={0: 0, 1: 3}), r"holds class 3 at 24 of 48 pixels"),
        (classes_of(3), tiled(0, 5), Encoding(scale=0.5), r"holds 2\.5, which is not a class number"),
    ],
)  # fmt: skip
def test_classes_that_do_not_fit(tmp_path: Path, task: Task, content: Any, encoding: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, task, content, encoding)
    assert str(tmp_path / "train" / "many" / "a.png") in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_act_is_refused(tmp_path: Path) -> None:
    picture(tmp_path)
    for name, task, key, encoding in (
        ("gives classes, which cannot act on values", DEPTH, "depth", Encoding(classes={0: 1})),
        ("gives missing, which cannot act on boxes", DISKS, "boxes", Encoding(missing=(-1,))),
        ("gives scale and offset, which cannot act on masks", DISKS, "shapes", Encoding(scale=2)),
        ("is a picture and not a label", WATER, "image", Encoding(scale=2)),
    ):
        with pytest.raises(InputError, match=name):
            data(tmp_path, task, encodings={key: encoding}).build("train", ["image"])
    for wrong in ({"scale": 0}, {"scale": float("nan")}, {"offset": float("inf")}, {"offset": 1, "classes": {0: 1}}):
        with pytest.raises(InputError, match="an encoding has"):
            Encoding(**wrong)  # type: ignore[arg-type]


# Values


@pytest.mark.parametrize("mark", [-9999.9, 1e20, 65535.0])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_missing_values_of_float_files(tmp_path: Path, mark: float, suffix: str) -> None:
    stored = tiled(mark, 2.5, dtype=np.float32)
    depth = read(tmp_path, DEPTH, stored, Encoding(missing=(mark,)), suffix)[0]
    assert depth.isnan().equal(torch.tensor(tiled(1, 0).astype(bool))) and (depth[:, 1::2] == 2.5).all()


def test_infinite_values_are_missing(tmp_path: Path) -> None:
    depth = read(tmp_path, DEPTH, tiled(np.inf, -np.inf, 1, 2, dtype=np.float32), suffix=".npy")
    assert depth[0, 0].isnan().tolist() == [True, True, False, False] * 2


@pytest.mark.parametrize(("dtype", "middle"), [(np.uint8, 127.5), (np.uint16, 32767.5)])
def test_normals_in_unsigned_integers_lie_about_the_middle(tmp_path: Path, dtype: Any, middle: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[0, 0] = 0, 0, -1
    stored = np.rint(vectors * middle + middle).astype(dtype)
    normals = read(tmp_path, FACING, stored, suffix=".npy")
    torch.testing.assert_close(normals, torch.tensor(vectors).permute(2, 0, 1).float(), atol=1.5 / middle, rtol=0)
    stored[0, 1] = 0
    normals = read(tmp_path / "other", FACING, stored, Encoding(missing=(0,)), ".npy")
    assert normals.isnan().sum() == 3 and normals[:, 0, 1].isnan().all()


def test_vectors_by_commas_and_semicolons(tmp_path: Path) -> None:
    for text in ("0.5 -2.25", "0.5, -2.25", "0.5;-2.25\n", "\ufeff0.5\n-2.25\n"):
        assert read(tmp_path, STEERING, text, suffix=".txt").tolist() == [0.5, -2.25]


# Files


def test_names_of_label_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "ab":
        picture(tmp_path, name)
    folder = tmp_path / "train" / "water"
    save(folder / "a.npy", tiled(0, 1)).rename(folder / "a.NPY")
    (folder / "._a.png").write_bytes(b"\0\5\26\7")
    (folder / "b.jpg").write_bytes(b"")
    samples = data(tmp_path, WATER).build("train", ["image", "water"])
    assert samples[0]["water"].tolist() == tiled(0, 1, dtype=int).tolist() and (samples[1]["water"] == -100).all()
    assert f"skipped {folder}: 1 files are not read, such as b.jpg; labels end in .npy, .txt" in caplog.text
    save(folder / "a.png", tiled(0, 1))
    with pytest.raises(InputError, match=r"water/a\.NPY and .*water/a\.png would both be 'a'"):
        data(tmp_path, WATER).build("train", ["image", "water"])


def reason(root: Path, *tasks: Task) -> str | None:
    """Why a fit is refused at its start."""
    module = data(root, *tasks)
    samples = module.build("train", ["image", tasks[0].target])
    reason: str | None = samples.unlabelled(tasks[0].target, range(len(samples)))  # type: ignore[attr-defined]
    return reason


def test_why_there_is_nothing_to_learn_from(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path, name)
        save(tmp_path / "train" / "watre" / f"{name}.png", tiled(0, 1))
    folder = tmp_path / "train" / "water"
    assert f"there is no folder {folder}; did you mean 'watre'?" == reason(tmp_path, WATER)
    folder.mkdir()
    assert f"{folder} is empty" in str(reason(tmp_path, WATER))
    for name in "abc":
        save(folder / f"{name}.jpg", tiled(0, 1))
    assert f"{folder} holds 3 of .jpg; labels end in .npy, .txt" in str(reason(tmp_path, WATER))
    report = check(data(tmp_path, WATER), splits=["train"])
    assert not report.ok and any("no image has a label water: " in problem for problem in report.problems)
    assert any("3 files are not read, such as a.jpg" in problem for problem in report.problems)
    for name in "abc":
        (folder / f"{name}.png").write_bytes(b"no picture")
    assert f"of 3 files none can be read, such as {folder / 'a.png'}: damaged" in str(reason(tmp_path, WATER))
    for name in "abc":
        save(folder / f"{name}.png", tiled(255))
    assert f"nothing but missing values in 3 files, such as {folder / 'a.png'}" == reason(tmp_path, WATER)
    save(folder / "c.png", tiled(255, 255, 255, 1))
    assert reason(tmp_path, WATER) is None


def test_masks_of_0_and_255_are_pointed_out(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path, name)
        save(tmp_path / "train" / "water" / f"{name}.png", tiled(0, 255))
    report = check(data(tmp_path, WATER), splits=["train"])
    assert any("encodings: {water: {classes: {0: 0, 255: 1}}}" in problem for problem in report.problems)
    mended = check(data(tmp_path, WATER, encodings={"water": Encoding(classes={0: 0, 255: 1})}), splits=["train"])
    assert mended.ok and mended.splits["train"].keys["water"].histogram == {0: 48, 1: 48}
    save(tmp_path / "train" / "water" / "b.png", tiled(1, 255))  # of two images, each with one class
    assert check(data(tmp_path, WATER), splits=["train"]).ok


def test_absurd_ranges_are_named(tmp_path: Path) -> None:
    for name, mark in (("a", -9999.9), ("b", 1e20)):
        picture(tmp_path / name)
        save(tmp_path / name / "train" / "depth" / "a.tif", tiled(mark, 2.5, dtype=np.float32))
        (problem,) = check(data(tmp_path / name, DEPTH), splits=["train"]).problems
        assert "depth " in problem and "which usually means no measurement" in problem and "24 times" in problem
        right = data(tmp_path / name, DEPTH, encodings={"depth": Encoding(missing=(mark,))})
        assert check(right, splits=["train"]).ok


# Sets


def objects(root: Path, name: str = "a", **files: Any) -> None:
    picture(root, name)
    for key, content in files.items():
        suffix = ".txt" if isinstance(content, str) else ".npy" if content.ndim == 3 else ".png"
        save(root / "train" / key / f"{name}{suffix}", content)


def sample_of(root: Path, *, index: int = 0, **options: Any) -> dict[str, torch.Tensor]:
    return dict(data(root, DISKS, **options).build("train", ["image", "boxes", "marks", "sorts", "shapes"])[index])


def test_objects_are_read_as_they_are_written(tmp_path: Path) -> None:
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[1:3, 1:3], numbers[2:4, 4:7] = 9, 4
    objects(tmp_path, boxes="1,1,3,3\n4;2;7;4\n", marks="1.5,1.5,,\n5 3 nan nan\n", sorts="2\n0\n", shapes=numbers)
    sample = sample_of(tmp_path)
    assert sample["boxes"].tolist() == [[1, 1, 3, 3], [4, 2, 7, 4]]
    assert sample["marks"].nan_to_num(-1).tolist() == [[[1.5, 1.5], [-1, -1]], [[5, 3], [-1, -1]]]
    assert sample["sorts"].tolist() == [2, 0] and sample["sorts"].dtype == torch.int64
    assert sample["shapes"].dtype == torch.bool  # in the order of their numbers, so 4 before 9
    assert sample["shapes"].tolist() == [(numbers == 4).tolist(), (numbers == 9).tolist()]
    assert all(sample[presence(key)] for key in ("boxes", "marks", "sorts", "shapes"))
    overlapping = np.stack([numbers > 0, numbers == 4])
    (tmp_path / "train" / "shapes" / "a.png").unlink()
    objects(tmp_path, shapes=overlapping)
    assert sample_of(tmp_path)["shapes"].tolist() == overlapping.tolist()


def test_no_object_and_no_label_are_two_things(tmp_path: Path) -> None:
    objects(tmp_path, "a", boxes="", marks="\n", sorts="# none", shapes=np.zeros((HEIGHT, WIDTH), np.uint8))
    objects(tmp_path, "b", boxes="1 1 3 3")
    objects(tmp_path, "c", boxes=np.zeros((0, 4, 1)))
    picture(tmp_path, "d")
    keys = ["image", "boxes", "marks", "sorts", "shapes"]
    module = data(tmp_path, DISKS, keys=keys, batch_size=4)
    batch = next(iter(module.loader(module.dataset("train"))))
    assert batch["boxes_labelled"].tolist() == [True, True, True, False]
    assert batch["marks_labelled"].tolist() == [True, False, False, False]
    assert batch["boxes"].shape == (4, 1, 4) and batch["boxes"][1].tolist() == [[1, 1, 3, 3]]
    assert batch["marks"].shape == (4, 1, 2, 2) and batch["shapes"].shape == (4, 1, HEIGHT, WIDTH), "as many rows"
    assert batch["marks"].isnan().all() and not batch["shapes"].any(), "of which none is an object's"
    assert labelled_keys(batch) >= {"boxes", "marks", "sorts", "shapes"}
    summaries = check(module, splits=["train"]).splits["train"].keys
    assert [summaries[key].samples for key in keys] == [4, 3, 1, 1, 1] and "boxes_labelled" not in summaries


def test_objects_follow_a_resize(tmp_path: Path) -> None:
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    numbers[2:4, 4:6] = 1
    objects(tmp_path, "a", boxes="4 2 6 4", marks="5 3 nan nan", sorts="1", shapes=numbers)
    objects(tmp_path, "b", boxes="4 2 6 4")
    objects(tmp_path, "c", boxes="", marks="", sorts="", shapes=np.zeros((HEIGHT, WIDTH), np.uint8))
    size = (2 * HEIGHT, 3 * WIDTH)
    sample = sample_of(tmp_path, size=size)
    assert sample["boxes"].tolist() == [[12, 4, 18, 8]] and sample["sorts"].tolist() == [1]
    assert sample["marks"][0, 0].tolist() == [15, 6] and sample["marks"][0, 1].isnan().all()
    expected = torch.zeros(size, dtype=torch.bool)
    expected[4:8, 12:18] = True
    assert torch.equal(sample["shapes"][0], expected)
    partial = sample_of(tmp_path, index=1, size=size)
    assert partial["boxes"].tolist() == [[12, 4, 18, 8]] and not partial["sorts_labelled"]
    empty = sample_of(tmp_path, index=2, size=size)
    assert empty["boxes"].shape == (0, 4) and empty["boxes_labelled"] and empty["shapes"].shape == (0, *size)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"boxes": "1 1 3 3\n1 nan 3 3"}, r"boxes/a\.txt, row 2: the box 1, nan, 3, 3 has a number missing"),
        ({"boxes": "1 1 3 3\n4 1 4 3"}, r"boxes/a\.txt, row 2: the box 4, 1, 4, 3 has no area"),
        ({"boxes": "3 1 1 3"}, r"boxes/a\.txt, row 1: .*; a row is left, top, right, bottom"),
        ({"boxes": "1 1 3 3\n1 1 12 3"}, r"boxes/a\.txt, row 2: 1, 1, 12, 3 reaches beyond the image of 8x6 pixels"),
        ({"boxes": "1 1 3"}, r"boxes/a\.txt has shape \(1, 3\) instead of \(objects, 4\): boxes are left"),
        ({"marks": "1 1 3 3\n1 1 3 nan"}, r"marks/a\.txt, row 2: point 2 has one coordinate of two"),
        ({"marks": "-5 1 3 3"}, r"marks/a\.txt, row 1: -5, 1, 3, 3 reaches beyond the image"),
        ({"sorts": "0\n3"}, r"sorts/a\.txt holds class 3 at 1 of 2 numbers, but task 'disks' has classes 0 to 2"),
        ({"sorts": "0 1"}, r"wants one class per object"),
        ({"shapes": np.full((2, HEIGHT, WIDTH), 3)}, r"holds 3 in masks of \(objects, H, W\)"),
        ({"shapes": np.zeros((2, 3, 3), bool)}, r"is 3x3 pixels but its image .* is 8x6"),
        ({"boxes": "1 1 3 3\n4 2 7 4", "sorts": "1"}, r"boxes/a\.txt has 2 objects and .*sorts/a\.txt has 1"),
    ],
)
def test_objects_that_cannot_be(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    objects(tmp_path, **files)
    with pytest.raises(InputError, match=message) as caught:
        sample_of(tmp_path)
    assert "\n" not in str(caught.value)
    problems = check(data(tmp_path, DISKS), splits=["train"]).problems
    assert sum(str(caught.value) in problem for problem in problems) == 1


def test_a_box_may_end_on_the_edge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    objects(tmp_path, boxes=f"0 0 {WIDTH} {HEIGHT}\n-0.5 0 {WIDTH + 1} 3")
    assert len(sample_of(tmp_path)["boxes"]) == 2 and not caplog.text
