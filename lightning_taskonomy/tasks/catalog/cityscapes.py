"""Cityscapes' 19 classes, the 7 groups they belong to (Cordts et al., CVPR 2016, Table 2), and inverse depth.

Both segmentations know the same pixels: what is not one of the 19 classes is missing in both. Inverse depth is the
disparity in the unit of the MTAN folder, the stored 16-bit number over 65535, so that errors compare with published
ones; times 0.54 it is 1/m with the usual camera (baseline 0.209 m, focal length 2262 px, 256 numbers per pixel).
"""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

GROUPS = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
"""The classes of each group, in the data set's order of both."""

SEMANTIC_7 = Task(
    "semantic_7", TaskKind.SEGMENTATION, "semantic_7", 7, family=Family.SEMANTIC, class_names=tuple(GROUPS)
)
SEMANTIC_19 = Task(
    "semantic_19", TaskKind.SEGMENTATION, "semantic_19", 19, family=Family.SEMANTIC,
    class_names=tuple(name for names in GROUPS.values() for name in names),
)  # fmt: skip
INVERSE_DEPTH = Task("inverse_depth", TaskKind.DENSE, "inverse_depth", shift=0.07, scale=0.07)
