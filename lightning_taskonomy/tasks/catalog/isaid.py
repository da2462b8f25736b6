"""iSAID's 15 classes and the background (Waqas Zamir et al., CVPR Workshops 2019), by the colours of its devkit."""

from lightning_taskonomy.tasks.catalog.pixels import segmentation

COLOURS = {
    "background": (0, 0, 0), "ship": (0, 0, 63), "storage tank": (0, 63, 63), "baseball diamond": (0, 63, 0),
    "tennis court": (0, 63, 127), "basketball court": (0, 63, 191), "ground track field": (0, 63, 255),
    "bridge": (0, 127, 63), "large vehicle": (0, 127, 127), "small vehicle": (0, 0, 127), "helicopter": (0, 0, 191),
    "swimming pool": (0, 0, 255), "roundabout": (0, 191, 127), "soccer ball field": (0, 127, 191),
    "plane": (0, 127, 255), "harbor": (0, 100, 155),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation(COLOURS)
