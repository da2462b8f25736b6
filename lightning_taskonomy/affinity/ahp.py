"""Ordinal normalisation by the Analytic Hierarchy Process: a tournament becomes affinities that compare across targets.

Taskonomy (Zamir et al., CVPR 2018), section 3.3; Saaty, "The Analytic Hierarchy Process", 1980.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_taskonomy.errors import InputError

__all__ = ["affinity_to_distance", "ahp", "principal_eigenvector", "ratio_matrix"]

CLIP = (0.001, 0.999)
"""The paper's Laplace smoothing of win rates."""

SQUARINGS, TOLERANCE = 60, 1e-13
"""Squarings at the most, and the relative change at which they end."""


def ahp(rates: ArrayLike) -> NDArray[np.float64]:
    """Affinities of one target's transfers from their tournament.

    Args:
        rates: (K, K) win rates in [0, 1] of row against column.

    Returns:
        (K,) positive affinities that sum to 1.

    Raises:
        InputError: A pair has no win rate (NaN), or the matrix is not square.
    """
    return principal_eigenvector(ratio_matrix(rates))


def ratio_matrix(rates: ArrayLike, clip: tuple[float, float] = CLIP) -> NDArray[np.float64]:
    """W' = W / Wᵀ after clipping: how many times better the row is than the column (section 3.3).

    Args:
        rates: (K, K) win rates in [0, 1] with W + Wᵀ = 1.
        clip: The range that win rates are held to.

    Returns:
        (K, K) positive reciprocal matrix, the diagonal 1.

    Raises:
        InputError: A pair has no win rate (NaN), or the matrix is not square.
    """
    matrix = np.asarray(rates, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(f"win rates of shape {matrix.shape} are not a tournament: give (transfers, transfers)")
    if not np.isfinite(matrix).all():
        i, j = map(int, np.argwhere(~np.isfinite(matrix))[0])
        raise InputError(f"transfers {i} and {j} have no win rate, no image is valid in both: leave one of them out")
    clipped = np.clip(matrix, *clip)
    return clipped / clipped.T


def principal_eigenvector(matrix: ArrayLike) -> NDArray[np.float64]:
    """The Perron vector of a positive matrix.

    By repeated squaring, M, M², M⁴, ..., without any subtraction: the k-th squaring is 2ᵏ plain power steps, so that it
    converges for the smallest gap too, and the smallest entries keep their relative precision.

    Args:
        matrix: (K, K) positive.

    Returns:
        (K,) positive, summing to 1.

    Raises:
        InputError: An entry is not positive.
    """
    positive = np.asarray(matrix, dtype=np.float64)
    if positive.ndim != 2 or positive.shape[0] != positive.shape[1] or not (positive > 0).all():
        raise InputError("the principal eigenvector is taken of a square matrix of positive numbers")
    power = positive / positive.sum()
    vector: NDArray[np.float64] = power.sum(axis=1)
    vector /= vector.sum()
    for _ in range(SQUARINGS):
        power = power @ power
        power /= power.sum()
        previous, vector = vector, power.sum(axis=1)
        vector /= vector.sum()
        if (np.abs(vector - previous) <= TOLERANCE * vector).all():
            break
    return vector


def affinity_to_distance(affinity: ArrayLike, beta: float = 20) -> NDArray[np.float64]:
    """The paper's distance for display, exp(-β·P) element by element (Fig. 7)."""
    distance: NDArray[np.float64] = np.exp(-beta * np.asarray(affinity, dtype=np.float64))
    return distance
