"""What networks cost in the unit of a budget, summed by hand."""

from dataclasses import replace

import pytest

from lightning_taskonomy.affinity.groupings import (
    Footprint,
    GroupingsTable,
    Network,
    higher_order,
    priced,
    relationships,
)
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import InferenceCost, InferenceCosts, Machine


def part(size, task="", multiply_adds=0, latency=0.0, weights=0, memory=0):
    return InferenceCost(
        size=size, part="decoder" if task else "encoder", task=task, weights=weights // 4, weight_bytes=weights,
        multiply_adds=multiply_adds, latency_1=latency, latency_32=20 * latency, memory=memory, snt=multiply_adds / 2e9,
    )  # fmt: skip


COSTS = InferenceCosts(
    (
        part(1.0, "", 2_000_000_000, 8.0, 400, 50),
        part(1.0, "a", 200_000_000, 1.5, 40, 30),
        part(1.0, "b", 100_000_000, 1.0, 20, 70),
        part(0.5, "", 900_000_000, 5.0, 190, 40),
        part(0.5, "a", 200_000_000, 1.25, 40, 20),
    ),
    Machine.here(),
)
PAIR, SINGLE, HALF = Network(("a", "b"), 1.0, (0.1, 0.2)), Network(("b",), 1.0, (0.3,)), Network(("a",), 0.5, (0.4,))
TABLE = GroupingsTable(("a", "b"), (PAIR, SINGLE, HALF))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1.0, 1.0, 0.5]),
        ({"count_decoders": True}, [1.15, 1.05, 0.6]),
        ({"unit": "multiply_adds"}, [2.0, 2.0, 0.9]),
        ({"unit": "multiply_adds", "count_decoders": True}, [2.3, 2.1, 1.1]),
        ({"unit": "milliseconds"}, [8.0, 8.0, 5.0]),
        ({"unit": "milliseconds", "count_decoders": True}, [10.5, 9.0, 6.25]),
        ({"unit": "milliseconds", "batch": 32}, [160.0, 160.0, 100.0]),
    ],
)
def test_costs_are_sums_of_parts(options, expected):
    table = priced(TABLE, COSTS, **options)
    assert table.costs().tolist() == expected
    assert [network.losses for network in table.networks] == [network.losses for network in TABLE.networks]
    assert [network.size for network in table.networks] == [1.0, 1.0, 0.5]
    assert [network.memory for network in table.networks] == [
        Footprint(460, 70),
        Footprint(420, 70),
        Footprint(230, 40),
    ]
    assert priced(table, COSTS, **options) == table  # found by their sizes


def test_memory_adds_weights_and_takes_the_largest_activations():
    table = priced(TABLE, COSTS)
    assert Footprint.of(table.networks) == Footprint(460 + 420 + 230, 70)
    assert Footprint.of(table.networks).total == 1180
    assert Footprint.of([*table.networks, PAIR]) is None


def test_what_was_not_measured_is_named():
    with pytest.raises(InputError, match=r"no encoder of size 0\.25 was measured, only of sizes 1, 0\.5"):
        priced(GroupingsTable(("a",), (Network(("a",), 0.25, (1.0,)),)), COSTS)
    with pytest.raises(InputError, match=r"no decoder of b at size 0\.5 was measured"):
        priced(GroupingsTable(("b",), (Network(("b",), 0.5, (1.0,)),)), COSTS)
    with pytest.raises(InputError, match="unit 'seconds' is unknown"):
        priced(TABLE, COSTS, "seconds")
    with pytest.raises(InputError, match="batch 2 is unknown"):
        priced(TABLE, COSTS, batch=2)


def test_milliseconds_of_another_machine_are_taken_only_if_told():
    elsewhere = replace(COSTS, machine=replace(COSTS.machine, processor="Z80"))
    assert priced(TABLE, elsewhere, "multiply_adds").costs().tolist() == [2.0, 2.0, 0.9]
    with pytest.raises(InputError, match=r"another machine \(processor 'Z80' there.*set other_machine: true"):
        priced(TABLE, elsewhere, "milliseconds")
    assert priced(TABLE, elsewhere, "milliseconds", other_machine=True).costs().tolist() == [8.0, 8.0, 5.0]


def test_what_goes_by_size_is_the_same_in_any_unit():
    tasks = ("a", "b", "c")
    rows = [Network((task,), 0.5, (loss,)) for task, loss in zip(tasks, (2.0, 4.0, 10.0), strict=True)]
    rows += [Network(pair, size, losses) for pair, size, losses in (
        (("a", "b"), 1.0, (1.0, 5.0)), (("a", "c"), 1.0, (3.0, 8.0)), (("b", "c"), 1.0, (4.0, 6.0)),
        (("a", "b"), 0.5, (8.0, 8.0)), (tasks, 1.0, (1.0, 1.0, 1.0)),
    )]  # fmt: skip
    table = GroupingsTable(tasks, tuple(rows))
    costs = InferenceCosts(
        tuple(part(size, task, 10, 100.0 if task else size) for size in (1.0, 0.5) for task in ("", *tasks)),
        Machine.here(),
    )
    other = priced(table, costs, "milliseconds", count_decoders=True)
    assert [n.losses for n in higher_order(other).networks] == [n.losses for n in higher_order(table).networks]
    assert relationships(other).symmetric[0, 1] == relationships(table).symmetric[0, 1] == (50 - 25) / 2
