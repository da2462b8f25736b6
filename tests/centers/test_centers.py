"""Target maps, losses and decoding by centre points against NumPy loops over objects, and both against each other."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer

from lightning_taskonomy import MultiTaskModule, centers
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules.objectives import objective, target_of
from lightning_taskonomy.pictures import caption, colorize
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog.objects import detection, keypoints

sys.path.insert(0, str(Path(__file__).parent))
import reference

NAMES = ("cat", "dog", "bird")
DETECTION = detection("things", NAMES, crowds=True)
POINTS = keypoints("people", ("left", "right", "nose"), (1, 0, 2), (0.1, 0.1, 0.05), crowds=True)
NAN = float("nan")


def objects_of(random, images, most, size=64, points=0):
    """Boxes of every number from 0 to ``most``, some over the border, in pixels; classes; points, some not marked."""
    boxes = torch.full((images, most, 4), NAN)
    classes = torch.full((images, most), -100)
    places = torch.full((images, most, points, 2), NAN)
    for image in range(images):
        count = image * most // max(1, images - 1)
        middle, half = random.uniform(-2, size + 2, (count, 2)), random.uniform(1, size / 3, (count, 2))
        boxes[image, :count] = torch.tensor(np.concatenate([middle - half, middle + half], 1))
        classes[image, :count] = torch.tensor(random.integers(0, len(NAMES), count))
        spots = random.uniform(-4, size + 4, (count, points, 2))
        spots[random.uniform(size=(count, points)) < 0.3] = NAN
        places[image, :count] = torch.tensor(spots)
    return boxes, classes, places


def target_for(boxes, classes=None, points=None, crowds=None, crowd_classes=None, labelled=None):
    images = len(boxes)
    flags = torch.ones(images, dtype=torch.bool) if labelled is None else torch.tensor(labelled)
    crowds = torch.zeros(images, 0, 4) if crowds is None else crowds
    crowd_classes = torch.full(crowds.shape[:2], -100) if crowd_classes is None else crowd_classes
    target = {"boxes": boxes, "crowd_boxes": crowds, "crowd_classes": crowd_classes}
    target |= {} if classes is None else {"object_classes": classes}
    target |= {} if points is None else {"points": points}
    return {**target, **{presence(key): flags for key in target}}


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_is_the_least_of_centernets_three_roots(seed):
    random = np.random.default_rng(seed)
    sizes = random.uniform(0, 200, (300, 2)) ** random.uniform(0.2, 1, (300, 1))
    radii = centers.gaussian_radius(torch.tensor(sizes)).tolist()
    assert radii == [reference.gaussian_radius(int(np.ceil(h)), int(np.ceil(w))) for w, h in sizes]
    assert centers.gaussian_radius(torch.zeros(1, 2)).tolist() == [0]


@pytest.mark.parametrize("size", [(16, 16), (9, 24), (1, 1)])
def test_heat_maps_equal_a_loop_over_objects(size):
    """Objects on the border, beyond it, one upon the other, and images without any."""
    random, (height, width) = np.random.default_rng(0), size
    boxes, classes, _ = objects_of(random, 5, 12, 4 * max(size))
    boxes[-1, 1], classes[-1, 1] = boxes[-1, 0], classes[-1, 0]  # twice the same
    seen = centers.centers_of(target_for(boxes, classes), DETECTION, size)
    radius = centers.gaussian_radius(seen.sizes).where(seen.valid, -1)
    planes = torch.arange(5)[:, None] * 3 + seen.classes
    heat = centers.heat_map(seen.middles.long().flatten(0, 1), radius.flatten(), planes.flatten(), (5, 3, *size))
    for image in range(5):
        wanted, cells, offset, sizes = reference.detection_maps(
            boxes[image].numpy() / 4, classes[image].tolist(), 3, height, width
        )
        np.testing.assert_allclose(heat[image], wanted, atol=2e-7)
        assert seen.valid[image].tolist() == (cells >= 0).all(1).tolist()
        there = seen.valid[image]
        middles = seen.middles[image][there]
        assert middles.long().tolist() == cells[there.numpy()].tolist()
        np.testing.assert_allclose(middles - middles.floor(), offset[there.numpy()], atol=1e-5)
        np.testing.assert_allclose(seen.sizes[image][there], sizes[there.numpy()], rtol=1e-5, atol=1e-6)
    assert heat.max() == 1 and heat[0].max() == 0, "the first image has no object"


def test_no_object_makes_an_empty_map():
    none = torch.zeros(0, dtype=torch.int64)
    assert centers.heat_map(none.view(0, 2), none, none, (2, 3, 4, 5)).sum() == 0
    seen = centers.centers_of(target_for(torch.zeros(2, 0, 4), torch.zeros(2, 0).long()), DETECTION, (4, 4))
    assert seen.valid.shape == (2, 0) and seen.labelled.all()


def test_near_objects_of_a_class_keep_their_peaks_where_a_sum_would_exceed_one():
    boxes = torch.tensor([[[0.0, 0, 40, 40], [8, 0, 48, 40]]])
    seen = centers.centers_of(target_for(boxes, torch.zeros(1, 2).long()), DETECTION, (16, 16))
    cells = seen.middles.long()[0]
    heat = centers.heat_map(cells, centers.gaussian_radius(seen.sizes)[0], seen.classes[0], (1, 3, 16, 16))
    assert cells.tolist() == [[5, 5], [7, 5]] and heat.max() == 1
    assert heat[0, 0, 5, [5, 7]].tolist() == [1, 1] and 0 < heat[0, 0, 5, 6] < 1


BAD = {
    "no width": (8.0, 8, 8, 24), "no height": (8.0, 8, 24, 8), "unordered": (24.0, 24, 8, 8), "left": (-20.0, 0, -1, 9),
    "below": (0.0, 64, 9, 80), "NaN": (NAN, 0, 8, 8), "infinite": (0, 0, float("inf"), 8),
    "minus infinity": (8, float("-inf"), 24, 24), "infinite both ways": (float("-inf"), 0, float("inf"), 8),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_boxes_that_are_none_leave_no_trace(case):
    good = torch.tensor([[[4.0, 4, 20, 28]]])
    preds = torch.randn(1, 7, 16, 16)
    alone = centers.detection_errors(preds, target_for(good, torch.ones(1, 1).long()), DETECTION)
    both = torch.cat([torch.tensor([[BAD[case]]]), good], 1)
    beside = centers.detection_errors(preds, target_for(both, torch.ones(1, 2).long()), DETECTION)
    torch.testing.assert_close(alone, beside)
    assert beside[1].tolist() == [[1, 1, 1]]


def test_a_class_beyond_the_table_is_refused_and_one_that_is_missing_is_no_object():
    boxes = torch.tensor([[[4.0, 4, 20, 28]]])
    with pytest.raises(InputError, match=r"task 'things': an object of class 3 among the labels, but the task has"):
        centers.centers_of(target_for(boxes, torch.full((1, 1), 3)), DETECTION, (16, 16))
    assert not centers.centers_of(target_for(boxes, torch.full((1, 1), -100)), DETECTION, (16, 16)).valid.any()


def test_maps_of_other_channels_are_refused():
    with pytest.raises(InputError, match=r"task 'things': predictions of shape \(1, 5, 4, 4\); its loss reads maps"):
        centers.detection_errors(torch.zeros(1, 5, 4, 4), target_for(torch.zeros(1, 0, 4)), DETECTION)


@pytest.mark.parametrize("crowded", [False, True])
def test_detection_errors_equal_the_formulas_object_by_object(crowded):
    random = np.random.default_rng(1)
    boxes, classes, _ = objects_of(random, 4, 6)
    preds = torch.tensor(random.normal(-1, 1, (4, 7, 16, 16))).float()
    crowds = torch.tensor([[[0.0, 0, 30, 22]], [[10, 10, 50, 64]], [[NAN] * 4], [[0, 40, 64, 64]]])
    crowd_classes = torch.tensor([[1], [-100], [-100], [2]])
    target = target_for(boxes, classes, labelled=[True, True, True, False])
    if crowded:
        target |= {"crowd_boxes": crowds, "crowd_classes": crowd_classes}
    sums, counts = centers.detection_errors(preds, target, DETECTION)
    for image in range(3):
        edges, kinds = boxes[image].numpy() / 4, classes[image].tolist()
        heat, cells, offset, size = reference.detection_maps(edges, kinds, 3, 16, 16)
        counted = np.ones_like(heat, bool)
        if crowded:
            for y in range(16):
                for x in range(16):
                    left, top, right, bottom = crowds[image, 0].numpy() / 4
                    if left < x + 0.5 < right and top < y + 0.5 < bottom:
                        kind = int(crowd_classes[image, 0])
                        counted[slice(None) if kind < 0 else kind, y, x] = False
        guess = preds[image].numpy()
        wanted = np.zeros(3)
        wanted[0] = reference.focal(guess[:3], heat, counted)
        for (x, y), shift, extent in zip(cells, offset, size, strict=True):
            if x >= 0:
                wanted[1] += np.abs(guess[3:5, y, x] - shift).sum()
                wanted[2] += 0.1 * np.abs(guess[5:7, y, x] - extent).sum()
        np.testing.assert_allclose(sums[image], wanted, rtol=2e-5)
        assert counts[image].tolist() == [(cells[:, 0] >= 0).sum()] * 3
    assert sums[3].tolist() == counts[3].tolist() == [0, 0, 0], "not labelled"
    score = centers.detection_score(preds, target, DETECTION)
    wanted = sums[0, 0] / counts[0, 0].clamp(min=1)
    assert score[3].isnan() and float(score[0]) == pytest.approx(float(wanted)), "no object, yet counted"


def test_the_loss_divides_each_term_by_its_count_over_the_batch():
    random = np.random.default_rng(2)
    boxes, _, points = objects_of(random, 3, 4, points=3)
    preds = torch.tensor(random.normal(-1, 1, (3, 16, 16, 16))).float()
    target = target_for(boxes, points=points)
    sums, counts = centers.keypoint_errors(preds, target, POINTS)
    total, count = objective(POINTS).total_and_count(preds, target)
    torch.testing.assert_close(total / count, sums.sum(0) / counts.sum(0))
    assert count.shape == (6,) and count[0] != count[3]


@pytest.mark.parametrize("task", [DETECTION, POINTS])
def test_a_batch_without_an_object_or_without_a_label_has_a_finite_loss_and_gradient(task):
    channels = 7 if task is DETECTION else 16
    preds = torch.randn(2, channels, 8, 8, requires_grad=True)
    for batch in ({"image": torch.zeros(2, 3, 32, 32), "boxes": torch.zeros(2, 0, 4),
                   "object_classes": torch.zeros(2, 0).long()}, {"image": torch.zeros(2, 3, 32, 32)}):  # fmt: skip
        total, count = objective(task).total_and_count(preds, target_of(task, batch, preds))
        (grad,) = torch.autograd.grad((total / count.clamp(min=1)).sum(), preds)
        assert total.isfinite().all() and grad.isfinite().all() and (count == 0).all()
        assert bool(grad.any()) is ("boxes" in batch), "an image without objects teaches, one without labels not"


def test_extreme_logits_have_finite_errors_and_gradients():
    logits = torch.tensor([-1e4, -90.0, 90.0, 1e4]).repeat(3, 1).requires_grad_()
    heat = torch.tensor([[0.0], [0.5], [1.0]]).expand(3, 4)
    error = centers.penalty_reduced_focal(logits, heat)
    error.sum().backward()
    assert error.isfinite().all() and logits.grad.isfinite().all() and (error >= 0).all()


def test_keypoint_errors_equal_the_formulas_object_by_object():
    random = np.random.default_rng(3)
    boxes, _, points = objects_of(random, 3, 5, points=3)
    points[2, 0] = NAN  # an object none of whose points is marked: nothing is said within its box
    preds = torch.tensor(random.normal(-1, 1, (3, 16, 16, 16))).float()
    sums, counts = centers.keypoint_errors(preds, target_for(boxes, points=points), POINTS)
    for image in range(3):
        edges, spots, guess = boxes[image].numpy() / 4, points[image].numpy() / 4, preds[image].numpy()
        heat, cells, offset, size = reference.detection_maps(edges, [0] * len(edges), 1, 16, 16)
        wanted, marked, counted = np.zeros(6), 0, np.ones((3, 16, 16), bool)
        point_heat = np.zeros((3, 16, 16), np.float32)
        for row, (x, y) in enumerate(cells):
            if x < 0:
                continue
            wanted[1] += np.abs(guess[1:3, y, x] - offset[row]).sum()
            wanted[2] += 0.1 * np.abs(guess[3:5, y, x] - size[row]).sum()
            inside = [k for k in range(3) if (spots[row, k] >= 0).all() and (spots[row, k] < 16).all()]
            left, top, right, bottom = np.clip(edges[row], 0, 16)
            if not inside:
                ys, xs = np.mgrid[:16, :16] + 0.5
                counted[:, (xs > left) & (xs < right) & (ys > top) & (ys < bottom)] = False
            for k in inside:
                u, v = spots[row, k]
                radius = reference.gaussian_radius(*np.ceil(size[row][::-1]).astype(int))
                reference.draw(point_heat[k], int(u), int(v), radius)
                wanted[4] += np.abs(guess[8:10, int(v), int(u)] - (u - int(u), v - int(v))).sum()
                way = np.array([u, v]) - ((left + right) / 2, (top + bottom) / 2)
                wanted[5] += np.abs(guess[10 + 2 * k : 12 + 2 * k, y, x] - way).sum()
                marked += 1
        wanted[0] = reference.focal(guess[:1], heat, np.ones_like(heat, bool))
        wanted[3] = reference.focal(guess[5:8], point_heat, counted)
        np.testing.assert_allclose(sums[image], wanted, rtol=2e-5)
        assert counts[image].tolist() == [(cells[:, 0] >= 0).sum()] * 3 + [marked] * 3


@pytest.mark.parametrize("classes", [1, 3, 9])
def test_boxes_equal_a_loop_over_peaks(classes):
    """Nine classes have more cells than are looked at one by one."""
    random, task = np.random.default_rng(4), detection("some", [str(i) for i in range(classes)])
    maps = random.normal(0, 1, (2, classes + 4, 44, 40)).astype(np.float32)
    decoded = centers.boxes(torch.tensor(maps), task)
    for image, one in enumerate(decoded):
        wanted = reference.boxes(maps[image, :classes], maps[image, classes:-2], maps[image, -2:], 4)
        assert len(one["boxes"]) == len(wanted) == 100 and one["object_classes"].tolist() == [w[1] for w in wanted]
        np.testing.assert_allclose(one["scores"], [w[0] for w in wanted], rtol=1e-5)
        np.testing.assert_allclose(one["boxes"], [w[2] for w in wanted], rtol=1e-4, atol=1e-4)


def test_nms_equals_a_loop_and_leaves_other_classes_and_images_alone():
    random, task = np.random.default_rng(5), detection("some", NAMES, nms=True)
    maps = random.normal(0, 1, (3, 7, 12, 12)).astype(np.float32)
    maps[:, -2:] = random.uniform(1, 6, (3, 2, 12, 12))
    decoded = objective(task).decode(torch.tensor(maps), task)
    for image, one in enumerate(decoded):
        wanted = reference.suppressed(reference.boxes(maps[image, :3], maps[image, 3:5], maps[image, 5:], 4))
        assert one["object_classes"].tolist() == [w[1] for w in wanted] and 3 < len(wanted) < 100
        np.testing.assert_allclose(one["boxes"], [w[2] for w in wanted], rtol=1e-4, atol=1e-4)


def test_keypoints_equal_a_loop_over_objects_and_points():
    random = np.random.default_rng(6)
    maps = random.normal(0, 1.5, (2, 16, 12, 14)).astype(np.float32)
    maps[:, 3:5] = random.uniform(2, 9, (2, 2, 12, 14))
    maps[:, 5:8] -= 2
    decoded = centers.keypoints(torch.tensor(maps), POINTS)
    taken = 0
    for image, one in enumerate(decoded):
        wanted = reference.keypoints(maps[image], 4)
        assert len(one["points"]) == len(wanted) and "object_classes" not in one
        np.testing.assert_allclose(one["boxes"], [w[1] for w in wanted], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(one["points"], [w[2] for w in wanted], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(one["point_scores"], [w[3] for w in wanted], rtol=1e-4, atol=1e-6)
        taken += sum((w[3] >= 0.1).mean() for w in wanted) / len(wanted)
    assert 0.2 < taken / 2 < 0.95, "some points take a candidate, some do not"


def perfect(target, task, size=(16, 16)):
    """The maps that a network without error would give."""
    seen = centers.centers_of(target, task, size)
    images, channels = len(seen.boxes), task.channels
    points = 0 if seen.points is None else seen.points.shape[2]
    maps = torch.zeros(images, channels + 4 + (3 * points + 2 if points else 0), *size)
    maps[:, :channels] = maps[:, channels + 4 : channels + 4 + points] = -20.0
    for image, row in seen.valid.nonzero().tolist():
        middle = seen.middles[image, row]
        x, y = middle.long().tolist()
        sure = not points or seen.marked[image, row].any()  # COCO lets the surest have the objects that they fit
        maps[image, seen.classes[image, row], y, x] = 20.0 - row / 10 if sure else 1.0
        maps[image, channels : channels + 2, y, x] = middle - middle.floor()
        maps[image, channels + 2 : channels + 4, y, x] = seen.sizes[image, row]
        for point in range(points):
            if seen.marked[image, row, point]:
                place = seen.points[image, row, point]
                u, v = place.long().tolist()
                maps[image, channels + 4 + point, v, u] = 20.0
                maps[image, channels + 4 + points : channels + 6 + points, v, u] = place - place.floor()
                first = channels + 6 + points + 2 * point
                maps[image, first : first + 2, y, x] = place - middle
    return maps


def test_perfect_maps_have_no_error_beside_empty_cells_and_give_the_objects_back():
    boxes = torch.tensor([[[2.0, 3, 21, 30], [30, 8, 61.5, 44]], [[0, 0, 64, 64], [NAN] * 4], [[NAN] * 4] * 2])
    points = torch.tensor([[[[4.3, 5.2], [20, 21], [9, 28]], [[31, 40], [NAN, NAN], [60, 10.5]]],
                           [[[1.0, 60], [63, 2], [32, 33]], [[NAN, NAN]] * 3], [[[NAN, NAN]] * 3] * 2])  # fmt: skip
    target = target_for(boxes, points=points)
    maps = perfect(target, POINTS)
    sums, _ = centers.keypoint_errors(maps, target, POINTS)
    assert sums.abs().max() < 1e-5
    decoded = centers.keypoints(maps, POINTS)
    for image, count in enumerate([2, 1, 0]):
        one = {key: entry[decoded[image]["scores"] > 0.5] for key, entry in decoded[image].items()}
        assert len(one["boxes"]) == count
        torch.testing.assert_close(one["boxes"], boxes[image, :count], atol=1e-4, rtol=0)
        marked = points[image, :count].isfinite()
        torch.testing.assert_close(one["points"][marked], points[image, :count][marked], atol=1e-4, rtol=0)


def test_pictures_show_sure_objects_and_no_crowd():
    label = {
        "boxes": np.array([[8.0, 8, 24, 24], [30, 30, 60, 60]]), "object_classes": np.array([0, 2]),
        "scores": np.array([0.9, 0.1]), "crowd_boxes": np.array([[40.0, 0, 64, 20]]), "crowd_classes": np.array([1]),
    }  # fmt: skip
    drawn = colorize(DETECTION, label, size=(64, 64))
    changed = np.argwhere((drawn != 128).any(-1))
    assert changed.min(0).tolist() == [8, 8] and changed.max(0).tolist() == [23, 23]
    assert caption(DETECTION, label) == "1 object: cat"


def test_a_module_trains_both_tasks_and_names_a_class_beyond_the_table():
    torch.manual_seed(0)
    module = MultiTaskModule([detection("things", NAMES), POINTS], TimmBackbone("test_resnet"))
    boxes = torch.tensor([[[4.0, 4, 40, 50]], [[NAN] * 4]])
    batch = {"image": torch.rand(2, 3, 64, 64), **target_for(boxes, torch.tensor([[1], [-100]]))}
    batch |= {"points": torch.full((2, 1, 3, 2), 20.0), presence("points"): torch.tensor([True, False])}
    losses, preds = module.losses(batch)
    sum(losses.values()).backward()
    assert preds["things"].shape == (2, 7, 16, 16) and preds["people"].shape == (2, 16, 16, 16)
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    decoded = module.predict_step(batch, 0)
    assert set(decoded["people"][0]) == {"boxes", "scores", "points", "point_scores"}
    fresh = MultiTaskModule([detection("things", NAMES)], TimmBackbone("test_resnet"))
    with pytest.raises(
        InputError, match=r"things: object_classes: class 7 among the labels, but the task has 3 classes"
    ):
        fresh.losses({**batch, "object_classes": torch.tensor([[7], [-100]])})


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 40)])
def test_images_with_a_side_below_a_cell_have_one_cell_there(size):
    """The maps have one cell along such a side, a box around the picture lies in it, and is given back."""
    torch.manual_seed(0)
    height, width = size
    cells = (1, max(1, width // 4))
    module = MultiTaskModule([DETECTION, POINTS], TimmBackbone("test_resnet"))
    boxes = torch.tensor([[[0.0, 0, width, height]], [[NAN] * 4]])
    batch = {"image": torch.rand(2, 3, *size), **target_for(boxes, torch.tensor([[1], [-100]]))}
    batch |= {"points": torch.full((2, 1, 3, 2), 0.5), presence("points"): torch.tensor([True, True])}
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    before = [weight.clone() for weight in module.parameters()]
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    trainer.fit(module, loader, loader)
    moved = [weight for weight, other in zip(module.parameters(), before, strict=True) if not weight.equal(other)]
    assert trainer.global_step == 1 and moved and all(weight.isfinite().all() for weight in moved)
    (predicted,) = trainer.predict(module, loader)
    for name in ("things", "people"):
        for one in predicted[name]:
            assert 1 <= len(one["boxes"]) <= 100 and one["boxes"].shape == (len(one["scores"]), 4)
    module.eval()
    for task in (DETECTION, POINTS):
        preds, target = module(batch)[task.name], target_of(task, batch, module(batch)[task.name])
        assert preds.shape[-2:] == cells and objective(task).total_and_count(preds, target)[0].isfinite().all()
        maps = perfect(target, task, cells)
        one = objective(task).decode(maps, task)[0]
        sure = one["scores"] > 0.5
        torch.testing.assert_close(one["boxes"][sure], boxes[0], atol=1e-4, rtol=0)
        if task is POINTS:
            torch.testing.assert_close(one["points"][sure], batch["points"][:1, 0], atol=1e-4, rtol=0)
