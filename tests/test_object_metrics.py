"""Average precision of boxes and keypoints through our adapters against pycocotools, on made and on real labels."""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.metrics import KeypointAveragePrecision, ObjectAveragePrecision
from lightning_taskonomy.modules.objectives import objective, target_of
from lightning_taskonomy.tasks import presence
from lightning_taskonomy.tasks.catalog.objects import detection, keypoints

sys.path.insert(0, str(Path(__file__).parent / "centers"))
from test_centers import perfect

REAL = Path(__file__).parents[1].parent / "shared" / "realdata" / "coco_tiny" / "annotations"
SIGMAS = (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)  # COCO's, times 1000
MIRROR = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
PEOPLE = keypoints("people", [str(i) for i in range(17)], MIRROR, [s / 1000 for s in SIGMAS], crowds=True)
NAN = float("nan")


def tensor(rows, *shape):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, *shape)


def made(random, images=12, classes=30):
    """Objects, crowds and persons of images in COCO's JSON; some images are empty."""
    annotations = []
    for image in range(images):
        for number in range(0 if image % 4 == 0 else int(random.integers(1, 8))):
            left, top, width, height = random.uniform((0, 0, 10, 10), (60, 60, 60, 60))
            spots = random.uniform(0, 1, (17, 2)) * (width, height) + (left, top)
            seen = random.choice([0, 1, 2], 17) if number % 4 and number != 3 else np.zeros(17, int)  # none of a crowd
            spots[seen == 0] = 0
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(random.integers(classes)) + 1,
                 "bbox": [left, top, width, height], "area": width * height, "iscrowd": int(number == 4),
                 "keypoints": np.concatenate([spots, seen[:, None]], 1).ravel().tolist(),
                 "num_keypoints": int((seen > 0).sum())}
            )  # fmt: skip
    content = {"images": [{"id": i} for i in range(images)], "annotations": annotations}
    return content | {"categories": [{"id": i + 1, "name": str(i)} for i in range(classes)]}


def real(kind, split):
    file = REAL / f"{kind}_{split}2017.json"
    if not file.exists():
        pytest.skip(f"{file.name} of the real COCO sample is not on this machine")
    return json.loads(file.read_text())


def samples_of(content, points=False):
    """One sample per image as a data set gives it."""
    numbers = {category["id"]: place for place, category in enumerate(content["categories"])}
    samples = []
    for image in content["images"]:
        annotations = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects, crowds = ([a for a in annotations if a["iscrowd"] == flag] for flag in (0, 1))
        sample = {"id": torch.tensor(image["id"])}
        for key, ones in (("boxes", objects), ("crowd_boxes", crowds)):
            boxes = tensor([a["bbox"] for a in ones], 4)
            sample[key] = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        if points:
            spots = tensor([a["keypoints"] for a in objects], 17, 3)
            sample["points"] = spots[..., :2].where(spots[..., 2:] > 0, torch.nan)
        else:
            sample["object_classes"] = torch.tensor([numbers[a["category_id"]] for a in objects], dtype=torch.int64)
            sample["crowd_classes"] = torch.tensor([numbers[a["category_id"]] for a in crowds], dtype=torch.int64)
        samples.append(sample)
    return samples


def batches(task, samples, size=8):
    for start in range(0, len(samples), size):
        batch = collate(samples[start : start + size], task.targets)
        yield batch, target_of(task, batch, torch.zeros(len(batch["id"]), 1))


def evaluated(content, guesses, kind, sigmas=None):
    """COCO's own evaluation: average precision, at .5, at .75."""
    truth = COCO()
    truth.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(guesses), kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


def guessed(random, batch, task):
    """Jittered objects, wrong ones, some within crowds, fewer than there are; per image as ``decode`` gives them."""
    made = []
    for boxes, crowds, row in zip(batch["boxes"], batch["crowd_boxes"], range(len(batch["id"])), strict=True):
        there = boxes.isfinite().all(1)
        crowds = crowds[crowds.isfinite().all(1)]
        kept = torch.tensor(random.uniform(size=int(there.sum())) < 0.9)
        one = {"boxes": boxes[there][kept]}
        noise = (one["boxes"][:, 2:] - one["boxes"][:, :2]).repeat(1, 2) * torch.tensor(
            random.normal(0, 0.07, one["boxes"].shape)
        ).float()
        inner = crowds + (crowds[:, 2:] - crowds[:, :2]).repeat(1, 2) * torch.tensor([0.1, 0.2, -0.3, -0.4])
        one["boxes"] = torch.cat([one["boxes"] + noise, one["boxes"] + 2 * noise, inner])
        if "points" in batch:
            spots = batch["points"][row][there][kept]
            middle = ((boxes[there][kept][:, :2] + boxes[there][kept][:, 2:]) / 2)[:, None]
            spots = spots.where(spots.isfinite(), middle)
            side = (boxes[there][kept][:, 2:] - boxes[there][kept][:, :2]).amax(1)[:, None, None]
            spots = [
                spots + factor * side * torch.tensor(random.normal(0, 0.05, spots.shape)).float() for factor in (1, 3)
            ]
            inside = ((inner[:, :2] + inner[:, 2:]) / 2)[:, None].expand(-1, 17, -1)
            one["points"] = torch.cat([*spots, inside])
        else:
            classes = batch["object_classes"][row][there][kept]
            wrong = torch.tensor(random.integers(0, task.channels, len(classes)))
            of_crowds = batch["crowd_classes"][row][: len(crowds)]
            one["object_classes"] = torch.cat([classes, wrong, of_crowds])
        one["scores"] = torch.tensor(random.uniform(size=len(one["boxes"]))).float()
        made.append(one)
    return made


