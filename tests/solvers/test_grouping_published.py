"""``solve grouping`` on the measurements of the grouping paper, against its Table 4; and the command's other words."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.cli import main
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.solvers.grouping import GroupingSolution, pessimal

PUBLISHED = Path(__file__).parents[3] / "shared/published/taskgrouping"
VALIDATION, TEST, EARLY = (PUBLISHED / f"setting1_{name}.tsv" for name in ("validation", "test", "early"))
BUDGETS = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
TABLE_4 = {
    "none": [0.50278, 0.46132, 0.45224, 0.44612, 0.44235, 0.43932, 0.43555, 0.43555, 0.43481],
    "hoa": [0.50278, 0.46132, 0.45474, 0.4505, 0.44875, 0.44489, 0.44112, 0.44552, 0.44196],
    "esa": [0.50278, 0.48732, 0.46727, 0.46063, 0.45722, 0.45058, 0.45058, 0.44742, 0.44742],
}
PESSIMAL = [0.50278, 0.50278, 0.50278, 0.50278, 0.50278, 0.50278, 0.50179, 0.50179, 0.49941]
PRINTED_PESSIMAL = [0.503, 0.503, 0.503, 0.503, 0.503, 0.502, 0.499, 0.496, 0.495]

needs_published = pytest.mark.skipif(not TEST.exists(), reason=f"the published measurements are not at {PUBLISHED}")


def solved(capsys, *words):
    assert main(["solve", "grouping", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@needs_published
@pytest.mark.parametrize("method", ["dynamic", "branch_and_bound", "program"])
@pytest.mark.parametrize("approximation", TABLE_4)
def test_table_4_is_reproduced(approximation, method, capsys):
    words = ["--validation", VALIDATION, "--test", TEST, "--budget", BUDGETS, "--approximation", approximation]
    words += ["--early", EARLY] if approximation == "esa" else []
    solutions = solved(capsys, *words, f"--solver.method={method}")["solutions"]
    assert [one["budget"] for one in solutions] == BUDGETS
    assert [round(one["test_loss"], 5) for one in solutions] == TABLE_4[approximation]
    for one in solutions:
        assert one["proven"] is True
        assert sum(network["cost"] for network in one["networks"]) <= one["budget"]
        assert math.fsum(one["test_losses"].values()) == pytest.approx(one["test_loss"])
        assert {task for serves in one["serves"] for task in serves} == set(one["test_losses"])


@needs_published
def test_pessimal_groupings_are_the_worst_of_all():
    """The paper's are the worst of many random draws, so that the worst of all is at least as bad."""
    table = GroupingsTable.read(TEST)
    for budget, expected, printed in zip(BUDGETS, PESSIMAL, PRINTED_PESSIMAL, strict=True):
        worst = pessimal(table, budget)
        assert worst.proven and worst.cost == budget
        assert (round(worst.objective, 5), round(worst_of_all(table, budget), 5)) == (expected, expected)
        assert round(worst.objective, 3) >= printed


def worst_of_all(table, budget):
    """The highest total of the sets of networks that spend a budget and serve every task, by trying each."""
    losses = np.where(np.isnan(table.losses()), np.inf, table.losses())
    half, full = (np.flatnonzero(table.costs() == cost) for cost in (0.5, 1.0))
    highest = 0.0
    for count in range(int(budget) + 1):
        halves = round(2 * (budget - count))
        lowest = losses[np.array(list(itertools.combinations(full, count)), int)].min(axis=1, initial=np.inf)
        for others in itertools.combinations(half, halves):
            totals = np.minimum(lowest, losses[list(others)].min(axis=0, initial=np.inf)).sum(axis=1)
            highest = max(highest, totals.max(initial=0, where=np.isfinite(totals)))
    return highest


@needs_published
def test_the_remedy_removes_the_network_that_the_paper_names(capsys):
    words = ["--validation", VALIDATION, "--test", TEST, "--approximation", "esa", "--early", EARLY, "--budget", "3"]
    plain = solved(capsys, *words)["solutions"][0]
    assert [] in plain["serves"]
    assert main(["solve", "grouping", *map(str, words), "--remove_idle", "--json"]) == 0
    captured = capsys.readouterr()
    again = json.loads(captured.out)["solutions"][0]
    assert "budget 3: serves no task once trained, removed: SemSeg+Depth+Keypoints+Edges (cost 1)" in captured.err
    assert [] not in again["serves"]
    assert again["test_loss"] < plain["test_loss"]


def small(path, *losses):
    rows = ((("a", "b", "c"), 1.0), (("a",), 0.5), (("b",), 0.5), (("c",), 0.5))
    networks = tuple(Network(*row, loss) for row, loss in zip(rows, losses, strict=False) if loss)
    GroupingsTable(("a", "b", "c"), networks).write(path)
    return path


@pytest.fixture
def files(tmp_path):
    validation = small(tmp_path / "validation.tsv", (0.5, 0.5, 0.5), (0.2,), (0.4,), (0.1,))
    test = small(tmp_path / "test.tsv", (0.6, 0.5, 0.7), (0.3,), None, (0.2,))
    return validation, test


