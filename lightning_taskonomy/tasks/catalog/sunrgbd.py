"""SUN RGB-D (Song et al., CVPR 2015): the first 37 of NYU's 40 classes, and depth."""

from lightning_taskonomy.tasks.catalog.pixels import depth, segmentation
from lightning_taskonomy.tasks.catalog.scannet import NYU_40

SEMANTIC_SEGMENTATION = segmentation(NYU_40[:37])
DEPTH_Z = depth(2.5, 1.2)
