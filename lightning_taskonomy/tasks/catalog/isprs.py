"""ISPRS' 6 classes of Potsdam and Vaihingen, by the colours of the benchmark; background is its clutter."""

from lightning_taskonomy.tasks.catalog.pixels import segmentation

COLOURS = {
    "background": (255, 0, 0), "impervious surface": (255, 255, 255), "building": (0, 0, 255),
    "low vegetation": (0, 255, 255), "tree": (0, 255, 0), "car": (255, 255, 0),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation(COLOURS)