def test_a_network_missing_from_a_file_is_named_and_left_out(files, capsys):
    validation, test = files
    assert (
        main(["solve", "grouping", f"--validation={validation}", f"--test={test}", "--budget=[1.5, 9]", "--json"]) == 0
    )
    captured = capsys.readouterr()
    assert captured.err.strip() == "not in every table, left out: b (cost 0.5)"
    first, second = json.loads(captured.out)["solutions"]
    assert [network["tasks"] for network in first["networks"]] == [["a", "b", "c"], ["c"]]
    assert (first["validation_loss"], first["test_loss"]) == pytest.approx((1.1, 1.3))
    assert second["test_losses"] == {"a": 0.3, "b": 0.5, "c": 0.2}
    assert {"validation_loss", "test_loss", "test_losses", "serves"} <= set(first)
    solution = GroupingSolution.from_dict(first)
    assert solution.budget == 1.5 and solution.networks[1] == Network(("c",), 0.5, (0.1,)) and solution.cost == 1.5


def test_a_budget_that_nothing_meets_does_not_lose_the_others(files, capsys):
    words = ["solve", "grouping", f"--validation={files[0]}", "--json"]
    for more in ([], ["--remove_idle"]):
        assert main([*words, "--budget=[0.5, 2, 0.75]", *more]) == 0
        captured = capsys.readouterr()
        assert captured.err == "below what any choice costs, left out: budget 0.5, 0.75\n"
        assert [one["budget"] for one in json.loads(captured.out)["solutions"]] == [2]
    assert main([*words, "--budget=[0.5, 0.75]"]) == 1
    captured = capsys.readouterr()
    assert (
        "budget 0.75 is below what any choice costs: b and c stay uncovered; the cheapest" in captured.err
        and not captured.out
    )


def test_without_test_losses_and_with_a_single_budget(files, capsys, tmp_path):
    validation, _ = files
    out = tmp_path / "kept" / "solution.json"
    assert main(["solve", "grouping", f"--validation={validation}", "--budget=1.5", f"--out={out}"]) == 0
    captured = capsys.readouterr()
    assert "budget 1.5: validation loss 0.70000, proven optimal" in captured.out
    assert "serves c" in captured.out and not captured.err
    (solution,) = json.loads(out.read_text())["solutions"]
    assert (solution["test_loss"], solution["test_losses"], solution["cost"]) == (None, None, 1.5)


def test_a_study_has_its_early_losses_beside_the_others(tmp_path, capsys):
    """Early in training the joint network is the best, at the end it is not."""
    small(tmp_path / "validation.csv", (0.5, 0.5, 0.5), (0.2,), (0.4,), (0.1,))
    small(tmp_path / "early.csv", (0.6, 0.6, 0.6), (0.7,), (0.7,), (0.7,))
    tables = {"groupings": "validation.csv", "groupings_early": "early.csv"}
    Manifest(study="GroupingStudy", version=1, report="", tables=tables, settings={}).write(tmp_path)
    words = ["--validation", tmp_path, "--budget", "1.5"]
    final, early = (solved(capsys, *words, *more)["solutions"] for more in ([], ["--approximation", "esa"]))
    assert [network["tasks"] for network in final[0]["networks"]] == [["a"], ["b"], ["c"]]
    assert [network["tasks"] for network in early[0]["networks"]] == [["a", "b", "c"]]
    (tmp_path / "early.csv").unlink()  # not written yet
    assert main(["solve", "grouping", *map(str, words), "--approximation", "esa"]) == 1
    assert "give their table as --early" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--approximation=esa"], "give their table as --early"),
        (["--budget=0.5"], "budget 0.5 is below what any choice costs"),
        (["--budget=[]"], "budget: the list is empty"),
        (["--approximation=hoa"], "needs a network of a+b"),
        (["--test=nowhere.tsv"], "nowhere.tsv cannot be read"),
        (["--tasks=[a, b]"], "task 'c' is unknown"),
    ],
)
def test_bad_input_is_one_line(files, words, message, capsys):
    assert main(["solve", "grouping", f"--validation={files[0]}", *words]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1 and not captured.out


def test_what_is_logged(files, tmp_path):
    from lightning_taskonomy.commands.grouping import solve_grouping

    results = solve_grouping(*files, budget=[1.0, 2.0], out=tmp_path / "out.json")
    columns, rows = results.tables["solutions"]
    assert len(rows) == 2 and all(len(row) == len(columns) for row in rows)
    assert results.artifacts["grouping"] == json.loads((tmp_path / "out.json").read_text())


def test_it_runs_without_torch_and_lightning(files):
    code = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'pytorch_lightning', 'timm'): sys.modules[name] = None\n"
        "from lightning_taskonomy.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["solve", "grouping", "--validation", str(files[0]), "--budget", "2", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["solutions"][0]["proven"]
