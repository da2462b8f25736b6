"""The 15 classes of objects of DOTA 1.0 (Xia et al., 2018)."""

from lightning_taskonomy.tasks.catalog.objects import detection

CLASSES = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor", "swimming-pool",
    "helicopter",
)  # fmt: skip

DETECTION = detection("detection", CLASSES, crowds=True)
