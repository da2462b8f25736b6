"""The closed-form problem of benchmarks/tmt_linear.py: TMT learns the transformation back as far as its rank allows."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "benchmarks" / "tmt_linear.py"


@pytest.fixture(scope="module")
def curves():
    spec = importlib.util.spec_from_file_location("tmt_linear", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.curves


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_enough_rank_reaches_the_oracle_and_too_little_helps_in_part(curves, seed):
    ends = {name: curves(name, seed=seed) for name in ("mtl", "oracle", "primary", "rank 2", "rank 4")}
    losses = {name: curve[-1] for name, (curve, _) in ends.items()}
    assert losses["rank 4"] < 1.5 * losses["oracle"] < 0.1 * losses["primary"]
    assert losses["mtl"] > 1e6 * losses["rank 2"] > 1e6 * 10 * losses["rank 4"]
    assert abs(ends["mtl"][1]) < 0.01 < 0.2 < ends["rank 2"][1] < ends["rank 4"][1]


def test_the_transformation_is_being_learnt_back(curves):
    _, before = curves("rank 4", cycles=1)
    _, after = curves("rank 4", cycles=60)
    assert before < 0.1 < 0.4 < after
