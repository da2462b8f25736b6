"""Cityscapes' 19 classes, the 7 groups they belong to (Cordts et al., CVPR 2016, Table 2), 33 classes, inverse depth.

19 classes and groups know the same pixels: what is not one of the 19 is missing in both. The 33 are those of "Factors
of Influence" by the tables that its authors published: nearly all that the files mark, after a background that no pixel
has. Inverse depth is the
disparity in the unit of the MTAN folder, the stored 16-bit number over 65535, so that errors compare with published
ones; times 0.54 it is 1/m with the usual camera (baseline 0.209 m, focal length 2262 px, 256 numbers per pixel).
"""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind
from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

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
IDS_32 = {
    "ego vehicle": 1, "rectification border": 2, "static": 4, "dynamic": 5, "ground": 6, "road": 7, "sidewalk": 8,
    "parking": 9, "rail track": 10, "building": 11, "wall": 12, "fence": 13, "guard rail": 14, "bridge": 15,
    "tunnel": 16, "pole": 17, "polegroup": 18, "traffic light": 19, "traffic sign": 20, "vegetation": 21,
    "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "caravan": 29,
    "trailer": 30, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""The number of each in ``labelIds`` files; 0 (unlabelled), 3 (out of roi) and -1 (license plate) are missing."""
SEMANTIC_33 = segmentation((BACKGROUND, *IDS_32), name="semantic_33", target="semantic_33")
INVERSE_DEPTH = Task("inverse_depth", TaskKind.DENSE, "inverse_depth", shift=0.07, scale=0.07)
