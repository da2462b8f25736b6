"""Labels that geometry ties together, compared over some images of a data set: what disagrees, by how much, what fits.

Normals and depth; normals and vanishing points; depth, poses and a second view; depth and distance; boxes and masks;
points and boxes; masks and the class of each pixel. Each comparison is given one sample after the other and keeps a few
numbers of each.
"""

from lightning_taskonomy.data.agreement.base import DEPTHS, Comparison, Limits, Outcome
from lightning_taskonomy.data.agreement.comparisons import comparisons

__all__ = ["DEPTHS", "Comparison", "Limits", "Outcome", "comparisons"]
