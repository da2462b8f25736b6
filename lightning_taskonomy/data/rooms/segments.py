"""Unsupervised segmentation by normalised cuts: labels segments_2d and segments_25d.

Shi and Malik, Normalized cuts and image segmentation, PAMI 2000, section 3.2: the eigenvectors of the normalised
affinity of a grid of cells; k-means there into too many groups; groups merged greedily until the cut between any two is
too costly. Taskonomy (supplementary, "unsupervised segmentation") cuts on colour alone for 2D, and on colour, depth and
normals for 2.5D. A pixel then joins the neighbouring cell that it resembles most.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import eigsh

__all__ = ["normalized_cut", "segments_2d", "segments_25d"]

Table = NDArray[np.float64]
Segments = NDArray[np.int64]

_CELLS = 32
_RADIUS = 4.5
_VECTORS = 14
_GROUPS = 28
_FLOOR = 0.01
"""Affinity of neighbours that are not alike, so that single cells are not worth a cut."""
_STOP = 0.14
"""Groups a, b merge while w(a, b) / min(assoc(a), assoc(b)) is above this."""


def segments_2d(image: NDArray[np.uint8]) -> Segments:
    """(H, W) int64 segments of a picture (3, H, W) uint8."""
    return normalized_cut(_color(image))


def segments_25d(image: NDArray[np.uint8], depth: Table, normals: Table) -> Segments:
    """(H, W) int64 segments of a picture (3, H, W) uint8 with z-depth (H, W) in metres and normals (H, W, 3)."""
    geometry = np.concatenate([0.5 * np.log(depth)[..., None], 0.5 * normals], -1)
    return normalized_cut(np.concatenate([0.4 * _color(image), geometry], -1))


def _color(image: NDArray[np.uint8]) -> Table:
    """(H, W, 3) lightness and two opponent colours, smoothed by a pixel."""
    r, g, b = image.astype(np.float64) / 255
    channels = ((r + g + b) / 3, 1.5 * (r - g), 1.5 * ((r + g) / 2 - b))
    return np.stack([ndimage.gaussian_filter(c, image.shape[-1] / 100) for c in channels], -1)


@lru_cache
def _pairs(cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Table]:
    """All pairs i < j of cells within the radius, and their squared distances."""
    reach = int(_RADIUS)
    number = np.arange(cells * cells).reshape(cells, cells)
    first, second, squares = [], [], []
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            if (dy, dx) > (0, 0) and dy * dy + dx * dx <= _RADIUS**2:
                low, high = max(0, -dx), cells - max(0, dx)
                first.append(number[: cells - dy, low:high].ravel())
                second.append(number[dy:, low + dx : high + dx].ravel())
                squares.append(np.full(first[-1].size, float(dy * dy + dx * dx)))
    return np.concatenate(first), np.concatenate(second), np.concatenate(squares)


def normalized_cut(features: Table) -> Segments:
    """Segments of an image of features.

    Args:
        features: (H, H, C); two pixels are alike within a distance of about 0.1.

    Returns:
        (H, H) int64 ids, fewer than 28, from 0 without gaps, by first appearance.
    """
    size = features.shape[0]
    edges = np.linspace(0, size, min(_CELLS, size) + 1).round().astype(int)
    cells = len(edges) - 1
    count = np.outer(np.diff(edges), np.diff(edges))[..., None]
    sums = np.add.reduceat(np.add.reduceat(features, edges[:-1], 0), edges[:-1], 1)
    means = (sums / count).reshape(cells * cells, -1)
    i, j, squares = _pairs(cells)
    alike = np.exp(-((means[i] - means[j]) ** 2).sum(1) / 0.1**2)
    weight = (alike + _FLOOR) * np.exp(-squares / 4.0**2)
    affinity = sparse.coo_matrix((weight, (i, j)), (cells * cells, cells * cells)).tocsr()
    affinity = affinity + affinity.T
    scale = 1 / np.sqrt(np.asarray(affinity.sum(1)).ravel())
    balanced = sparse.diags(scale) @ affinity @ sparse.diags(scale)
    values, vectors = eigsh(
        balanced.tocsr(), k=_VECTORS, which="LA", v0=1 / scale, tol=1e-3, maxiter=200, ncv=3 * _VECTORS
    )
    points = vectors * scale[:, None] * np.sqrt(np.maximum(values, 0))
    groups = _merge(_cluster(points), affinity)
    return _refine(features, means, groups, edges)


def _cluster(points: Table) -> Segments:
    """k-means from far-apart starts (Gonzalez), ten rounds."""
    centers = [points[np.argmax((points**2).sum(1))]]
    distance = ((points - centers[0]) ** 2).sum(1)
    for _ in range(_GROUPS - 1):
        centers.append(points[np.argmax(distance)])
        distance = np.minimum(distance, ((points - centers[-1]) ** 2).sum(1))
    middle = np.stack(centers)
    for _ in range(10):
        group: Segments = np.argmin((middle**2).sum(1) - 2 * np.einsum("pk,gk->pg", points, middle), 1)
        members = sparse.csr_matrix((np.ones(len(points)), (group, np.arange(len(points)))), (_GROUPS, len(points)))
        number = np.asarray(members.sum(1))
        middle = np.where(number > 0, (members @ points) / np.maximum(number, 1), middle)
    return group.astype(np.int64)


def _merge(group: Segments, affinity: sparse.csr_matrix) -> Segments:
    """Merges the two groups with the most shared affinity until all are well cut from each other."""
    n = len(group)
    members = sparse.csr_matrix((np.ones(n), (group, np.arange(n))), (_GROUPS, n))
    between = np.asarray((members @ affinity @ members.T).todense())
    name = np.arange(_GROUPS)
    while True:
        total = between.sum(1)
        shared = between / np.maximum(np.minimum(total[:, None], total[None]), 1e-12)
        np.fill_diagonal(shared, 0)
        a, b = np.unravel_index(np.argmax(shared), shared.shape)
        if shared[a, b] < _STOP:
            return name[group]
        between[a] += between[b]
        between[:, a] += between[:, b]
        between[b], between[:, b] = 0, 0
        name[name == b] = a


def _refine(features: Table, means: Table, group: Segments, edges: NDArray[np.int64]) -> Segments:
    """Each pixel takes the group of the likest of the nine cells around it."""
    size, cells = features.shape[0], len(edges) - 1
    home = np.repeat(np.arange(cells), np.diff(edges))
    centers = (edges[:-1] + edges[1:] - 1) / 2
    spread = size / cells
    best, out = np.full((size, size), np.inf), np.zeros((size, size), np.int64)
    for dy in (0, -1, 1):
        row = np.clip(home + dy, 0, cells - 1)
        away_y = ((np.arange(size) - centers[row]) / spread) ** 2
        for dx in (0, -1, 1):
            column = np.clip(home + dx, 0, cells - 1)
            away_x = ((np.arange(size) - centers[column]) / spread) ** 2
            cell = row[:, None] * cells + column[None]
            cost = ((features - means[cell]) ** 2).sum(-1) / 0.1**2 + 0.3 * (away_y[:, None] + away_x[None])
            better = cost < best
            best, out = np.where(better, cost, best), np.where(better, group[cell], out)
    _, first, inverse = np.unique(out, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[inverse].reshape(size, size).astype(np.int64)
