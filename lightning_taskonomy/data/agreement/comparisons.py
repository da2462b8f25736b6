"""Which comparisons the labels of a data set allow."""

from collections.abc import Collection, Mapping

from lightning_taskonomy.data.agreement.base import DEPTHS, Comparison, Limits
from lightning_taskonomy.data.agreement.depths import DepthAndDistance, DepthAtCentre, SecondView
from lightning_taskonomy.data.agreement.normals import NormalsAndCamera, NormalsAndDepth, NormalsAndFrame
from lightning_taskonomy.data.agreement.objects import BoxesAndMasks, MasksAndClasses, PointsAndBoxes
from lightning_taskonomy.tasks import Label, LabelKind

__all__ = ["comparisons"]

_PAIRS = {"pair_fixated": "pose_fixated", "pair_nonfixated": "pose_nonfixated"}


def comparisons(
    keys: Collection[str], labels: Mapping[str, Label], limits: Limits, *, groupings: Collection[str] = ()
) -> list[Comparison]:
    """Those that the labels at hand allow.

    Args:
        keys: The labels that are read.
        labels: What they hold.
        limits: From where on they disagree.
        groupings: Keys of segments, whose numbers mean nothing across images.
    """
    of = {kind: sorted(key for key in keys if key in labels and labels[key].kind is kind) for kind in LabelKind}
    depth = next((key for key in DEPTHS if key in keys), None)
    wanted: list[Comparison] = []
    for normals in of[LabelKind.NORMALS]:
        wanted.append(NormalsAndDepth(normals, depth, limits) if depth else NormalsAndCamera(normals))
        wanted += [NormalsAndFrame(normals, frame) for frame in of[LabelKind.FRAME]]
    if depth is not None:
        wanted.append(DepthAtCentre(depth, "pose_fixated", limits))
        wanted += [SecondView(pair, pose, depth) for pair, pose in _PAIRS.items() if {pair, pose} <= {*keys}]
    if all(key in keys for key in DEPTHS):
        wanted.append(DepthAndDistance(limits))
    for points in of[LabelKind.POINTS]:
        objects = labels[points].objects
        wanted += [PointsAndBoxes(points, b, limits) for b in of[LabelKind.BOXES] if labels[b].objects == objects]
    for masks in of[LabelKind.MASKS]:
        objects = labels[masks].objects
        wanted += [BoxesAndMasks(b, masks, limits) for b in of[LabelKind.BOXES] if labels[b].objects == objects]
        for classes in of[LabelKind.OBJECT_CLASSES]:
            if labels[classes].objects == objects:
                maps = [key for key in of[LabelKind.CLASSES] if key not in groupings and labels[key].stride == 1]
                wanted += [MasksAndClasses(masks, classes, key, limits) for key in maps]
    return wanted
