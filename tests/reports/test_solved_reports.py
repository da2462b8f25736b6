import csv
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.affinity.table import Transfer, TransfersTable
from lightning_taskonomy.reports.families import PUBLISHED_NAMES, families
from lightning_taskonomy.reports.grouping import write_groupings, write_solved_groupings
from lightning_taskonomy.reports.taxonomy import write_solved_taxonomy
from lightning_taskonomy.reports.taxonomy.solved import solved_results
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.solvers.grouping import GroupingSolver
from lightning_taskonomy.tasks import catalog

PUBLISHED = Path(__file__).parents[3] / "shared/published"


def transfers(names=("edge2d", "rgb2depth", "rgb2sfnorm", "class_1000")) -> TransfersTable:
    rng = np.random.default_rng(0)
    rows = []
    for target in names:
        rows.append(Transfer(target, 1, (target,), "task_specific", 1.0, 0.5, 0.9))
        rows += [Transfer(target, 1, (s,), "transfer", *rng.uniform(0.05, 0.8, 3)) for s in names if s != target]
        others = [s for s in names if s != target]
        rows += [Transfer(target, 2, p, "transfer", *rng.uniform(0.1, 0.9, 3)) for p in combinations(others, 2)]
    return TransfersTable.of(rows)


def groupings(seed: int, tasks=("depth", "edges", "normals"), pairs=True) -> GroupingsTable:
    rng = np.random.default_rng(seed)
    networks = [Network((t,), 0.5, (float(rng.uniform(0.1, 0.3)),)) for t in tasks]
    for size in (1, 2, 3) if pairs else (1, 3):
        networks += [Network(g, 1.0, tuple(rng.uniform(0.05, 0.3, size).tolist())) for g in combinations(tasks, size)]
    return GroupingsTable(tasks, tuple(networks))


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_families_know_the_catalog_s_and_the_published_names():
    assert families(["normals", "rgb2sfnorm", "class_places", "mine"]) == {
        "normals": "3D", "rgb2sfnorm": "3D", "class_places": "semantic",
    }  # fmt: skip
    assert set(PUBLISHED_NAMES.values()) <= set(catalog())


def test_every_published_task_has_a_family():
    path = PUBLISHED / "taskonomy/transfers_16k.csv"
    if not path.is_file():
        pytest.skip("the published measurements are not beside the project")
    table = TransfersTable.read(path)
    assert set(families(table.sources)) == set(table.sources)