CASES = {"made": lambda kind: made(np.random.default_rng(0)), "train": lambda kind: real(kind, "train"),
         "val": lambda kind: real(kind, "val")}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_boxes_have_pycocotools_average_precision_with_crowds_and_empty_images(case):
    content, random = CASES[case]("instances"), np.random.default_rng(1)
    categories = [category["id"] for category in content["categories"]]
    task = detection("things", [str(i) for i in categories], crowds=True)
    metric, guesses = ObjectAveragePrecision(task), []
    for batch, target in batches(task, samples_of(content)):
        decoded = guessed(random, batch, task)
        metric.update(decoded, target)
        for number, one in zip(batch["id"].tolist(), decoded, strict=True):
            sides = torch.cat([one["boxes"][:, :2], one["boxes"][:, 2:] - one["boxes"][:, :2]], 1).double()
            guesses += [
                {"image_id": number, "category_id": categories[kind], "bbox": box, "score": score}
                for box, kind, score in zip(
                    sides.tolist(), one["object_classes"].tolist(), one["scores"].tolist(), strict=True
                )
            ]
    figures = metric.compute()
    wanted = evaluated(content, guesses, "bbox")
    assert [float(figures[name]) for name in ("map", "map_50", "map_75")] == pytest.approx(wanted, abs=1e-5)
    assert 0.05 < wanted[0] < 0.95


@pytest.mark.parametrize("case", CASES)
def test_keypoints_have_pycocotools_average_precision_with_crowds_and_empty_images(case):
    content, random = CASES[case]("person_keypoints"), np.random.default_rng(2)
    for one in content["annotations"]:
        one["area"], one["category_id"] = one["bbox"][2] * one["bbox"][3], 1
    metric, guesses = KeypointAveragePrecision(PEOPLE), []
    for batch, target in batches(PEOPLE, samples_of(content, points=True)):
        decoded = guessed(random, batch, PEOPLE)
        metric.update(decoded, target)
        for number, one in zip(batch["id"].tolist(), decoded, strict=True):
            flat = torch.cat([one["points"], torch.ones_like(one["points"][..., :1])], -1).flatten(1).double().tolist()
            guesses += [
                {"image_id": number, "category_id": 1, "keypoints": spots, "score": score}
                for spots, score in zip(flat, one["scores"].tolist(), strict=True)
            ]
    figures = metric.compute()
    wanted = evaluated(content, guesses, "keypoints", [s / 1000 for s in SIGMAS])
    assert [float(figures[name]) for name in ("map", "map_50", "map_75")] == pytest.approx(wanted, abs=1e-5)
    assert 0.05 < wanted[0] < 0.95


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["instances", "person_keypoints"])
def test_labels_as_predictions_and_through_maps_and_decoding_are_perfect(case, kind):
    """Through maps only where no two objects of a class, nor two of a point, fall on one cell or beside each other."""
    content = CASES[case](kind)
    task = detection("things", [str(c["id"]) for c in content["categories"]], crowds=True)
    task = PEOPLE if kind == "person_keypoints" else task
    samples = samples_of(content, points=task is PEOPLE)
    direct, decoded, kept = objective(task).metrics(task), objective(task).metrics(task), 0
    (direct,), (decoded,) = direct.values(), decoded.values()
    for batch, target in batches(task, samples):
        keys = [key for key, label in task.targets.items() if label.objects == "objects"]
        ones = []
        for row in range(len(batch["id"])):
            there = batch["boxes"][row].isfinite().all(1)
            middle = ((batch["boxes"][row][there][:, :2] + batch["boxes"][row][there][:, 2:]) / 2)[:, None]
            ones.append({key: batch[key][row][there] for key in keys} | {"scores": torch.ones(int(there.sum()))})
            if task is PEOPLE:  # a point that is not marked may be anywhere
                marked = ones[-1]["points"].isfinite()
                ones[-1]["points"] = ones[-1]["points"].where(marked, middle)
                ones[-1]["scores"] = marked.flatten(1).any(1).float()
        direct.update(ones, target)
        size = (162, 162)  # 640 pixels and a few more
        apart = torch.tensor([_apart(batch, row) for row in range(len(batch["id"]))])
        target = target | {key: flags & apart for key, flags in target.items() if key.endswith("_labelled")}
        decoded.update(objective(task).decode(perfect(target, task, size), task), target)
        kept += int(apart.sum())
    assert [float(direct.compute()[name]) for name in ("map", "map_50")] == pytest.approx([1, 1], abs=1e-6)
    assert [float(decoded.compute()[name]) for name in ("map", "map_50")] == pytest.approx([1, 1], abs=1e-6)
    assert kept > 0.5 * len(samples)


