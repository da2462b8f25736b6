"""Virtual KITTI 2 (Cabon et al., 2020): 14 classes by the colours of its ``colors.txt``, and depth.

Background is what has no colour there, black. The paper's Table 1 counts 9 classes, which it does not name; the tables
that its authors published have these 14 and the background.
"""

from lightning_taskonomy.tasks.catalog.pixels import depth, segmentation

COLOURS = {
    "background": (0, 0, 0), "terrain": (210, 0, 200), "sky": (90, 200, 255), "tree": (0, 199, 0),
    "vegetation": (90, 240, 0), "building": (140, 140, 140), "road": (100, 60, 100), "guard rail": (250, 100, 255),
    "traffic sign": (255, 255, 0), "traffic light": (200, 200, 0), "pole": (255, 130, 0), "misc": (80, 80, 80),
    "truck": (160, 60, 60), "car": (255, 127, 80), "van": (0, 139, 139),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation(COLOURS)
DEPTH_Z = depth(20.0, 18.0)
