"""To which family of the Taskonomy paper a task belongs, by its name alone."""

from collections.abc import Iterable

from lightning_taskonomy.tasks import Family, catalog

__all__ = ["GROUPING_NAMES", "PUBLISHED_NAMES", "families", "family_rank"]

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
    """Families of tasks that the catalog or the published measurements know; others are left out."""
    listed = catalog()
    tasks = {name: listed.get(PUBLISHED_NAMES.get(name, name)) for name in names}
    return {name: task.family.value for name, task in tasks.items() if task is not None}


def family_rank(family: str) -> int:
    """The place of a family in lists; unknown ones come last."""
    order = [one.value for one in Family]
    return order.index(family) if family in order else len(order)
