"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017) as 66 classes: its 65 after the background, which no pixel has."""

from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

CLASSES = (
    "bird", "ground animal", "curb", "fence", "guard rail", "barrier", "wall", "bike lane", "crosswalk - plain",
    "curb cut", "parking", "pedestrian area", "rail track", "road", "service lane", "sidewalk", "bridge", "building",
    "tunnel", "person", "bicyclist", "motorcyclist", "other rider", "lane marking - crosswalk",
    "lane marking - general", "mountain", "sand", "sky", "snow", "terrain", "vegetation", "water", "banner", "bench",
    "bike rack", "billboard", "catch basin", "CCTV camera", "fire hydrant", "junction box", "mailbox", "manhole",
    "phone booth", "pothole", "street light", "pole", "traffic sign frame", "utility pole", "traffic light",
    "traffic sign (back)", "traffic sign (front)", "trash can", "bicycle", "boat", "bus", "car", "caravan",
    "motorcycle", "on rails", "other vehicle", "trailer", "truck", "wheeled slow", "car mount", "ego vehicle",
)  # fmt: skip
"""In the order of the numbers in label files, 0 to 64; 65 is unlabelled."""

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *CLASSES))
