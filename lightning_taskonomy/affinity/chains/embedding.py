"""Pictures of collections in the plane: t-SNE coordinates of pooled features.

"Factors of Influence for Transfer Learning" (Mensink et al., TPAMI 2021), Fig. 3: 150 images of each collection by
Euclidean distance (a); the same images by the backbones of several task types, by cosine distance, which removes
arbitrary scales (b and c).
"""

from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.errors import InputError

__all__ = ["PICTURED", "plane"]

PICTURED = 150
"""Images of a collection that are pictured, as in Fig. 3."""


def plane(
    features: NDArray[np.floating],
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    perplexity: float = 30.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Coordinates in the plane by scikit-learn's t-SNE, which keep near images near.

    Args:
        features: (N, D), at least 3 images, of all collections together.
        metric: The distance of features; ``cosine`` for features of several backbones.
        perplexity: About how many neighbours count, scikit-learn's default; at most a third of the images.
        seed: The same seed gives the same picture on one machine.

    Returns:
        (N, 2).

    Raises:
        InputError: scikit-learn is not installed, features do not fit or are not finite, or one is zero, so that it has
            no cosine.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 3 or not np.isfinite(features).all():
        raise InputError(f"features are {features.shape}: t-SNE takes finite ones of at least 3 images, (N, D)")
    if metric == "cosine" and not features.any(axis=1).all():
        raise InputError("an image has no feature but 0, and no cosine distance: leave it out or take euclidean")
    if metric == "cosine":  # PCA, which places the points first, must not see lengths either
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    model = _sklearn().TSNE(
        2,
        metric=metric,
        perplexity=min(perplexity, len(features) / 3),
        init="random" if min(features.shape) < 2 else "pca",
        random_state=seed,
    )
    coordinates: NDArray[np.float64] = np.asarray(model.fit_transform(features), dtype=np.float64)
    return coordinates


def _sklearn() -> ModuleType:
    try:
        import sklearn.manifold
    except ImportError as error:
        raise InputError("t-SNE needs scikit-learn: pip install 'lightning-taskonomy[influence]'") from error
    module: ModuleType = sklearn.manifold
    return module
