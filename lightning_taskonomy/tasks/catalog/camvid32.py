"""CamVid's original 32 colours (Brostow et al., 2009): 31 classes, and void as the background that no pixel has.

The paper's Table 1 counts 23 classes, which it does not name; the tables that its authors published have these 31 and
the background. SegNet's 11 are in ``camvid``.
"""

from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

VOID = (0, 0, 0)
COLOURS = {
    "animal": (64, 128, 64), "archway": (192, 0, 128), "bicyclist": (0, 128, 192), "bridge": (0, 128, 64),
    "building": (128, 0, 0), "car": (64, 0, 128), "cart, luggage, pram": (64, 0, 192), "child": (192, 128, 64),
    "column, pole": (192, 192, 128), "fence": (64, 64, 128), "lane marking, drivable": (128, 0, 192),
    "lane marking, not drivable": (192, 0, 64), "text": (128, 128, 64), "motorcycle, scooter": (192, 0, 192),
    "other moving": (128, 64, 64), "parking block": (64, 192, 128), "pedestrian": (64, 64, 0), "road": (128, 64, 128),
    "road shoulder": (128, 128, 192), "sidewalk": (0, 0, 192), "sign": (192, 128, 128), "sky": (128, 128, 128),
    "SUV, pickup truck": (64, 128, 192), "traffic cone": (0, 0, 64), "traffic light": (0, 64, 64),
    "train": (192, 64, 128), "tree": (128, 128, 0), "truck, bus": (192, 128, 192), "tunnel": (64, 0, 64),
    "vegetation": (192, 192, 0), "wall": (64, 192, 0),
}  # fmt: skip

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *COLOURS))
