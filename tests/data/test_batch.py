"""Batches with labels missing: what is filled in, and in which shape."""

from typing import cast

import pytest
import torch

from lightning_taskonomy.batch import HELD_OUT, Batch, is_labelled
from lightning_taskonomy.data import TaskDataModule
from lightning_taskonomy.data.batch import Sample, blank, collate, missing_like
from lightning_taskonomy.data.pipeline import Pipeline
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import IGNORE_INDEX, catalog, keys_of, resolve


@pytest.mark.parametrize(
    ("name", "shape", "integer"),
    [
        ("depth_z", (1, 32, 48), False),
        ("normals", (3, 32, 48), False),
        ("semantic_segmentation", (32, 48), True),
        ("segmentation_2d", (32, 48), True),
        ("colorization", (8, 12), True),
        ("scene_classification", (), True),
        ("room_layout", (9,), False),
    ],
)
def test_blank_is_all_missing(name: str, shape: tuple[int, ...], integer: bool) -> None:
    task = catalog()[name]
    entry = blank(task, (32, 48))
    assert tuple(entry.shape) == shape == task.label.shape((32, 48))
    assert entry.dtype == (torch.int64 if integer else torch.float32)
    assert (entry == IGNORE_INDEX).all() if integer else entry.isnan().all()
    assert torch.equal(missing_like(torch.zeros_like(entry)).nan_to_num(7), entry.nan_to_num(7))


def test_collate_fills_what_some_lack() -> None:
    first = {"image": torch.zeros(3, 2, 2), "id": torch.tensor(4), "depth": torch.ones(1, 2, 2)}
    second = {"image": torch.ones(3, 2, 2), "id": torch.tensor(5), "scene": torch.tensor(2)}
    batch = collate([first, {}, second])
    assert batch["id"].tolist() == [4, 5] and batch["scene"].tolist() == [IGNORE_INDEX, 2]
    assert batch["depth"][0].eq(1).all() and batch["depth"][1].isnan().all()
    assert batch["image"].shape == (2, 3, 2, 2)


def test_a_batch_of_nothing_is_empty() -> None:
    assert collate([{}, {}]) == {}


def test_a_loader_passes_over_empty_batches_but_not_over_nothing_at_all() -> None:
    module = TaskDataModule(batch_size=2, keys=["image"])
    samples: list[Sample] = [{"image": torch.zeros(3, 2, 2), "id": torch.tensor(0)}, {}, {}, {}]
    batches = list(module.loader(cast(Pipeline, samples)))
    assert [batch["id"].tolist() for batch in batches] == [[0]]
    with pytest.raises(InputError, match="every image is missing or damaged"):
        list(module.loader(cast(Pipeline, samples[1:])))


def test_sizes_that_differ_are_said() -> None:
    with pytest.raises(InputError, match=r"'image' of shapes \(3, 2, 2\) and \(3, 2, 4\); give the data a size"):
        collate([{"image": torch.zeros(3, 2, 4)}, {"image": torch.zeros(3, 2, 2)}])


def test_keys_of_tasks() -> None:
    assert keys_of(resolve(["jigsaw", "normals", "inpainting"]).values()) == [
        "image", "image_masked", "image_tiles", "normals", "permutation",
    ]  # fmt: skip


def test_labels_that_are_not_tensors_are_labels_unless_they_are_none() -> None:
    assert is_labelled({"boxes": []}, "boxes") and not is_labelled({"boxes": None}, "boxes")
    assert not is_labelled({}, "boxes")


def test_a_batch_takes_the_one_that_it_carries_to_a_device_and_knows_its_labels_there() -> None:
    inner = Batch({"image": torch.zeros(2, 3, 2, 2), "depth": torch.full((2, 1, 2, 2), torch.nan)}, ["image"])
    outer = Batch({"image": torch.ones(2, 3, 2, 2)}, ["image"])
    outer[HELD_OUT] = cast(torch.Tensor, inner)
    moved = outer.to("meta")  # where no value can be asked for
    carried = cast(object, moved[HELD_OUT])
    assert isinstance(carried, Batch) and {entry.device.type for entry in carried.values()} == {"meta"}
    assert is_labelled(carried, "image") and not is_labelled(carried, "depth")
    assert moved.labelled == {"image", HELD_OUT} and moved["image"].is_meta
    assert not outer.is_pinned()


@pytest.mark.gpu
def test_a_batch_pins_the_one_that_it_carries() -> None:
    outer = Batch({"image": torch.ones(2, 3, 2, 2)}, ["image"])
    outer[HELD_OUT] = cast(torch.Tensor, Batch({"image": torch.zeros(2, 3, 2, 2)}, ["image"]))
    pinned = outer.pin_memory()
    assert pinned.is_pinned() and cast(Batch, pinned[HELD_OUT]).is_pinned()
    assert cast(Batch, pinned.to("cuda")[HELD_OUT])["image"].is_cuda
