"""Average precision of what the readers give: pycocotools' on the official file, 1 for the labels themselves."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from lightning_taskonomy.batch import Batch
from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.data.formats.coco import COCODataModule
from lightning_taskonomy.data.named import named
from lightning_taskonomy.metrics import KeypointAveragePrecision, ObjectAveragePrecision
from lightning_taskonomy.tasks import Task, presence

torch.set_num_threads(1)
REAL = Path(__file__).parents[3].parent / "shared" / "realdata"


def batches(data: Any, split: str, task: Task, size: int = 8) -> Iterator[tuple[Batch, list[dict[str, Tensor]]]]:
    """Batches of labels, and as predictions the labels of each image."""
    samples = data.build(split, [*task.targets])
    for start in range(0, len(samples), size):
        part = [samples[index] for index in range(start, min(start + size, len(samples)))]
        labels = [{key: sample[key] for key in (*task.targets, *map(presence, task.targets), "id")} for sample in part]
        batch = collate(labels, data.targets)
        predicted = [
            {key: sample[key] for key, label in task.targets.items() if label.objects == "objects"} for sample in labels
        ]
        yield batch, predicted


def test_boxes_have_the_precision_that_pycocotools_measures_by_the_official_file() -> None:
    """Perturbed and wrong boxes, images without objects, crowds, 80 classes; the file is read by each on its own."""
    if not (REAL / "coco_tiny").is_dir():
        pytest.skip(f"no COCO at {REAL}")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(REAL / "coco_tiny" / "annotations" / "instances_val2017.json"))
    categories, random = sorted(coco.cats), torch.Generator().manual_seed(0)
    data = COCODataModule(str(REAL / "coco_tiny"))
    (task,) = data.own_tasks
    metric, guesses = ObjectAveragePrecision(task), []
    for batch, predicted in batches(data, "official_test", task):
        for one, number in zip(predicted, batch["id"].tolist(), strict=True):
            boxes, count = one["boxes"], len(one["boxes"])
            side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            noise = 0.08 * side * torch.randn(count, 4, generator=random)
            one["boxes"] = torch.cat([boxes + noise, boxes + 0.3 * side])
            wrong = torch.randint(80, (count,), generator=random)
            one["object_classes"] = torch.cat([one["object_classes"], wrong])
            one["scores"] = torch.rand(2 * count, generator=random)
            sides = torch.cat([one["boxes"][:, :2], one["boxes"][:, 2:] - one["boxes"][:, :2]], 1).double().tolist()
            guesses += [
                {"image_id": number, "bbox": box, "score": score, "category_id": categories[kind]}
                for box, score, kind in zip(sides, one["scores"].tolist(), one["object_classes"].tolist(), strict=True)
            ]
        metric.update(predicted, batch)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(guesses), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = metric.compute()
    assert [float(figures[name]) for name in ("map", "map_50", "map_75")] == pytest.approx(
        evaluation.stats[:3], abs=1e-5
    )
    assert 0.2 < float(figures["map"]) < 0.9


SETS: Mapping[str, tuple[str, str]] = {
    "coco": ("coco_tiny", "train"),
    "coco_keypoints": ("coco_tiny", "train"),
    "voc": ("voc2012_det/VOC2012", "validation"),
    "kitti_objects": ("kitti_object", "train"),
    "mpii": ("mpii", "train"),
    "stanford_dogs": ("stanford_extra", "train"),
}


@pytest.mark.parametrize("name", SETS)
def test_labels_as_predictions_are_perfect(name: str) -> None:
    folder, split = SETS[name]
    if not (REAL / folder).is_dir():
        pytest.skip(f"no {folder} at {REAL}")
    data = named(name)(root=str(REAL / folder))  # type: ignore[call-arg]
    task = next(task for task in data.own_tasks if "boxes" in task.targets)
    metric = KeypointAveragePrecision(task) if "points" in task.targets else ObjectAveragePrecision(task)
    for batch, predicted in batches(data, split, task):
        for one in predicted:
            if "points" in one:  # those of which any is marked; what is not marked may be anywhere
                marked = one["points"].isfinite().flatten(1).any(1)
                one.update({key: entry[marked] for key, entry in one.items()})
                one["points"] = one["points"].nan_to_num(0.0)
            one["scores"] = torch.ones(len(one["boxes"]))
        metric.update(predicted, batch)
    figures = metric.compute()
    assert {key: round(float(figures[key]), 5) for key in ("map", "map_50")} == {"map": 1.0, "map_50": 1.0}
