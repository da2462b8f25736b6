"""``solve grouping`` with budgets in other units and a limit of memory, on a table whose answers are plain."""

import json
from dataclasses import replace

import pytest

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.cli import main
from lightning_taskonomy.inference import InferenceCost, InferenceCosts, Machine
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.solvers import GroupingSolution

MIB = 1 << 20
PAIR, FULL, HALVES = Network(("a", "b"), 1.0, (0.4, 0.4)), Network(("a",), 1.0, (0.1,)), (
    Network(("a",), 0.5, (0.2,)),
    Network(("b",), 0.5, (0.2,)),
)  # fmt: skip


def part(size, task, multiply_adds, latency, weights, memory):
    return InferenceCost(
        size=size, part="decoder" if task else "encoder", task=task, weights=weights * MIB // 4,
        weight_bytes=weights * MIB, multiply_adds=multiply_adds, latency_1=latency, latency_32=30 * latency,
        memory=memory * MIB, snt=multiply_adds / 2e9,
    )  # fmt: skip


def measured(machine):
    """Small encoders are hardly faster, and take more memory than they save."""
    rows = [part(1.0, "", 2_000_000_000, 8.0, 16, 10), part(0.5, "", 1_000_000_000, 7.0, 10, 12)]
    rows += [part(size, task, 100_000_000, 1.0, 1, 4) for size in (1.0, 0.5) for task in ("a", "b")]
    return InferenceCosts(tuple(rows), machine)


@pytest.fixture
def study(tmp_path):
    GroupingsTable(("a", "b"), (PAIR, FULL, *HALVES)).write(tmp_path / "validation.csv")
    measured(Machine.here()).write(tmp_path)
    tables = {"groupings": "validation.csv", "inference": "inference.csv"}
    Manifest(study="x.Study", version=1, report="x.Report", tables=tables).write(tmp_path)
    return tmp_path


@pytest.fixture
def solve(study, capsys):
    def solve(*options, validation=study):
        code = main(["solve", "grouping", f"--validation={validation}", *options])
        return code, *capsys.readouterr()

    return solve


@pytest.mark.parametrize(
    ("options", "networks", "cost"),
    [
        (["--budget=1"], HALVES, 1.0),
        (["--budget=1.1", "--count_decoders=true"], HALVES, 1.1),
        (["--budget=2.1", "--unit=multiply_adds"], HALVES, 2.0),
        (["--budget=2.2", "--unit=multiply_adds", "--count_decoders=true"], HALVES, 2.2),
        (["--budget=12", "--unit=milliseconds"], (PAIR,), 8.0),
        (["--budget=15.5", "--unit=milliseconds"], (FULL, HALVES[1]), 15.0),
        (["--budget=14.5", "--unit=milliseconds"], HALVES, 14.0),
        (["--budget=420", "--unit=milliseconds", "--batch=32"], HALVES, 420.0),
        (["--budget=1.5"], (FULL, HALVES[1]), 1.5),
        (["--budget=1.5", "--memory=39"], HALVES, 1.0),
        (["--budget=1.5", "--memory=33"], (PAIR,), 1.0),
        (["--budget=1.5", "--solver.init_args.memory=33"], (PAIR,), 1.0),
    ],
)
def test_the_unit_and_the_memory_decide(solve, options, networks, cost):
    code, out, err = solve(*options, "--json=true")
    (plain,) = json.loads(out)["solutions"]
    assert (code, err, plain["cost"]) == (0, "", cost)
    assert [(tuple(one["tasks"]), one["size"]) for one in plain["networks"]] == [one.key for one in networks]
    weights = {1.0: 16, 0.5: 10}
    assert plain["memory"]["weights"] == sum(weights[one.size] + len(one.tasks) for one in networks) * MIB
    assert plain["memory"]["activations"] == (10 if {one.size for one in networks} == {1.0} else 12) * MIB
    assert GroupingSolution.from_dict(plain).as_dict().items() <= plain.items()


def test_the_words_have_the_unit_and_the_memory(solve):
    _, out, _ = solve("--budget=14", "--unit=milliseconds")
    first, second, _ = out.splitlines()
    assert first.startswith(
        "budget 14 ms: validation loss 0.40000, proven optimal, 22.0 MiB of weights and 12.0 MiB of"
    )
    assert "size 0.5, cost 7, serves a" in second


def test_without_measured_costs_a_table_has_its_own(solve, study):
    file = study / "validation.csv"
    code, out, _ = solve("--budget=1", "--json=true", validation=file)
    assert code == 0 and json.loads(out)["solutions"][0]["memory"] is None
    code, out, err = solve("--budget=1", "--unit=multiply_adds", "--memory=3", validation=file)
    assert (code, out) == (1, "") and "unit, memory: measured costs are needed; give them as --inference" in err
    code, out, _ = solve("--budget=2", "--unit=multiply_adds", f"--inference={study}", "--json=true", validation=file)
    assert code == 0 and json.loads(out)["solutions"][0]["cost"] == 2.0
    code, out, _ = solve("--budget=2", f"--inference={study}/inference.csv", "--json=true", validation=file)
    assert code == 0 and json.loads(out)["solutions"][0]["memory"] is not None


def test_milliseconds_of_another_machine_are_refused_unless_told(solve, study):
    measured(replace(Machine.here(), processor="Z80")).write(study)
    code, out, err = solve("--budget=12", "--unit=milliseconds")
    assert (code, out, len(err.strip().splitlines())) == (1, "", 1)
    assert "milliseconds were measured on another machine (processor 'Z80' there, " in err
    assert solve("--budget=12", "--unit=milliseconds", "--other_machine=true")[0] == 0
    assert solve("--budget=12", "--unit=multiply_adds")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget=6", "--unit=milliseconds"], "budget 6 is below what any choice costs: a and b stay uncovered; the "
         "cheapest networks that serve all 2 tasks cost 8 (a+b (cost 8)); raise the budget to that"),
        (["--budget=7.5", "--unit=milliseconds"], "budget 7.5 is below what any choice costs: b stays uncovered; the"),
        (["--memory=25"], "memory of 25 MiB is below what any choice takes: b stays uncovered; the smallest networks "
         "that serve all 2 tasks take 28 MiB (a+b (cost 1)); raise memory to that"),
        (["--memory=30", "--budget=0.5"], "all 2 tasks in 30 MiB cost 1 (a+b (cost 1))"),
        (["--memory=0"], "memory 0.0 must be a finite number of MiB above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_met_is_one_line(solve, options, message):
    code, out, err = solve(*options)
    assert (code, out, len(err.strip().splitlines())) == (1, "", 1)
    assert message in err


def test_a_network_with_a_loss_of_nan_is_named_once_and_never_kept(solve, study):
    file = study / "validation.csv"
    file.write_text(file.read_text().replace("0.1", "nan"))
    code, out, err = solve("--budget=9", f"--test={study / 'validation.csv'}", "--json=true")
    assert (code, err) == (0, "a loss is NaN, left out: a (cost 1)\n")
    assert [tuple(one["tasks"]) for one in json.loads(out)["solutions"][0]["networks"]] == [("a",), ("b",)]


def test_a_page_is_written_of_milliseconds(solve, tmp_path):
    code, _, err = solve("--budget=[8, 15]", "--unit=milliseconds", "--memory=50", f"--report={tmp_path / 'page'}")
    assert code == 0 and "report: " in err and (tmp_path / "page" / "index.html").is_file()
