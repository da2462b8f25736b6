"""The closed-form problem of benchmarks/tmt_linear.py: TMT learns the transformation back as far as its rank allows."""

import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "tmt_linear.py"


@pytest.fixture(scope="module")
def run():
    spec = importlib.util.spec_from_file_location("tmt_linear", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks its types up
    spec.loader.exec_module(module)
    return module.run


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("seed", [0, 1])
def test_enough_rank_reaches_the_oracle_and_too_little_helps_in_part(run, optimizer, seed):
    ends = {
        name: run(name, optimizer=optimizer, seed=seed) for name in ("mtl", "oracle", "primary", "rank 2", "rank 4")
    }
    losses = {name: end.losses[-1] for name, end in ends.items()}
    assert losses["rank 4"] < 1.5 * losses["oracle"] < 0.1 * losses["primary"]
    assert losses["mtl"] > 10 * losses["rank 2"] > 100 * losses["rank 4"]
    assert abs(ends["mtl"].cosine) < 0.01 < 0.2 < ends["rank 2"].cosine < ends["rank 4"].cosine
    eigenvalues = ends["rank 4"].eigenvalues
    assert eigenvalues[-1] < 1.1 * max(eigenvalues[:250]) < 20


@pytest.mark.slow
def test_plain_descent_under_adam_bounds_nothing_where_losses_are_small(run):
    ends = [run("rank 4", optimizer="adam", inner=inner, factor=0.01) for inner in ("optimizer", "gradient")]
    (bounded, cosine), (unbounded, other) = ((end.eigenvalues[-1], end.cosine) for end in ends)
    assert 10 * bounded < unbounded
    assert cosine > 1.5 * other


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_transformation_is_being_learnt_back(run, optimizer):
    assert run("rank 4", optimizer=optimizer, cycles=1).cosine < 0.1
    assert run("rank 4", optimizer=optimizer, cycles=60).cosine > 0.4


def test_under_adam_the_scale_of_the_losses_matters_to_plain_descent_alone(run):
    ends = {
        (inner, factor): run("rank 4", optimizer="adam", inner=inner, factor=factor, cycles=100).eigenvalues[-1]
        for inner in ("optimizer", "gradient")
        for factor in (1.0, 0.01)
    }
    assert ends["optimizer", 0.01] == pytest.approx(ends["optimizer", 1.0], rel=1e-3)
    assert ends["gradient", 0.01] > 1.1 * ends["gradient", 1.0] > 1.2 * ends["optimizer", 1.0]
