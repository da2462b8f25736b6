"""The 20 classes of objects of Pascal VOC, in the alphabetical order of its devkit."""

from lightning_taskonomy.tasks.catalog.objects import detection

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

DETECTION = detection("detection", CLASSES, crowds=True, nms=True)
