"""Virtual Gallery (Weinzaepfel et al., CVPR 2019): 9 classes and the background by colour, and depth.

The paper's Table 1 counts 8 classes, which it does not name; the tables that its authors published have these 10.
"""

from lightning_taskonomy.tasks.catalog.pixels import depth, segmentation

COLOURS = {
    "background": (0, 0, 0), "wall": (255, 127, 80), "ceiling": (255, 248, 220), "sky": (0, 255, 255),
    "door": (189, 183, 107), "light": (230, 230, 250), "floor": (233, 150, 122), "misc": (80, 80, 80),
    "painting": (128, 0, 0), "human": (0, 255, 0),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation(COLOURS)
DEPTH_Z = depth(4.0, 2.5)