def _apart(batch, row):
    """Whether no two of an image's objects, and no two of its points, are in one cell or neighbours."""
    boxes = batch["boxes"][row]
    places = [
        (
            (boxes[:, :2] + boxes[:, 2:]) / 2,
            batch.get("object_classes", torch.zeros(1, 99))[row if "object_classes" in batch else 0],
        )
    ]
    if "points" in batch:
        places += [(batch["points"][row][:, k], torch.zeros(99)) for k in range(17)]
    for spots, kinds in places:
        there = spots.isfinite().all(1)
        cells, kinds = (spots[there] / 4).long(), kinds[: len(spots)][there]
        near = (cells[:, None] - cells).abs().amax(-1) <= 1
        same = (kinds[:, None] == kinds) | ((cells[:, None] - cells).abs().amax(-1) == 0)
        if (near & same).sum() > len(cells):
            return False
    return True


def test_a_crowd_of_any_class_forgives_every_class_and_one_of_a_class_that_alone():
    task = detection("things", ("a", "b"), crowds=True)
    sample = {"boxes": tensor([0, 0, 10, 10], 4), "object_classes": torch.tensor([0]), "id": torch.tensor(0),
              "crowd_boxes": tensor([20, 0, 60, 40], 4)}  # fmt: skip
    guess = {"boxes": tensor([[0, 0, 10, 10], [25, 5, 40, 30]], 4), "object_classes": torch.tensor([0, 0])}
    guess["scores"] = torch.tensor([0.5, 0.9])
    for kind, wanted in ((-100, 1.0), (0, 1.0), (1, 0.5)):
        metric = ObjectAveragePrecision(task)
        batch = collate([{**sample, "crowd_classes": torch.tensor([kind])}], task.targets)
        metric.update([guess], target_of(task, batch, torch.zeros(1, 1)))
        assert float(metric.compute()["map_50"]) == pytest.approx(wanted, abs=1e-4), kind


@pytest.mark.parametrize("task", [PEOPLE, detection("things", ("a", "b"), crowds=True)])
def test_images_without_objects_or_labels_and_boxes_that_are_none(task):
    (metric,) = objective(task).metrics(task).values()
    blank = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "points": torch.zeros(0, 17, 2),
             "object_classes": torch.zeros(0).long()}  # fmt: skip
    target = target_of(task, {"image": torch.zeros(2, 3, 8, 8)}, torch.zeros(2, 1))
    metric.update([blank, blank], target)
    metric.reset()
    target = {**target, **{presence(key): torch.ones(2, dtype=torch.bool) for key in task.targets}}
    metric.update([blank, blank], target)
    assert float(metric.compute()["map"]) == -1, "no object, no precision"
    metric.reset()
    boxes = tensor([[[2, 2, 6, 7], [5, 5, 5, 9], [9, 9, 3, 3], [NAN] * 4]] * 2, 4, 4)
    objects = {"boxes": boxes, "object_classes": torch.zeros(2, 4).long(), "points": torch.full((2, 4, 17, 2), 4.0)}
    one = {key: entry[0, :1] for key, entry in objects.items()} | {"scores": torch.ones(1)}
    metric.update([one, one], {**target, **{key: entry for key, entry in objects.items() if key in task.targets}})
    assert float(metric.compute()["map"]) == pytest.approx(1)


def test_what_a_keypoint_metric_needs():
    with pytest.raises(
        InputError, match=r"task 'things' needs boxes and points of its objects; it has \['boxes', 'obj"
    ):
        KeypointAveragePrecision(detection("things", ("a",)))
    with pytest.raises(InputError, match="give the label 'points' sigmas, one per point"):
        KeypointAveragePrecision(keypoints("dogs", ("tail",), (0,), ()))
    with pytest.raises(InputError, match="label 'points': 1 sigmas; points have one each, and this label has 2 points"):
        keypoints("dogs", ("tail", "nose"), (0, 1), (0.1,))
