"""Objects as centre points (CenterNet): target maps, losses, and from maps back to boxes and points."""

from lightning_taskonomy.centers.decoding import boxes, boxes_after_nms, keypoints
from lightning_taskonomy.centers.losses import (
    detection_errors,
    detection_score,
    keypoint_errors,
    keypoint_score,
    penalty_reduced_focal,
)
from lightning_taskonomy.centers.maps import covered, gaussian_radius, heat_map
from lightning_taskonomy.centers.objects import Centers, centers_of

__all__ = [
    "Centers",
    "boxes",
    "boxes_after_nms",
    "centers_of",
    "covered",
    "detection_errors",
    "detection_score",
    "gaussian_radius",
    "heat_map",
    "keypoint_errors",
    "keypoint_score",
    "keypoints",
    "penalty_reduced_focal",
]
