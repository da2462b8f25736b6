"""Labels that follow from the picture alone: texture edges and texture keypoints."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["edges_2d", "keypoints_2d", "luma"]

Plane = NDArray[np.float32]


def luma(image: NDArray[np.uint8]) -> Plane:
    """(H, W) float32 in [0, 1] from (3, H, W) uint8: ITU-R BT.601."""
    red, green, blue = image.astype(np.float32) / np.float32(255)
    return np.asarray(0.299 * red + 0.587 * green + 0.114 * blue, np.float32)


def edges_2d(image: NDArray[np.uint8]) -> Plane:
    """(1, H, W) float32 in [0, 1]: gradient magnitude of the smoothed picture.

    Taskonomy (supplementary, "edge detection (2D)"): Canny (1986) without non-maximum suppression, so that the label is
    continuous. Gaussian of 1 pixel, Sobel, magnitude; a step of 0.6 of the range or more gives 1.
    """
    smooth = ndimage.gaussian_filter(luma(image), 1.0)
    magnitude = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 1.6
    return np.asarray(np.clip(magnitude, 0, 1)[None], np.float32)


def keypoints_2d(image: NDArray[np.uint8]) -> Plane:
    """(1, H, W) float32 in [0, 1]: the strongest blob or corner response over scales.

    SURF's detector, which Taskonomy uses: the scale-normalised determinant of the Hessian (Bay et al., Speeded-up
    robust features, CVIU 2008, section 3.2), with Gaussian derivatives of 1.2, 2 and 3.2 pixels in place of box
    filters; negative determinants (saddles) count as 0. Then x / (x + 0.01).
    """
    gray, best = luma(image), np.zeros(image.shape[1:], np.float32)
    for sigma in (1.2, 2.0, 3.2):
        xx, yy, xy = (ndimage.gaussian_filter(gray, sigma, order, truncate=3.0) for order in ((0, 2), (2, 0), (1, 1)))
        best = np.maximum(best, sigma**4 * (xx * yy - (0.9 * xy) ** 2))
    return np.asarray((best / (best + 0.01))[None], np.float32)
