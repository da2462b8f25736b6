"""Average precision of boxes, masks and keypoints, as COCO evaluates them: other libraries' behind a task's labels."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.utilities import dim_zero_cat

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.tasks import LabelKind, Task, presence

__all__ = ["KeypointAveragePrecision", "ObjectAveragePrecision"]

_INSTALL = "average precision needs faster-coco-eval: pip install 'lightning-taskonomy[detection]'"


class ObjectAveragePrecision(Metric):
    """Mean average precision of boxes or masks, as COCO has it: torchmetrics' own behind the labels of a task.

    Predictions are what the task's ``decode`` gives: per image a mapping with ``scores`` (n,) and, under the keys of
    the task's labels, boxes (n, 4) or masks (n, H, W) and classes (n,). Images whose set is not labelled do not count;
    those without an object do. Boxes of no area and objects without a class are not there. Boxes of a second set are
    crowds: predictions within them count neither way, as in COCO's evaluation; one without a class is of any class.

    Args:
        task: A task whose labels are boxes or masks of objects, and their classes if there are several.

    Raises:
        InputError: The task has neither boxes nor masks, or no back end is installed.
    """

    outputs: ClassVar[tuple[str, ...]] = ("map", "map_50", "map_75", "mar_100")
    """The numbers that it gives."""
    is_differentiable = False
    higher_is_better = True
    full_state_update = True

    def __init__(self, task: Task) -> None:
        super().__init__()
        keys, crowds = _keys(task, False), _keys(task, True)
        self.classes, self.num_classes = keys.get(LabelKind.OBJECT_CLASSES), task.channels
        kinds: Any = {LabelKind.BOXES: ("bbox", "boxes"), LabelKind.MASKS: ("segm", "masks")}  # a Literal, to mypy
        shape = next((kind for kind in kinds if kind in keys), None)
        if shape is None:
            raise InputError(f"task {task.name!r} has neither boxes nor masks; average precision needs one of them")
        self.key, (kind, self.name) = keys[shape], kinds[shape]
        self.crowds = crowds.get(LabelKind.BOXES) if kind == "bbox" else None
        self.crowd_classes = crowds.get(LabelKind.OBJECT_CLASSES)
        try:
            self.inner = MeanAveragePrecision(
                iou_type=kind,
                iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
                rec_thresholds=np.linspace(0, 1, 101).tolist(),  # torchmetrics rounds them to float32: up to 3e-4 off
                backend="faster_coco_eval",
            )
        except ModuleNotFoundError as error:
            raise InputError(_INSTALL) from error

    def update(self, preds: Sequence[Mapping[str, Tensor]], target: Mapping[str, Tensor]) -> None:
        """Adds a batch: decoded predictions per image, and labels by key as ``modules.objectives.target_of`` gives."""
        flags = target[presence(self.key)].tolist()
        pairs = [
            (self._entry(preds[image]) | {"scores": preds[image]["scores"]}, self._truth(target, image))
            for image, labelled in enumerate(flags)
            if labelled
        ]
        if pairs:
            self.inner.update([preds for preds, _ in pairs], [truth for _, truth in pairs])

    def _truth(self, target: Mapping[str, Tensor], image: int) -> dict[str, Tensor]:
        """One image's objects, without the rows that fill up the batch, and its crowds."""
        shapes = target[self.key][image]
        there = shapes.flatten(1).any(1) if shapes.dtype == torch.bool else _with_area(shapes)
        if self.classes is not None:
            there = there & (target[self.classes][image] >= 0)
        keys = [key for key in (self.key, self.classes) if key is not None]
        truth = self._entry({key: target[key][image][there] for key in keys})
        crowd = torch.zeros_like(truth["labels"])
        if self.crowds is not None:
            boxes, labels = self._crowds(target, image)
            truth = {self.name: torch.cat([truth[self.name], boxes]), "labels": torch.cat([truth["labels"], labels])}
            crowd = torch.cat([crowd, torch.ones_like(labels)])
        return truth | {"iscrowd": crowd}

    def _crowds(self, target: Mapping[str, Tensor], image: int) -> tuple[Tensor, Tensor]:
        """Boxes and classes of an image's crowds; one of any class stands once for each."""
        assert self.crowds is not None
        boxes = target[self.crowds][image]
        labels = torch.full_like(boxes[:, 0], -1, dtype=torch.int64)
        if self.classes is not None and self.crowd_classes is not None:
            labels = target[self.crowd_classes][image]
        of_class = (labels[:, None] == torch.arange(self.num_classes, device=labels.device)) | (labels[:, None] < 0)
        row, label = (of_class & _with_area(boxes)[:, None]).nonzero(as_tuple=True)
        return boxes[row], label

    def _entry(self, objects: Mapping[str, Tensor]) -> dict[str, Tensor]:
        shapes = objects[self.key]
        zeros = torch.zeros(len(shapes), dtype=torch.int64, device=shapes.device)
        return {self.name: shapes, "labels": zeros if self.classes is None else objects[self.classes]}

    def compute(self) -> dict[str, Tensor]:
        """``map`` over IoU 0.50 to 0.95, ``map_50``, ``map_75``, and ``mar_100``, the recall of 100 predictions.

        -1 where there is no object, as COCO's evaluation has it.
        """
        figures = self.inner.compute()
        return {name: figures[name].float() for name in self.outputs}

    def reset(self) -> None:
        """Begins anew."""
        super().reset()
        self.inner.reset()


