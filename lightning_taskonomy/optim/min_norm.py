"""The shortest convex combination of gradients (Désidéri 2012; Sener and Koltun 2018, Eq. 3), exactly."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["min_norm_weights"]

_PASSES = 100  # of the solver, per gradient: it needs about one


def min_norm_weights(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w ≥ 0 that add up to 1 and minimise |Σ_t w_t·g_t|.

    For R with RᵀR = GᵀG, the u ≥ 0 that minimises |R·u|² + (Σ u - 1)² is a multiple of w: of all u with the same sum
    it is the one with the least |R·u|. Non-negative least squares by Lawson and Hanson's active sets end after finitely
    many steps, where the Frank-Wolfe method of the paper (its Algorithm 2) comes near.

    Args:
        products: Inner products ⟨g_s, g_t⟩ of the gradients, (T, T).

    Returns:
        The weights, (T,). Where several are optimal, their combination is the same. A gradient of zero has the weight 1
        and the others none.
    """
    squares = np.diag(products)
    if not squares.all():
        return np.asarray((squares == 0) / (squares == 0).sum(), np.float64)
    lengths = np.sqrt(squares / squares.min())  # the shortest is 1, so that the two terms are of one size
    values, vectors = np.linalg.eigh(products / np.sqrt(np.outer(squares, squares)))  # cosines: whatever the lengths
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T * lengths
    system = np.vstack([root, np.ones(len(squares))])
    target = np.append(np.zeros(len(squares)), 1.0)
    multiple, _ = nnls(system, target, maxiter=_PASSES * len(squares))
    weights: NDArray[np.float64] = multiple / multiple.sum()
    return weights
