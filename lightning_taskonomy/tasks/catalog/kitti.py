"""KITTI: semantic classes by Cityscapes' numbers (Abu Alhaija et al., IJCV 2018), and depth (Uhrig et al., 3DV 2017).

The paper's Table 1 counts 30 classes, which it does not name; the tables that its authors published have the same 33 as
Cityscapes.
"""

from lightning_taskonomy.tasks.catalog.cityscapes import IDS_32
from lightning_taskonomy.tasks.catalog.pixels import BACKGROUND, depth, segmentation

SEMANTIC_SEGMENTATION = segmentation((BACKGROUND, *IDS_32))
DEPTH_Z = depth(18.0, 12.0)
