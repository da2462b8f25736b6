"""SUIM's 8 classes (Islam et al., IROS 2020, Table 1), by the 3-bit colour of its masks; background is the water."""

from lightning_taskonomy.tasks.catalog.pixels import segmentation

COLOURS = {
    "background": (0, 0, 0), "human diver": (0, 0, 255), "plant": (0, 255, 0), "wreck": (0, 255, 255),
    "robot": (255, 0, 0), "reef": (255, 0, 255), "fish": (255, 255, 0), "sea floor": (255, 255, 255),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation(COLOURS)
