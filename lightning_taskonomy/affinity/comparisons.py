"""The one loop of this package that NumPy is too slow for; importing it imports Numba, so it is imported when used."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["compare"]

Function = TypeVar("Function", bound=Callable[..., object])

WIDTH = 2048
"""Images of a block: the rows of a block of a few hundred transfers stay in the second-level cache."""


def _compiled(function: Function) -> Function:
    """Compiles at the first call, for one thread; the machine code is kept on disk for later processes."""
    return cast(Function, numba.njit(cache=True)(function))


@_compiled
def compare(scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compares every two rows, image by image.

    The innermost loop has no branch and counts in the width of what it compares, so that it is compiled to vector
    instructions; a comparison with NaN is false.

    Args:
        scores: (K, N), C-contiguous, lower is better, NaN where unlabelled.

    Returns:
        (K, K) points, 2 for each image on which the row is better than the column and 1 for each tie; and (K, K) how
        many images are valid in both.
    """
    count, images = scores.shape
    points = np.zeros((count, count), np.int64)
    both = np.zeros((count, count), np.int64)
    for start in range(0, images, WIDTH):
        stop = min(images, start + WIDTH)
        for i in range(count):
            ours = scores[i, start:stop]
            for j in range(i + 1):
                theirs = scores[j, start:stop]
                better, worse, equal = np.int32(0), np.int32(0), np.int32(0)
                for image in range(stop - start):
                    a, b = ours[image], theirs[image]
                    better = np.int32(better + np.int32(a < b))
                    worse = np.int32(worse + np.int32(a > b))
                    equal = np.int32(equal + np.int32(a == b))
                points[i, j] += 2 * better + equal
                both[i, j] += better + worse + equal
                if i != j:
                    points[j, i] += 2 * worse + equal
                    both[j, i] += better + worse + equal
    return points, both
