"""The Indian Driving Dataset (Varma et al., WACV 2019) as 35 classes: 34 after the background, which no pixel has."""

from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

IDS = {
    "road": 0, "parking": 1, "drivable fallback": 2, "sidewalk": 3, "rail track": 4, "non-drivable fallback": 5,
    "person": 6, "animal": 7, "rider": 8, "motorcycle": 9, "bicycle": 10, "autorickshaw": 11, "car": 12, "truck": 13,
    "bus": 14, "caravan": 15, "trailer": 16, "vehicle fallback": 18, "curb": 19, "wall": 20, "fence": 21,
    "guard rail": 22, "billboard": 23, "traffic sign": 24, "traffic light": 25, "pole": 26, "polegroup": 27,
    "obs-str-bar-fallback": 28, "building": 29, "bridge": 30, "tunnel": 31, "vegetation": 32, "sky": 33,
    "fallback background": 34,
}  # fmt: skip
"""The number of each in ``labelids`` files; 17 (train) and 35 to 39 (unlabelled, ego vehicle, rectification border, out
of roi, license plate) are missing, as in the tables that the paper's authors published."""

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *IDS))