class KeypointAveragePrecision(Metric):
    """Mean average precision of keypoints by object keypoint similarity (OKS), as COCO has it; by faster-coco-eval.

    Predictions are what the task's ``decode`` gives: per image ``points`` (n, P, 2) and ``scores`` (n,), of which the
    20 surest count. The area of an object is that of its box: COCO's own, of its segment, is smaller, so that COCO's
    figures are a little lower. As in COCO's evaluation objects without a marked point, and crowds, are neither hits nor
    misses. Images whose boxes are not labelled do not count.

    Args:
        task: A task with boxes and points of objects of one kind; the label of its points says their ``sigmas``.

    Raises:
        InputError: The task has no boxes, no points, or no sigmas; or faster-coco-eval is not installed.
    """

    outputs: ClassVar[tuple[str, ...]] = ("map", "map_50", "map_75", "mar_20")
    """The numbers that it gives."""
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    predicted: list[Tensor]
    true: list[Tensor]
    images: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        keys, crowds = _keys(task, False), _keys(task, True)
        if LabelKind.BOXES not in keys or LabelKind.POINTS not in keys:
            raise InputError(f"task {task.name!r} needs boxes and points of its objects; it has {list(task.targets)}")
        self.boxes, self.points = keys[LabelKind.BOXES], keys[LabelKind.POINTS]
        self.crowds, self.sigmas = crowds.get(LabelKind.BOXES), task.targets[self.points].sigmas
        if not self.sigmas:
            raise InputError(
                f"task {task.name!r}: keypoint similarity needs to know how far each point may be off; give the label "
                f"{self.points!r} sigmas, one per point"
            )
        try:
            import faster_coco_eval  # noqa: F401
        except ModuleNotFoundError as error:
            raise InputError(_INSTALL) from error
        self.add_state("predicted", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Sequence[Mapping[str, Tensor]], target: Mapping[str, Tensor]) -> None:
        """Adds a batch: decoded predictions per image, and labels by key as ``modules.objectives.target_of`` gives."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for image, labelled in enumerate(target[presence(self.boxes)].tolist()):
            if not labelled:
                continue
            number = int(self.images) * world + rank
            self.images += 1
            one = preds[image]
            self.predicted.append(_rows(number, one["scores"][:, None], one["points"].flatten(1)))
            there = _with_area(target[self.boxes][image])
            points = target[self.points][image][there]
            marked = points.isfinite().all(-1, keepdim=True)
            places = torch.cat([points.where(marked, 0.0), 2.0 * marked], -1).flatten(1)
            boxes = target[self.boxes][image][there]
            rows = [_rows(number, torch.zeros_like(boxes[:, :1]), boxes, places)]
            if self.crowds is not None:
                crowds = target[self.crowds][image]
                crowds = crowds[_with_area(crowds)]
                unmarked = crowds.new_zeros(len(crowds), places.shape[1])
                rows.append(_rows(number, torch.ones_like(crowds[:, :1]), crowds, unmarked))
            self.true.append(torch.cat(rows))

    def compute(self) -> dict[str, Tensor]:
        """``map`` over OKS 0.50 to 0.95, ``map_50``, ``map_75``, and ``mar_20``, the recall of 20 predictions.

        -1 where there is no object with a marked point, as COCO's evaluation has it.
        """
        from faster_coco_eval import COCO, COCOeval_faster

        true = dim_zero_cat(self.true).double().cpu().numpy() if self.true else np.zeros((0, 6))
        predicted = dim_zero_cat(self.predicted).double().cpu().numpy() if self.predicted else np.zeros((0, 2))
        numbers = sorted({int(number) for number in (*true[:, 0], *predicted[:, 0])})
        truth = COCO(
            {
                "images": [{"id": number} for number in numbers],
                "categories": [{"id": 1, "name": "object"}],
                "annotations": [_annotation(number, row) for number, row in enumerate(true, 1)],
            }
        )
        guesses = [
            {"image_id": int(row[0]), "category_id": 1, "score": row[1], "keypoints": _flat(row[2:].reshape(-1, 2))}
            for row in predicted
        ]
        evaluation = COCOeval_faster(
            truth, truth.loadRes(guesses), "keypoints", kpt_oks_sigmas=np.array(self.sigmas), print_function=_silent
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        places = {"map": 0, "map_50": 1, "map_75": 2, "mar_20": 5}
        return {name: torch.tensor(float(evaluation.stats[place])) for name, place in places.items()}


def _keys(task: Task, of_crowds: bool) -> dict[LabelKind, str]:
    """Keys by kind of the set of the task's target, or of any other."""
    return {
        label.kind: key for key, label in task.targets.items() if (label.objects != task.label.objects) is of_crowds
    }


def _with_area(boxes: Tensor) -> Tensor:
    """Which boxes (n, 4) are there and have an area."""
    return boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)


def _rows(image: int, *columns: Tensor) -> Tensor:
    first = columns[0]
    return torch.cat([torch.full_like(first, image), *columns], 1)


def _annotation(number: int, row: Any) -> dict[str, Any]:
    left, top, right, bottom = row[2:6]
    return {
        "id": number,
        "image_id": int(row[0]),
        "category_id": 1,
        "iscrowd": int(row[1]),
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "keypoints": row[6:].tolist(),
        "num_keypoints": int((row[8::3] > 0).sum()),
    }


def _flat(points: Any) -> list[float]:
    """Places (P, 2) as COCO writes predicted ones: x, y, 1, the next x, ..."""
    flat: list[float] = np.concatenate([points, np.ones((len(points), 1))], 1).ravel().tolist()
    return flat


def _silent(*_: Any) -> None:
    """In place of the tables that the evaluation prints."""