def test_a_solved_table_becomes_a_page_about_the_budget_asked_for(tmp_path):
    table, solver = transfers(("edge2d", "rgb2depth", "class_1000")), TaxonomySolver(budget=2, max_order=2)
    solution = solver.solve(table)
    path = write_solved_taxonomy(tmp_path / "page", table, solver, solution)
    page = path.read_text()
    assert path == tmp_path / "page/index.html" and "With a budget of 2, train" in page
    assert re.findall("<h2[^>]*>([^<]+)", page) == [
        "Answer", "Other budgets", "Gain and quality", "Affinity", "Similarity of tasks",
    ]  # fmt: skip
    assert "http" not in page.replace("http://www.w3.org", "") and "the study" not in page
    solved = {(row["order ≤"], row["budget"]): float(row["objective"]) for row in rows(path.parent / "solutions.csv")}
    assert set(solved) == {(order, budget) for order in "12" for budget in "123"}
    assert solved["2", "2"] == solution.objective and solved["1", "3"] == 3.0
    for name in ("answer-graph", "taxonomies", "budget-curves", "gain-quality", "affinity", "similarity"):
        assert (path.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    policies: dict[str, set[tuple[str, str]]] = {}
    for row in rows(path.parent / "policies.csv"):
        if row["order ≤"] == "2":
            policies.setdefault(row["budget"], set()).add((row["target"], row["sources"]))
    drawn = {picture.stem for picture in path.parent.glob("taxonomy-*.png")}  # the answer's stands above
    assert drawn == {"taxonomy-budget1-order2", "taxonomy-budget3-order2"}
    assert len({frozenset(policy) for policy in policies.values()}) == 3


def test_other_budgets_keep_the_solver_s_settings_and_leave_out_what_is_infeasible(tmp_path):
    table = transfers()
    solver = TaxonomySolver(budget=3, label_costs={"edge2d": 2}, required=["edge2d"])
    results = solved_results(table, solver, solver.solve(table))
    assert results.requested is not None and results.requested.budget == 3
    budgets = [taxonomy.budget for taxonomy in results.taxonomies]
    assert min(budgets) >= 2 and max(budgets) == 5 and 3 in budgets
    assert all("edge2d" in taxonomy.sources for taxonomy in results.taxonomies) and not results.chance


def test_a_page_about_some_targets_tells_of_no_others(tmp_path):
    table, some = transfers(), TaxonomySolver(budget=2, max_order=2, targets=["edge2d", "class_1000"])
    results = solved_results(table, some, some.solve(table))
    assert results.targets == ["edge2d", "class_1000"] and results.source_only == ["rgb2depth", "rgb2sfnorm"]
    solver = TaxonomySolver(budget=2, max_order=2, novel="edge2d")
    page = write_solved_taxonomy(tmp_path, table, solver, solver.solve(table)).read_text()
    candidates = [row for row in table.candidates if row.target == "edge2d"]
    assert f"4 tasks: 1 targets, {len(candidates)} measured ways" in page
    assert [row["target"] for row in rows(tmp_path / "affinity-first-order.csv")] == ["edge2d"]
    assert {row["target"] for row in rows(tmp_path / "policies.csv")} == {"edge2d"}


def test_a_solved_groupings_table_becomes_a_page_with_test_losses(tmp_path):
    validation, test, early = groupings(0), groupings(1), groupings(2)
    solver = GroupingSolver()
    solutions = solver.sweep(validation, [1, 2.5])
    path = write_solved_groupings(tmp_path, solver, solutions, validation, test=test, early=early)
    page = path.read_text()
    assert "Budget 1: keep depth + edges + normals (cost 1)." in page
    shown = rows(tmp_path / "solutions.csv")
    assert [row["budget"] for row in shown] == ["1", "2.5"]
    for row, solution in zip(shown, solutions, strict=True):
        expected = [
            test.by_key[solution.networks[solution.assignment[task]].key].loss(task) for task in validation.tasks
        ]
        assert [float(row[task]) for task in validation.tasks] == expected
        assert float(row["total loss"]) == pytest.approx(sum(expected))
    for name in ("networks", "loss-by-budget", "relationships", "approximations"):
        assert (tmp_path / f"{name}.png").is_file()
    assert "early stopping (ESA): 1 " in page and "higher order (HOA): 1 " in page and "pessimal: 1 " in page


def test_a_groupings_page_says_how_its_networks_were_chosen(tmp_path):
    validation, early = groupings(0), groupings(2)
    plain = GroupingSolver(budget=2)
    page = write_solved_groupings(tmp_path / "a", plain, [plain.solve(validation)], validation).read_text()
    assert "by the losses at the end of training, for the lowest total loss within each budget. Valid" in page
    assert "Total validation loss against" in page and "optimal: 1 " in page and "removed" not in page
    solver = GroupingSolver(budget=2, objective="max", importance={"depth": 2}, limits={"edges": 0.5})
    path = write_solved_groupings(
        tmp_path / "b", solver, [solver.solve(early)], validation,
        test=groupings(1), early=early, approximation="esa", remove_idle=True,
    )  # fmt: skip
    page = path.read_text()
    assert "losses early in training (Early Stopping Approximation), for the lowest largest loss of a task" in page
    assert ", weighted depth × 2, with edges at most 0.5; chosen ones that serve no task" in page
    assert "Total test loss against" in page and "all losses known: 1 " in page and "optimal" not in page.lower()


def test_a_groupings_page_says_what_measurements_it_lacks(tmp_path):
    table, solver = groupings(0, pairs=False), GroupingSolver(budget=2)
    page = write_solved_groupings(tmp_path, solver, [solver.solve(table)], table).read_text()
    assert "no Higher Order Approximation" in page and "measure pairs" in page
    assert "early stopping" not in page


def test_a_groupings_page_names_networks_whose_loss_is_nan(tmp_path):
    (tmp_path / "losses.csv").write_text("cost,a,b\n0.5,0.1,\n0.5,,0.2\n1,0.3,nan\n")
    page = write_groupings(tmp_path, GroupingsTable.read(tmp_path / "losses.csv"))
    assert "Left out, as a loss is NaN: a+b (cost 1)." in page.read_text()


def test_both_solve_commands_write_their_page_when_asked(tmp_path, capsys):
    from lightning_taskonomy.cli import main

    groupings(0).write(tmp_path / "validation.tsv")
    words = ["--validation", str(tmp_path / "validation.tsv"), "--budget", "[1, 2]", "--json"]
    assert main(["solve", "grouping", *words]) == 0
    plain = capsys.readouterr()
    assert main(["solve", "grouping", *words, "--report", str(tmp_path / "page")]) == 0
    asked = capsys.readouterr()
    assert "seconds" in asked.out and asked.out.count("\n") == plain.out.count("\n") == 1  # still one JSON object
    assert asked.err == f"report: {tmp_path / 'page/index.html'}\n" and not plain.err
    assert "Which tasks to learn together" in (tmp_path / "page/index.html").read_text()
    transfers(("edge2d", "rgb2depth")).write(tmp_path / "transfers.csv")
    words = ["--transfers", str(tmp_path / "transfers.csv"), "--budget", "1", "--report", str(tmp_path / "other")]
    assert main(["solve", "taxonomy", *words]) == 0
    assert "What to train" in (tmp_path / "other/index.html").read_text()
