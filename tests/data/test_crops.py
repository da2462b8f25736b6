"""Crops with at least one whole object, and whole images at one scale: against geometry done again."""

import math
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from lightning_taskonomy.data.base import TaskDataModule
from lightning_taskonomy.data.crops import WholeImage, WholeObjectCrop
from lightning_taskonomy.data.transforms import Joint
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import Label, LabelKind, presence
from lightning_taskonomy.tasks.catalog.objects import detection, keypoints

torch.set_num_threads(1)
TASKS = [detection("things", ["cup", "bowl"], crowds=True), keypoints("marks", ["l", "r"], [1, 0], [0.1, 0.1])]
LABELS = {key: label for task in TASKS for key, label in task.targets.items()}
LABELS["masks"] = Label("masks", LabelKind.MASKS, objects="masked")
HEIGHT, WIDTH = 30, 44
NAN = math.nan


def sample(boxes: list[list[float]], points: list[list[list[float]]] | None = None) -> dict[str, Tensor]:
    """A picture whose red and green are the column and row of each pixel, so that a crop says where it was taken."""
    row, column = torch.meshgrid(torch.arange(HEIGHT * 1.0), torch.arange(WIDTH * 1.0), indexing="ij")
    count = len(boxes)
    return {
        "image": torch.stack([column + 1, row + 1, row]),
        "semantic": (row * WIDTH + column).long(),
        "boxes": torch.tensor(boxes).reshape(count, 4),
        "object_classes": torch.arange(count) % 2,
        "crowd_boxes": torch.tensor([[0.0, 0.0, 3.0, 3.0]]),
        "crowd_classes": torch.tensor([-100]),
        "points": torch.tensor(points).reshape(count, 2, 2) if points else torch.full((count, 2, 2), NAN),
        presence("boxes"): torch.tensor(True),
        "id": torch.tensor(1),
    }


def crops(transform: torch.nn.Module, entry: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    torch.manual_seed(0)
    joint = Joint([transform], LABELS)
    return [joint(dict(entry)) for _ in range(count)]


def place(crop: dict[str, Tensor]) -> tuple[int, int]:
    """Top and left of a crop without padding, by its colours."""
    return int(crop["image"][1, 0, 0]) - 1, int(crop["image"][0, 0, 0]) - 1


def test_all_crops_with_a_whole_box_come_and_no_other() -> None:
    boxes = [[3.0, 4.0, 11.5, 12.0], [30.2, 15.0, 36.0, 27.0], [0.0, 0.0, 40.0, 29.0]]
    height, width = 14, 12
    allowed = {
        (top, left)
        for top in range(HEIGHT - height + 1)
        for left in range(WIDTH - width + 1)
        if any(left <= a and top <= b and c <= left + width and d <= top + height for a, b, c, d in boxes)
    }
    made = crops(WholeObjectCrop([height, width]), sample(boxes), 600)
    drawn = [place(crop) for crop in made]
    assert set(drawn) == allowed and len(allowed) < 60
    counts = torch.tensor([drawn.count(one) for one in allowed]) / 600
    assert (counts - 1 / len(allowed)).abs().max() < 4 * (1 / len(allowed) / 600) ** 0.5  # all alike, at four sigma


def test_labels_follow_the_crop() -> None:
    boxes = [[3.0, 4.0, 11.0, 12.0], [8.0, 6.0, 16.0, 20.0]]
    points = [[[4.0, 5.0], [10.0, 11.0]], [[9.0, 7.0], [NAN, NAN]]]
    for crop in crops(WholeObjectCrop(12), sample(boxes, points), 20):
        top, left = place(crop)
        shift = torch.tensor([left, top, left, top])
        moved = (torch.tensor(boxes) - shift).clamp(0, 12)
        there = (moved[:, 2:] > moved[:, :2]).all(1)
        moved_points = torch.tensor(points) - shift[:2]
        inside = ((moved_points >= 0) & (moved_points <= 12)).all(-1, keepdim=True)
        assert torch.equal(crop["boxes"], moved[there])
        assert torch.equal(crop["object_classes"], torch.arange(2)[there])
        assert torch.allclose(crop["points"], torch.where(inside, moved_points, NAN)[there], equal_nan=True)
        assert crop["semantic"].shape == crop["image"].shape[1:] == (12, 12)
        assert crop["semantic"][0, 0] == top * WIDTH + left
        crowd = 3 - torch.tensor([left, top])
        assert len(crop["crowd_boxes"]) == len(crop["crowd_classes"]) == int((crowd > 0).all())


@pytest.mark.parametrize("boxes", [[], [[1.0, 1.0, 20.0, 20.0]]], ids=["none", "too large"])
def test_without_an_object_that_fits_it_is_a_random_crop(boxes: list[list[float]]) -> None:
    made = crops(WholeObjectCrop(8), sample(boxes), 60)
    assert len({place(crop) for crop in made}) > 40
    for crop in made:
        if len(crop["boxes"]):
            assert (crop["boxes"] >= 0).all() and (crop["boxes"] <= 8).all()
    assert any(len(crop["boxes"]) for crop in made) == bool(boxes)


def test_a_box_that_no_whole_pixels_contain_does_not_count() -> None:
    made = crops(WholeObjectCrop(8), sample([[10.5, 10.0, 18.4, 18.0]]), 60)  # 7.9 wide, between 10 and 19
    assert len({place(crop) for crop in made}) > 40


def test_a_small_image_is_padded_with_what_is_missing() -> None:
    (crop,) = crops(WholeObjectCrop([40, 50]), sample([[3.0, 4.0, 11.0, 12.0]]), 1)
    assert crop["image"].shape == (3, 40, 50) and crop["semantic"].shape == (40, 50)
    rows, columns = (crop["semantic"] != -100).nonzero().T
    top, left = int(rows.min()), int(columns.min())
    assert (int(rows.max()) - top + 1, int(columns.max()) - left + 1) == (HEIGHT, WIDTH)
    assert torch.equal(crop["boxes"], torch.tensor([[3.0 + left, 4.0 + top, 11.0 + left, 12.0 + top]]))
    assert (crop["image"][:, :top] == 0).all()


def test_points_and_masks_may_say_where_objects_are() -> None:
    points = [[[4.0, 5.0], [10.0, 11.0]], [[20.0, 21.0], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]]]
    entry = sample([[0.0, 0.0, 44.0, 30.0]] * 3, points)
    for crop in crops(WholeObjectCrop(8, key="points"), entry, 40):
        top, left = place(crop)
        assert (left <= 4 and top <= 5 and left + 8 >= 10 and top + 8 >= 11) or (
            left <= 20 <= left + 8 and top <= 21 <= top + 8
        )
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 5:9, 7:12] = True
    for crop in crops(WholeObjectCrop(6, key="masks"), {"image": entry["image"], "masks": masks}, 20):
        top, left = place(crop)
        assert top <= 5 and top + 6 >= 9 and left <= 7 and left + 6 >= 12
        assert int(crop["masks"].sum()) == 20


