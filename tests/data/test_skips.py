"""Skip lists: who is left out, by id, by path, of which split; and that the report's list makes the data sound."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_taskonomy.data.doctor import check
from lightning_taskonomy.data.folder import FolderDataModule
from lightning_taskonomy.data.rooms import RoomsDataModule
from lightning_taskonomy.data.skips import write_skips
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Task, TaskKind

torch.set_num_threads(1)
TASKS: list[str | Task] = [Task("depth", TaskKind.DENSE, "depth")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training and three validation images, no two alike."""
    for split, count in (("train", 6), ("validation", 3)):
        for number in range(count):
            for key in ("image", "depth"):
                (tmp_path / split / key).mkdir(parents=True, exist_ok=True)
                pixels = np.full((8, 8), 10 * number + (split == "train") + 1, np.uint8)
                pixels[0] += 1
                Image.fromarray(pixels).save(tmp_path / split / key / f"{number}.png")
    return tmp_path


def module(root: Path, skip: Path | None = None, **options: int) -> FolderDataModule:
    keys = ["image", "depth"]
    return FolderDataModule(str(root), tasks=TASKS, keys=keys, skip=None if skip is None else str(skip), **options)


def test_ids_and_paths_are_left_out_of_every_loader(root: Path) -> None:
    everything = module(root).dataset("train")
    ids = [int(everything[index]["id"]) for index in range(6)]
    lines = [
        "# a comment",
        str(ids[4]),
        "train/image/0.png",
        str(root / "train" / "image" / "2.png"),
        "",
        "other/9.png",
    ]
    (root / "skip.txt").write_text("\n".join([*lines, "validation\\image\\1.png"]))
    data = module(root, root / "skip.txt", batch_size=8)
    assert [int(number) for batch in data.train_dataloader() for number in batch["id"].sort().values] == sorted(
        ids[index] for index in (1, 3, 5)
    )
    assert sum(len(batch["id"]) for batch in data.val_dataloader()) == 2
    half = module(root, root / "skip.txt", fit_size=2)
    half.validation_share = 0.34
    parts = [half.dataset("train", part=part).indices for part in ("fit", "validation")]
    assert sorted([*parts[0], *parts[1]]) == [1, 3, 5]


def test_what_the_doctor_lists_is_skipped_and_then_all_is_well(root: Path) -> None:
    """A file cut short, a label of another size, and a training image that is a validation image too."""
    broken = root / "train" / "image" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    Image.fromarray(np.ones((4, 4), np.uint8)).save(root / "train" / "depth" / "3.png")
    shutil.copy(root / "validation" / "image" / "2.png", root / "train" / "image" / "5.png")
    report = check(module(root), splits=("train", "validation"), compare=0)
    assert sorted(report.skip) == [f"train/image/{number}.png" for number in (1, 3, 5)] and len(report.problems) == 3
    write_skips(root / "skip.txt", report.skip)
    again = check(module(root, root / "skip.txt"), splits=("train", "validation"), compare=0)
    assert again.ok and again.skip == [] and again.splits["train"].read == 3
    assert "train: 3 images are skipped, as asked" in again.notes


def test_bad_lists(root: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: missing"):
        module(root, root / "none.txt").dataset("train")
    write_skips(root / "skip.txt", [f"train/image/{number}.png" for number in range(6)])
    with pytest.raises(InputError, match=r"skip\.txt names all images of split 'train'; leave some"):
        module(root, root / "skip.txt").dataset("train")
    rooms = RoomsDataModule(
        size=32, views=2, train_buildings=2, validation_buildings=1, keys=["image"], skip=str(root / "skip.txt")
    )
    with pytest.raises(InputError, match="these samples have neither files nor ids"):
        rooms.dataset("train")
