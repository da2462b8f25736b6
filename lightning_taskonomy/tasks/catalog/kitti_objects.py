"""The 8 classes of objects of KITTI, in the order of its devkit."""

from lightning_taskonomy.tasks.catalog.objects import detection

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
IGNORED = "DontCare"
"""Regions where nobody looked for objects."""

DETECTION = detection("detection", CLASSES, crowds=True)
