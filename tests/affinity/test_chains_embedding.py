"""t-SNE coordinates of collections of images."""

import sys

import numpy as np
import pytest

from lightning_taskonomy.affinity.chains import plane
from lightning_taskonomy.errors import InputError


@pytest.mark.parametrize(("metric", "apart"), [("euclidean", True), ("cosine", False)])
def test_collections_lie_apart_by_the_metric(metric, apart):
    generator = np.random.default_rng(0)
    base = generator.random((40, 12)) + 0.1
    features = np.concatenate([base, 100 * base])  # the same directions at another scale
    coordinates = plane(features, metric=metric, perplexity=10)
    assert coordinates.shape == (80, 2) and np.isfinite(coordinates).all()
    assert np.array_equal(coordinates, plane(features, metric=metric, perplexity=10))
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1) + np.diag(np.full(80, np.inf))
    same = (distances.argmin(axis=1) < 40) == (np.arange(80) < 40)
    assert same.all() if apart else same.mean() < 0.5  # an image is next to its copy of another scale


def test_few_images_and_one_channel():
    assert plane(np.eye(3)).shape == (3, 2)
    assert plane(np.arange(5.0)[:, None]).shape == (5, 2)


@pytest.mark.parametrize("features", [np.eye(2), np.zeros(4), np.full((4, 2), np.nan)])
def test_features_that_do_not_fit_are_refused(features):
    with pytest.raises(InputError, match="t-SNE takes finite ones"):
        plane(features)


def test_without_scikit_learn_or_a_cosine(monkeypatch):
    with pytest.raises(InputError, match="no cosine distance"):
        plane(np.diag([1.0, 1.0, 0.0]), metric="cosine")
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(InputError, match=r"lightning-taskonomy\[influence\]"):
        plane(np.eye(3))
