"""The three classes of Trash-ICRA19 (Fulton et al., 2019), and what else its files name."""

from lightning_taskonomy.tasks.catalog.objects import detection

CLASSES = ("plastic", "bio", "rov")
"""Debris of plastic; plants and animals; what people put there on purpose. In the order of the release's numbers."""

NAMES = {"platstic": "plastic"}
"""Other spellings of them."""

IGNORED = ("cloth", "fishing", "metal", "paper", "papper", "rubber", "unknown", "wood")
"""Trash of no class: neither an object nor background."""

OVERLAID = ("timestamp",)
"""What the camera wrote over the picture."""

DETECTION = detection("detection", CLASSES, crowds=True, nms=True)
