"""Pascal VOC's 20 classes and the background (Everingham et al., IJCV 2015), in the order of the masks' numbers.

The paper's Table 1 counts 22 classes: it may count 255, the border of objects, which is missing here.
"""

from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *OBJECTS))
