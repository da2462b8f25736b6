"""AHP against closed forms and an independent eigen solver."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_taskonomy.affinity import affinity_to_distance, ahp, tournament
from lightning_taskonomy.affinity.ahp import principal_eigenvector, ratio_matrix
from lightning_taskonomy.errors import InputError

SHARES = st.floats(0, 1)
properties = settings(max_examples=60)


@st.composite
def tournaments(draw, shares=SHARES):
    """Win rates of up to eight transfers; a share of 0 or 1 is one that never or always wins."""
    count = draw(st.integers(1, 8))
    upper = np.triu(draw(hnp.arrays(float, (count, count), elements=shares)), 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(count)


@st.composite
def near_reducible(draw):
    """Reciprocal matrices of blocks between which one side is up to 10⁸ times better."""
    count = draw(st.integers(2, 8))
    group = np.array(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    inside = np.exp(np.triu(draw(hnp.arrays(float, (count, count), elements=st.floats(-1, 1))), 1))
    upper = inside * 10.0 ** (draw(st.integers(0, 8)) * (group[:, None] - group[None]))
    return np.triu(upper, 1) + np.tril(1 / upper.T, -1) + np.eye(count)


def by_lapack(matrix):
    """The Perron vector from a full decomposition, polished; scaled first, so that small entries keep their digits."""
    scale = np.exp(np.log(matrix).mean(axis=1))
    values, vectors = np.linalg.eig(matrix * scale / scale[:, None])
    vector = scale * np.abs(vectors[:, np.argmax(values.real)].real)
    for _ in range(2):
        vector = matrix @ (vector / vector.sum())
    return vector / vector.sum()


def random_rates(seed, count):
    upper = np.triu(np.random.default_rng(seed).random((count, count)), 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(count)


def test_a_consistent_matrix_returns_its_weights():
    weights = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    rates = weights[:, None] / (weights[:, None] + weights[None])
    np.testing.assert_allclose(ahp(rates), weights, rtol=1e-13)


def test_all_ties_give_the_uniform_vector():
    np.testing.assert_allclose(ahp(np.full((6, 6), 0.5)), np.full(6, 1 / 6), rtol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_it_is_the_eigenvector_that_another_library_finds(count):
    rates = random_rates(count, count)
    matrix = ratio_matrix(rates)
    values, vectors = scipy.linalg.eig(matrix)
    expected = np.abs(vectors[:, values.real.argmax()].real)
    affinities = ahp(rates)
    np.testing.assert_allclose(affinities, expected / expected.sum(), rtol=1e-9)
    assert affinities.sum() == pytest.approx(1)
    assert (affinities > 0).all()


def test_near_reducible_matrices_have_lapacks_vector():
    groups = np.repeat([0, 1, 2], 4)
    rates = np.where(groups[:, None] < groups[None], 1.0, np.where(groups[:, None] > groups[None], 0.0, 0.5))
    np.testing.assert_allclose(ahp(rates), by_lapack(ratio_matrix(rates)), rtol=1e-10)
    cycle = np.full((3, 3), 0.5)
    for winner, loser in ((0, 1), (1, 2), (2, 0)):
        cycle[winner, loser], cycle[loser, winner] = 1, 0  # the second eigenvalue is nearly as large as the first
    np.testing.assert_allclose(ahp(cycle), np.full(3, 1 / 3), rtol=1e-10)
    nearly = np.array([[1, 1e-9, 1e-9], [1e-9, 1 - 1e-4, 1e-9], [1e-9, 1e-9, 0.5]])
    np.testing.assert_allclose(principal_eigenvector(nearly), by_lapack(nearly), rtol=1e-8)


def test_permutation_equivariance():
    rates = random_rates(3, 9)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(ahp(rates[np.ix_(order, order)]), ahp(rates)[order], rtol=1e-11)


@properties
@given(weights=st.lists(st.floats(0.002, 1), min_size=1, max_size=9))
def test_every_consistent_matrix_returns_its_vector(weights):
    weights = np.array(weights)
    rates = weights[:, None] / (weights[:, None] + weights[None])
    np.testing.assert_allclose(ahp(rates), weights / weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(
        principal_eigenvector(weights[:, None] / weights[None]), weights / weights.sum(), rtol=1e-12
    )


@properties
@given(count=st.integers(1, 40))
def test_ties_alone_are_uniform(count):
    np.testing.assert_allclose(ahp(np.full((count, count), 0.5)), 1 / count, rtol=1e-13)


@properties
@given(rates=tournaments(), data=st.data())
def test_any_permutation_permutes_the_affinities(rates, data):
    order = np.array(data.draw(st.permutations(range(len(rates)))))
    np.testing.assert_allclose(ahp(rates[np.ix_(order, order)]), ahp(rates)[order], rtol=1e-9)


@properties
@given(rates=tournaments(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)))
def test_it_is_the_eigenvector_of_any_tournament(rates):
    matrix, affinities = ratio_matrix(rates), ahp(rates)
    np.testing.assert_allclose(affinities, by_lapack(matrix), rtol=1e-9)
    values = matrix @ affinities / affinities  # Collatz and Wielandt: the largest eigenvalue lies between
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


@properties
@given(matrix=near_reducible())
def test_it_is_lapacks_vector_of_any_near_reducible_matrix(matrix):
    vector = principal_eigenvector(matrix)
    np.testing.assert_allclose(vector, by_lapack(matrix), rtol=1e-8)
    values = matrix @ vector / vector
    np.testing.assert_allclose(values, values[0], rtol=1e-8)


def test_win_rates_are_clipped_as_the_paper_says():
    matrix = ratio_matrix(np.array([[0.5, 1.0], [0.0, 0.5]]))
    np.testing.assert_allclose(matrix, [[1, 999], [1 / 999, 1]])


def test_shuffled_scores_give_nearly_uniform_affinities():
    generator = np.random.default_rng(0)
    scores = (generator.random((8, 4000)) + np.linspace(0, 1, 8)[:, None]).astype(np.float32)
    spread = np.ptp(ahp(tournament(scores)))
    shuffled = generator.permuted(scores, axis=0)
    assert np.ptp(ahp(tournament(shuffled))) < 0.02 < 0.2 < spread


def test_distance_is_the_papers():
    np.testing.assert_allclose(affinity_to_distance([0, 0.05, 1]), [1, np.exp(-1), np.exp(-20)])


def test_holes_and_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="transfers 0 and 1 have no win rate"):
        ahp([[0.5, np.nan], [np.nan, 0.5]])
    with pytest.raises(InputError, match="not a tournament"):
        ahp(np.zeros((2, 3)))
    with pytest.raises(InputError, match="positive"):
        principal_eigenvector(np.zeros((2, 2)))
