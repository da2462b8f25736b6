"""The shortest convex combination, against geometry, its optimality conditions and a grid."""

import itertools

import numpy as np
import pytest

from lightning_taskonomy.optim import min_norm_weights


def weights_of(*gradients):
    gradients = np.asarray(gradients, np.float64)
    return min_norm_weights(gradients @ gradients.T)


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ((1, 0), (0, 1), 0.5),
        ((2, 0), (0, 1), 0.2),  # 1 / (4 + 1)
        ((1, 0), (3, 1), 1.0),  # the first is the shortest: the angle to the second is sharp enough
        ((3, 1), (1, 0), 0.0),
        ((1, 0), (-3, 0), 0.75),  # opposite: they cancel
        ((4, 3), (-1, 2), 3 / 26),  # ((-5, -1)·(-1, 2)) / |(-5, -1)|²
    ],
)
def test_two_gradients_have_the_closed_form(first, second, share):
    a, b = np.array(first, float), np.array(second, float)
    assert np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1) == pytest.approx(share)
    np.testing.assert_allclose(weights_of(first, second), [share, 1 - share], atol=1e-12)


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [
        ([(1, 0), (2, 1), (2, -1)], [1, 0, 0]),  # a corner
        ([(1, 1), (1, -1), (3, 0)], [1 / 2, 1 / 2, 0]),  # an edge: the point (1, 0)
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1)], [1 / 3, 1 / 3, 1 / 3]),  # within
        ([(2, 0, 0), (0, 1, 0), (0, 0, 1)], [1 / 9, 4 / 9, 4 / 9]),  # orthogonal: as 1 / length²
        ([(1, 0), (-1, 2), (-1, -2)], [1 / 2, 1 / 4, 1 / 4]),  # zero lies within: they cancel
    ],
)
def test_three_gradients_on_every_kind_of_face(gradients, expected):
    np.testing.assert_allclose(weights_of(*gradients), expected, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 10])
@pytest.mark.parametrize("kind", ["any", "alike", "few dimensions", "lengths", "twins"])
def test_the_conditions_of_optimality(count, kind):
    """Σ w g is shortest exactly where ⟨g_t, Σ w g⟩ ≥ |Σ w g|² for all t (Karush, Kuhn, Tucker)."""
    random = np.random.default_rng(count)
    for _ in range(20):
        gradients = random.normal(size=(count, 2 if kind == "few dimensions" else 30))
        if kind == "alike":
            gradients = 5 + gradients
        if kind == "lengths":
            gradients *= 10.0 ** random.uniform(-6, 6, (count, 1))
        if kind == "twins":
            gradients[-1] = gradients[0]
        weights = weights_of(*gradients)
        shortest = weights @ gradients
        scale = np.linalg.norm(gradients, axis=1).min() * np.linalg.norm(gradients, axis=1)
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
        assert ((gradients @ shortest - shortest @ shortest) / scale).min() > -1e-7


def test_no_point_of_a_grid_is_shorter():
    random, steps = np.random.default_rng(0), 40
    grid = np.array([(a, b, steps - a - b) for a, b in itertools.product(range(steps + 1), repeat=2) if a + b <= steps])
    for _ in range(20):
        gradients = random.normal(size=(3, 4))
        lengths = np.linalg.norm(grid / steps @ gradients, axis=1)
        shortest = np.linalg.norm(weights_of(*gradients) @ gradients)
        assert shortest <= lengths.min() + 1e-12
        assert lengths.min() - shortest < 0.1  # and the grid comes near


def test_of_scaled_gradients_the_weights_are_the_same():
    gradients = np.random.default_rng(1).normal(size=(4, 6))
    for factor in (1e-12, 1e12):
        np.testing.assert_allclose(weights_of(*(factor * gradients)), weights_of(*gradients), rtol=1e-9)


def test_a_gradient_of_zero_is_the_shortest():
    np.testing.assert_array_equal(weights_of((1, 0), (0, 0), (0, 2)), [0, 1, 0])
