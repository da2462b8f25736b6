"""The beam rule and stability; the analysis without torch."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from lightning_taskonomy.affinity import Transfer, TransfersTable, candidates
from lightning_taskonomy.affinity.stability import (
    affinity_agreement,
    kept_affinity,
    policy_agreement,
    rank_correlation,
    source_agreement,
)
from lightning_taskonomy.errors import InputError


def table(affinity, names=None):
    """First-order transfers of a (targets, sources) matrix; win rates follow from it."""
    names = names or [f"s{index}" for index in range(affinity.shape[1])]
    return TransfersTable(
        tuple(
            Transfer(names[t], 1, (names[s],), "transfer", float(affinity[t, s]), float(affinity[t, s]) / 2, 0.5)
            for t, s in np.ndindex(affinity.shape)
        )
    )


def test_beam_takes_all_combinations_of_the_five_best_up_to_order_five():
    first_order = dict(zip("abcdefgh", [0.1, 0.8, 0.3, 0.3, 0.9, 0.2, 0.3, 0.05], strict=True))
    best = ["e", "b", "c", "d", "g"]
    assert {name for (name,) in candidates(first_order, 1)} == set("abcdefgh")
    for order in (2, 3, 4, 5):
        expected = {tuple(sorted(chosen)) for chosen in itertools.combinations(best, order)}
        sets = candidates(first_order, order)
        assert set(sets) == expected
        assert len(sets) == len(expected)
    assert candidates(first_order, 2)[0] == ("b", "e")
    assert candidates(first_order, 6) == [tuple(sorted([*best, "f"]))]
    assert candidates(first_order, 9) == []
    assert candidates(dict(reversed(first_order.items())), 3) == candidates(first_order, 3)


def test_beam_of_few_sources_and_wrong_input():
    assert candidates({"a": 1.0, "b": 0.5}, 2) == [("a", "b")]
    assert candidates({"a": 1.0}, 2) == []
    with pytest.raises(InputError, match="'a' has no first-order"):
        candidates({"a": float("nan")}, 1)
    with pytest.raises(InputError, match="order 0"):
        candidates({"a": 1.0}, 0)


def test_rank_correlation_is_scipys():
    generator = np.random.default_rng(0)
    ours, theirs = generator.integers(0, 5, (2, 20))
    names = [f"n{index}" for index in range(20)]
    correlation = rank_correlation(
        dict(zip(names, ours, strict=True)), dict(zip(names, theirs, strict=True)) | {"x": 1.0}
    )
    assert correlation == pytest.approx(scipy.stats.spearmanr(ours, theirs).statistic)
    assert rank_correlation({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}) is None
    assert rank_correlation({"a": 1.0}, {"a": 1.0}) is None


def test_agreement_of_two_tables():
    affinity = np.random.default_rng(0).random((3, 6))
    same = affinity_agreement(table(affinity), table(affinity * [[1], [0.5], [0.25]]))
    assert same.mean_spearman == pytest.approx(1)
    assert same.frobenius == pytest.approx(0, abs=1e-12)
    assert same.transfers == 18
    other = affinity_agreement(table(affinity), table(1 - affinity))
    assert other.mean_spearman == pytest.approx(-1)
    assert other.frobenius > 0.5
    with pytest.raises(InputError, match="no transfer in common"):
        affinity_agreement(table(affinity), table(affinity, names=list("uvwxyz")))


def test_agreement_of_two_policies():
    ours = {name: Transfer(name, 2, ("s", "t"), "transfer", 0.1) for name in "ab"}
    theirs = {
        "a": Transfer("a", 2, ("t", "s"), "transfer", 0.2),
        "b": Transfer("b", 1, ("t",), "transfer", 0.2),
        "c": Transfer("c", 1, ("t",), "transfer", 0.2),
    }
    assert policy_agreement(ours, theirs) == 0.5
    assert policy_agreement({}, theirs) is None
    assert source_agreement(ours, theirs) == 1
    assert source_agreement({"a": Transfer("a", 1, ("s",), "transfer", 0.1)}, theirs) == 0.5
    assert source_agreement({}, {}) is None


def test_what_a_policy_from_elsewhere_keeps():
    measured = table(np.array([[0.4, 0.1], [0.2, 0.3]]), names=["a", "b"])
    rows = {(row.target, row.sources[0]): row for row in measured.transfers}
    best = {"a": rows["a", "a"], "b": rows["b", "b"]}
    assert kept_affinity(best, best, measured) == 1
    assert kept_affinity({"a": rows["a", "b"], "b": rows["b", "b"]}, best, measured) == pytest.approx(0.4 / 0.7)
    assert kept_affinity({"b": rows["b", "a"]}, best, measured) == pytest.approx(0.2 / 0.3)
    assert kept_affinity({"a": Transfer("a", 1, ("c",), "transfer", 0.9)}, best, measured) is None
    assert kept_affinity({"c": rows["a", "b"]}, best, measured) is None
    nothing = table(np.zeros((2, 2)), names=["a", "b"])
    assert kept_affinity(best, best, nothing) is None


def test_a_smaller_dictionary():
    affinity = np.random.default_rng(0).random((3, 3))
    whole = table(affinity, names=["a", "b", "c"])
    smaller = whole.restricted(["c", "a"])
    assert smaller == table(affinity[np.ix_([0, 2], [0, 2])], names=["a", "c"])
    agreement = affinity_agreement(whole, smaller)
    assert (agreement.transfers, agreement.frobenius) == (4, 0)
    assert agreement.mean_spearman == pytest.approx(1)
    with pytest.raises(InputError, match="task 'd' is not in the table"):
        whole.restricted(["a", "d"])
    lonely = TransfersTable((Transfer("a", 1, ("b",), "transfer", 1.0), Transfer("c", 1, ("c",), "transfer", 1.0)))
    with pytest.raises(InputError, match="no transfer"):
        lonely.restricted(["a"])


def test_analysis_loads_without_torch():
    script = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'pandas'): sys.modules[name] = None\n"
        "from lightning_taskonomy.affinity import gains, significance, stability, tree\n"
        "import lightning_taskonomy.solvers\n"
        "assert 'mip' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
