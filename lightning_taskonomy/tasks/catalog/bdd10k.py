"""BDD's segmentation (Yu et al., CVPR 2020) as 20 classes: Cityscapes' 19 after the background, which no pixel has."""

from lightning_taskonomy.tasks.catalog.cityscapes import GROUPS
from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, segmentation

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *(name for names in GROUPS.values() for name in names)))