def test_what_is_no_set_of_objects_and_no_size_are_refused() -> None:
    with pytest.raises(InputError, match="a Classes is none"):
        crops(WholeObjectCrop(6, key="semantic"), sample([]), 1)
    with pytest.raises(InputError, match="size 0"):
        WholeObjectCrop(0)


def test_the_augmentation_of_the_paper_keeps_boxes_on_their_pixels() -> None:
    """Mirror, rescaling and crop: the colours at a box's middle still say which place of the image it is."""
    transforms = [v2.RandomHorizontalFlip(), v2.ScaleJitter([40, 40], [0.8, 1.6]), WholeObjectCrop(24)]
    torch.manual_seed(1)
    joint, whole = Joint(transforms, LABELS), 0
    for _ in range(20):
        moved = joint(sample([[10.0, 8.0, 16.0, 14.0]]))
        assert moved["image"].shape == (3, 24, 24) and len(moved["boxes"]) == 1
        left, top, right, bottom = moved["boxes"][0].tolist()
        assert right - left == pytest.approx(bottom - top, abs=0.5), "the shape is kept, to a pixel"
        if min(left, top) > 1 and max(right, bottom) < 23:
            colour = moved["image"][:2, int((top + bottom) / 2), int((left + right) / 2)]
            assert colour.tolist() == pytest.approx([13.5, 11.5], abs=1.1)
            whole += 1
    assert whole > 5


def test_torchvisions_rescaling_counts_width_before_height() -> None:
    moved = Joint([v2.ScaleJitter([22, 15], [1.0, 1.0])], LABELS)(sample([]))
    assert moved["image"].shape[1:] == (15, 22)


@pytest.mark.parametrize(
    ("size", "expected"), [((15, 44), (15, 22)), ((60, 44), (30, 44)), ((60, 66), (45, 66)), ((7, 100), (7, 10))]
)
def test_a_whole_image_fits_with_one_side(size: tuple[int, int], expected: tuple[int, int]) -> None:
    moved = Joint([WholeImage(size)], LABELS)(sample([[4.0, 6.0, 22.0, 15.0]]))
    assert moved["image"].shape[1:] == moved["semantic"].shape == expected
    down, across = expected[0] / HEIGHT, expected[1] / WIDTH
    assert moved["boxes"][0].tolist() == pytest.approx([4 * across, 6 * down, 22 * across, 15 * down], abs=1e-4)


class Mixed(TaskDataModule):
    """Images of different sizes."""

    @property
    def keys_offered(self) -> Collection[str]:
        return ("image", "semantic")

    def build(self, split: str, keys: Collection[str]) -> Any:
        sizes = [(20, 30), (40, 30), (16, 48)]
        return [
            {"image": torch.rand(3, *size), "semantic": torch.ones(size, dtype=torch.long), "id": torch.tensor(index)}
            for index, size in enumerate(sizes)
        ]


def test_images_of_different_sizes_are_evaluated_one_by_one() -> None:
    keys, crop = ["image", "semantic"], [v2.RandomCrop(16, pad_if_needed=True)]
    data = Mixed(keys=keys, evaluation_size=(24, 24), transforms=crop, batch_size=3, validation_share=0.34)
    expected = {0: (16, 24), 1: (24, 18), 2: (8, 24)}
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        batches = list(loader)
        assert [tuple(batch["image"].shape) for batch in batches] == [(1, 3, *size) for size in expected.values()]
        assert all(batch["semantic"].shape[1:] == batch["image"].shape[2:] for batch in batches)
    (held_out,) = data.val_dataloader()
    assert tuple(held_out["image"].shape[2:]) == expected[int(held_out["id"])]
    (trained,) = data.train_dataloader()
    assert trained["image"].shape == (2, 3, 16, 16)


def test_no_size_to_evaluate_at_is_refused() -> None:
    with pytest.raises(InputError, match="evaluation_size is"):
        Mixed(evaluation_size=(0, 10))
