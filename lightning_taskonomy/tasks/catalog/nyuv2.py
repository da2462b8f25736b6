"""NYUv2's 13 classes (Couprie et al., ICLR 2013), in the order of the mapping from 40; unlabelled is missing.

Depth and normals are the tasks ``depth_z`` and ``normals`` of the default dictionary.
"""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip

SEMANTIC_SEGMENTATION = Task(
    "semantic_segmentation", TaskKind.SEGMENTATION, "semantic", 13, family=Family.SEMANTIC, class_names=CLASSES
)
