"""The 10 classes of objects of BDD100K, in the order of its category numbers (2020), and what the files call them."""

from lightning_taskonomy.tasks.catalog.objects import detection

CLASSES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light", "traffic sign",
)  # fmt: skip

NAMES = {"bike": "bicycle", "caravan": "car", "motor": "motorcycle", "person": "pedestrian", "van": "car"}
"""Other names of them, those of the labels of 2018 among them."""

IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
"""What is no object of the class that it is like, and is not evaluated (``configs/det.toml`` of bdd100k)."""

DETECTION = detection("detection", CLASSES, crowds=True)
