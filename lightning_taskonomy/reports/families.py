"""To which family of the Taskonomy paper a task belongs, by its name alone."""

from collections.abc import Iterable

from lightning_taskonomy.tasks import catalog

__all__ = ["GROUPING_NAMES", "PUBLISHED_NAMES", "families"]

PUBLISHED_NAMES = {
    "autoencoder": "autoencoding", "class_1000": "object_classification", "class_places": "scene_classification",
    "class_selected": "taskonomy.object_classification_100", "denoise": "denoising", "edge2d": "edges_2d",
    "edge3d": "edges_occlusion", "ego_motion": "egomotion", "fix_pose": "pose_fixated",
    "impainting_whole": "inpainting", "inpainting_whole": "inpainting", "keypoint2d": "keypoints_2d",
    "keypoint3d": "keypoints_3d", "non_fixated_pose": "pose_nonfixated", "point_match": "point_matching",
    "random": "random_projection", "reshade": "reshading", "rgb2depth": "depth_z", "rgb2mist": "depth_euclidean",
    "rgb2sfnorm": "normals", "segment25d": "segmentation_25d", "segment2d": "segmentation_2d",
    "segmentsemantic_rb": "semantic_segmentation", "vanishing_point_well_defined": "vanishing_points",
}  # fmt: skip
"""Names in the measurements that the paper's authors published, and what the catalog calls those tasks."""

GROUPING_NAMES = {
    "SemSeg": "semantic_segmentation", "Depth": "depth_z", "Normals": "normals", "Keypoints": "keypoints_2d",
    "Edges": "edges_2d",
}  # fmt: skip
"""The same for the published measurements of task groups (Standley et al., ICML 2020, section 4)."""


def families(names: Iterable[str]) -> dict[str, str]:
    """Families of tasks that the catalog or the published measurements know; the others are not in the answer."""
    known = catalog()
    found = {name: known.get(PUBLISHED_NAMES.get(name, name)) for name in names}
    return {name: task.family.value for name, task in found.items() if task is not None}
