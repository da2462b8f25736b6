"""CamVid's 11 classes, in the order of the SegNet tutorial; its class 11, "unlabelled", is missing."""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip

SEMANTIC_SEGMENTATION = Task(
    "semantic_segmentation", TaskKind.SEGMENTATION, "semantic", 11, family=Family.SEMANTIC, class_names=CLASSES
)
