"""Domain distance of two collections of images by four assignments (Eq. (1), Table 10)."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lightning_taskonomy.affinity.chains import (
    Distances,
    Factors,
    chain_distances,
    domain_distances,
    nearest,
    one_to_one,
)
from lightning_taskonomy.affinity.chains.distance import COLUMNS, ROWS
from lightning_taskonomy.errors import InputError


def features(seed, count, channels=24, mean=0.0):
    return (np.random.default_rng(seed).standard_normal((count, channels)) + mean).astype(np.float32)


@pytest.mark.parametrize("sizes", [(1, 1), (7, 5), (ROWS + 3, COLUMNS + 5), (2 * ROWS, 40)])
def test_nearest_distances_are_those_of_scipy(sizes):
    target, source = features(0, sizes[0], 8), features(1, sizes[1], 8, mean=0.5)
    exact = cdist(target.astype(np.float64), source.astype(np.float64))
    both = nearest(target, source)
    np.testing.assert_allclose(both.target_to_source, exact.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(both.source_to_target, exact.min(axis=0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_far_from_the_origin_and_in_any_scale(dtype):
    target, source = features(0, 60, mean=100.0).astype(dtype), features(1, 50, mean=100.0).astype(dtype)
    exact = cdist(target.astype(np.float64), source.astype(np.float64))
    np.testing.assert_allclose(nearest(target, source).target_to_source, exact.min(axis=1), rtol=1e-6)
    if dtype is np.float64:
        both = nearest(target * 1e30, source * 1e30)  # squares beyond float32
        np.testing.assert_allclose(both.source_to_target, exact.min(axis=0) * 1e30, rtol=1e-6)


def test_a_collection_is_at_distance_0_from_itself_and_from_one_that_includes_it():
    target = features(0, 40)
    wide = np.concatenate([features(1, 60, mean=5.0), target])
    assert set(domain_distances(target, target).values()) == {0.0}
    distances = domain_distances(target, wide)
    assert distances["target_to_source"] == 0 and distances["one_to_one"] == 0
    assert distances["source_to_target"] > 10 * 60 / 100  # images that lie at least 10 apart
    assert distances["symmetric"] == distances["source_to_target"] / 2


def test_points_on_a_line_by_hand():
    target, source = np.array([[0.0], [1.0], [10.0]]), np.array([[0.0], [2.0], [2.5]])
    distances = domain_distances(target, source)
    assert distances["target_to_source"] == pytest.approx((0 + 1 + 7.5) / 3)
    assert distances["source_to_target"] == pytest.approx((0 + 1 + 1.5) / 3)
    assert distances["symmetric"] == pytest.approx(11 / 6)
    assert distances["one_to_one"] == pytest.approx((0 + 1 + 7.5) / 3)


@pytest.mark.parametrize("sizes", [(6, 6), (4, 6), (6, 4)])
def test_one_to_one_is_the_best_of_all_pairings(sizes):
    target, source = features(2, sizes[0], 3), features(3, sizes[1], 3)
    costs = cdist(target, source)
    few, many = sorted(sizes)
    costs = costs if sizes[0] == few else costs.T
    best = min(costs[np.arange(few), list(order)].mean() for order in itertools.permutations(range(many), few))
    assert one_to_one(target, source) == pytest.approx(best)


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        (np.zeros((0, 3)), np.zeros((4, 3)), r"features of the target are \(0, 3\)"),
        (np.zeros(3), np.zeros((4, 3)), r"features of the target are \(3,\)"),
        (np.zeros((2, 3)), np.zeros((4, 5)), "3 features per image, the source 5"),
        (np.zeros((2, 3)), np.full((4, 3), np.nan), "source are not all finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(target, source, message):
    for measure in (nearest, one_to_one):
        with pytest.raises(InputError, match=message):
            measure(target, source)


def test_distances_of_collections_are_read_as_written(tmp_path):
    sets = {"A": features(0, 20), "B": features(1, 30, mean=0.5), "C": features(2, 10, mean=-1.0)}
    distances = Distances.measure(sets)
    for target, source in itertools.permutations(sets, 2):
        direct = domain_distances(sets[target], sets[source])
        assert distances.values[target, source] == pytest.approx(direct)
    distances.write(tmp_path / "distances.csv")
    again = Distances.read(tmp_path)
    assert again == distances and again.of("A", "A") == 0
    with pytest.raises(InputError, match="distance of A from D was not measured"):
        again.of("A", "D")
    with pytest.raises(InputError, match="assignment 'nearest' is unknown"):
        again.of("A", "B", "nearest")
    path = tmp_path / "distances.csv"
    path.write_text(path.read_text() + "A,B,1,1,1,1\n")
    with pytest.raises(InputError, match="A from B comes twice"):
        Distances.read(path)


def test_chains_take_the_distances_of_their_images():
    factors = {
        "a.depth": Factors("depth", ("indoor",), ("A",), 10),
        "a.seg": Factors("segmentation", ("indoor",), ("A",), 10),
        "b.seg": Factors("segmentation", ("driving",), ("B",), 10),
        "multi": Factors("segmentation", ("indoor", "driving"), ("A", "B"), 20),
    }
    row = {"one_to_one": 4.0, "target_to_source": 1.0, "source_to_target": 3.0, "symmetric": 2.0}
    distances = Distances({("A", "B"): row})
    chains = [("a.depth", "b.seg"), ("a.depth", "a.seg"), ("a.seg", "multi")]
    assert chain_distances(chains, distances, factors) == {("a.depth", "b.seg"): 1.0, ("a.depth", "a.seg"): 0.0}
    assert chain_distances(chains[:1], distances, factors, "symmetric") == {("a.depth", "b.seg"): 2.0}
