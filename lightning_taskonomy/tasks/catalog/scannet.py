"""ScanNet (Dai et al., CVPR 2017): NYU's 40 classes after the background, which no pixel has, or its benchmark's 20."""

from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

NYU_40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refrigerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "other structure", "other furniture", "other prop",
)  # fmt: skip
"""In the order of the numbers in label files, from 1; 0 is unlabelled."""
IDS_20 = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)
"""The numbers of the 20 classes of ScanNet's benchmark."""

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *NYU_40))
SEMANTIC_20 = segmentation((NYU_40[number - 1] for number in IDS_20), name="semantic_20", target="semantic_20")
