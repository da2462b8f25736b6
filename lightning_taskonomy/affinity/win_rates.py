"""Who does better on how many images: the ordinal comparison that affinity, gain and quality rest on.

Taskonomy (Zamir et al., CVPR 2018), section 3.3: output quality and loss are only assumed to change monotonically, so
networks are compared image by image. A score is one number per image, lower is better, NaN where the label is missing.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.errors import InputError

__all__ = ["tournament", "win_rate"]

Scores = NDArray[np.float32]


def win_rate(scores: ArrayLike, reference: ArrayLike) -> float:
    """Share of images on which ``scores`` is better (lower) than ``reference``; ties count half.

    Args:
        scores: (N,) one score per image, NaN where unlabelled.
        reference: (N,) scores of the other network on the same images.

    Returns:
        A share in [0, 1] over the images valid in both; NaN if there are none.

    Raises:
        InputError: The two do not have one score for each of the same images.
    """
    ours, theirs = np.asarray(scores), np.asarray(reference)
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise InputError(
            f"scores of shape {ours.shape} and {theirs.shape} cannot be compared: give one score per image of each"
        )
    both = int(np.count_nonzero(~(np.isnan(ours) | np.isnan(theirs))))
    wins, ties = np.count_nonzero(ours < theirs), np.count_nonzero(ours == theirs)
    return float((wins + 0.5 * ties) / both) if both else float("nan")


def tournament(scores: ArrayLike) -> NDArray[np.float64]:
    """Every transfer against every other one (section 3.3, W_t).

    Compiled comparisons in blocks that stay in the processor's cache; beyond the scores it holds a few (K, K)
    matrices.

    Args:
        scores: (K, N) float32, one row per transfer of one target, one column per image; lower is better, NaN where
            unlabelled.

    Returns:
        (K, K) W with W[i, j] the share in [0, 1] of images valid in both on which i beats j, ties counted half, so
        that W + Wᵀ = 1 and the diagonal is 0.5; NaN for two rows without a common valid image (and on the diagonal of
        a row without any).

    Raises:
        InputError: The scores are not a matrix.
    """
    matrix = np.ascontiguousarray(scores, dtype=np.float32)
    if matrix.ndim != 2:
        raise InputError(f"scores of shape {matrix.shape} are not a tournament: give (transfers, images)")
    from lightning_taskonomy.affinity.comparisons import compare

    points, both = compare(matrix)
    with np.errstate(invalid="ignore"):
        rates: NDArray[np.float64] = points / (2 * both)
    return rates
