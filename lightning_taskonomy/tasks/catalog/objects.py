"""Tasks of boxes and of keypoints by centre points, whatever the data set: "Factors of Influence", A.3 and A.4."""

from collections.abc import Sequence

from lightning_taskonomy.tasks.base import Family, Task, TaskKind
from lightning_taskonomy.tasks.labels import Label, LabelKind

__all__ = ["STRIDE", "detection", "keypoints"]

STRIDE = 4
"""Image pixels per cell of the maps."""
_CENTERS, _HEADS = "lightning_taskonomy.centers", "lightning_taskonomy.models.heads"


def detection(
    name: str,
    class_names: Sequence[str],
    *,
    crowds: bool = False,
    nms: bool = False,
    stride: int = STRIDE,
    family: Family = Family.SEMANTIC,
) -> Task:
    """A task that finds the boxes and classes of objects.

    It reads ``boxes`` and ``object_classes``. Its metric gives COCO's average precision over IoU 0.50 to 0.95 (``map``)
    and at 0.50 (``map_50``, which stands for VOC's).

    Args:
        name: The task's name.
        class_names: Names of the classes, in order.
        crowds: Whether the data set has regions that are neither object nor background: ``crowd_boxes`` and
            ``crowd_classes`` (-100: of any class). They do not count in training, nor in the metric.
        nms: Whether overlapping boxes are suppressed at IoU 0.3. The paper does for VOC and UWT, not for COCO and BDD.
        stride: Image pixels per cell of the maps.
        family: The family that it is drawn in.
    """
    labels = [
        Label("boxes", LabelKind.BOXES, 4),
        Label("object_classes", LabelKind.OBJECT_CLASSES, len(class_names)),
        *(_crowds(len(class_names)) if crowds else ()),
    ]
    return Task(
        name,
        TaskKind.SET,
        "boxes",
        len(class_names),
        family=family,
        stride=stride,
        class_names=class_names,
        labels=labels,
        head=f"{_HEADS}.CenterHead",
        loss=f"{_CENTERS}.detection_errors",
        score=f"{_CENTERS}.detection_score",
        metric="lightning_taskonomy.metrics.ObjectAveragePrecision",
        decode=f"{_CENTERS}.boxes_after_nms" if nms else f"{_CENTERS}.boxes",
    )


def keypoints(
    name: str,
    point_names: Sequence[str],
    mirror: Sequence[int],
    sigmas: Sequence[float],
    *,
    class_name: str = "person",
    crowds: bool = False,
    stride: int = STRIDE,
    family: Family = Family.SEMANTIC,
) -> Task:
    """A task that finds the objects of one kind and their points.

    It reads ``boxes`` and ``points``, in which each object is of that kind. Its metric is COCO's average precision at
    object keypoint similarities of 0.50 to 0.95 (``map``) and at 0.50 (``map_50``, the paper's).

    Args:
        name: The task's name.
        point_names: Names of the points, in order.
        mirror: Which place each point takes in a mirrored image: left and right are exchanged.
        sigmas: How far each point may be off, as a share of the object's size: COCO's constants (k is twice as much).
        class_name: What the objects are.
        crowds: Whether the data set has ``crowd_boxes``, regions of many such objects, which do not count.
        stride: Image pixels per cell of the maps.
        family: The family that it is drawn in.

    Raises:
        InputError: ``mirror`` or ``sigmas`` do not belong to the points.
    """
    points = Label(
        "points", LabelKind.POINTS, len(point_names), mirror=tuple(mirror), names=tuple(point_names),
        sigmas=tuple(sigmas),
    )  # fmt: skip
    return Task(
        name,
        TaskKind.SET,
        "boxes",
        1,
        family=family,
        stride=stride,
        class_names=(class_name,),
        labels=[Label("boxes", LabelKind.BOXES, 4), points, *(_crowds(1)[:1] if crowds else ())],
        head=f"{_HEADS}.KeypointHead",
        loss=f"{_CENTERS}.keypoint_errors",
        score=f"{_CENTERS}.keypoint_score",
        metric="lightning_taskonomy.metrics.KeypointAveragePrecision",
        decode=f"{_CENTERS}.keypoints",
    )


def _crowds(classes: int) -> tuple[Label, Label]:
    return (
        Label("crowd_boxes", LabelKind.BOXES, 4, objects="crowds"),
        Label("crowd_classes", LabelKind.OBJECT_CLASSES, classes, objects="crowds"),
    )
