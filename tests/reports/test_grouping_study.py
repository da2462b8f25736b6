"""The report of a grouping study against numbers that are computed by hand, by SciPy, or printed in the paper."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network, higher_order
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import Manifest, RunEntry, write_runs
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.grouping import decisions, study_figures
from lightning_taskonomy.reports.grouping.files import FILES, read_grouping_study
from lightning_taskonomy.reports.grouping.report import random_bands
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.solvers.grouping import GroupingSolver, score

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared/published/taskgrouping"
TASKS = ("depth_z", "edges_2d", "normals")
SHIFTS = (-0.03, 0.01, 0.02)
"""What the seeds add to each loss of a choice; their mean is 0."""
OPTIMAL = {1.0: 0.9, 1.5: 0.6, 2.0: 0.55}
"""Total losses by budget. At 1 it is the joint network; at 1.5 single networks are as good; at 2 it is better."""


TOGETHER = "depth_z+edges_2d@1; normals@1"
"""The choice at 2: the pair serves both of its tasks."""
APART = "edges_2d+normals@1; depth_z@0.5; normals@0.5"
"""Another one: normals are trained along with edges, and better alone."""


def write(path: Path, header: str, rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(), *rows])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def candidates(scale: float = 1.0) -> GroupingsTable:
    """All groups of three tasks and half-size singles; pairs change losses by hand-made shares."""
    alone = {"depth_z": 0.2, "edges_2d": 0.1, "normals": 0.4}
    pairs = {(0, 1): (0.9, 1.1), (0, 2): (0.8, 1.0), (1, 2): (0.5, 1.2)}
    networks = [Network((task,), 0.5, (loss * scale,)) for task, loss in alone.items()]
    networks += [Network((task,), 1.0, (0.95 * loss * scale,)) for task, loss in alone.items()]
    for places, shares in pairs.items():
        names = tuple(TASKS[place] for place in places)
        losses = tuple(share * alone[task] * scale for task, share in zip(names, shares, strict=True))
        networks.append(Network(names, 1.0, losses))
    networks.append(Network(TASKS, 1.0, tuple(1.3 * loss * scale for loss in alone.values())))
    return GroupingsTable(TASKS, tuple(networks))


def make(folder: Path, seeds: int = 3) -> Path:
    """Every file of a small study."""
    folder.mkdir(parents=True, exist_ok=True)
    losses, choices = [], []
    for seed, shift in list(enumerate(SHIFTS))[:seeds]:
        table = candidates(1 + shift)
        losses += [
            [
                "+".join(n.tasks) + f"@{n.cost:g}",
                "candidate",
                ";".join(n.tasks),
                n.cost,
                n.cost,
                seed,
                split,
                task,
                loss,
            ]
            for n in table.networks
            for split in ("validation", "test", "early")
            for task, loss in zip(n.tasks, n.losses, strict=True)
        ]
        losses += [
            [
                f"{task}@{1 / 3:g}",
                "single",
                task,
                1 / 3,
                1 / 3,
                seed,
                "test",
                task,
                2 * table.by_key[(task,), 0.5].losses[0],
            ]
            for task in TASKS
        ]

        def add(
            method: str, budget: float, total: float, networks: str, seed: int = seed, shift: float = shift
        ) -> None:
            parts = [0.2, 0.1, total + shift - 0.3]
            choices.append([method, budget, seed, budget, networks, total, total + shift, *parts])

        joint = "+".join(TASKS) + "@1"
        add("optimal", 1.0, OPTIMAL[1.0], joint)
        add("optimal", 1.5, OPTIMAL[1.5], "depth_z+edges_2d@1; normals@0.5")
        add("optimal", 2.0, OPTIMAL[2.0] - shift * (seed == 2), TOGETHER)
        add("independent", 1.5, 0.6, "; ".join(f"{task}@0.5" for task in TASKS))
        add("mtl", 1.0, 0.9, joint)
        add("gradnorm", 1.0, 0.95, joint)
        add("random", 1.5, 0.7, "")
    write(folder / "network_losses.csv", "network kind tasks size cost seed split task loss", losses)
    header = f"method budget seed cost networks validation_loss test_loss {' '.join(TASKS)}"
    write(folder / "choices.csv", header, choices)
    for name in ("validation", "test", "early"):
        candidates().write(folder / f"{name}.csv")
    parts = [[size, "encoder", "", 4e6 * size, 16e6 * size, 2e9 * size, 10 * size, 90 * size, 2**20, size]
             for size in (1.0, 0.5)]  # fmt: skip
    parts += [[size, "decoder", task, 1e5, 2**20, 5e8, 2, 20, 2**21, 0.25] for size in (1.0, 0.5) for task in TASKS]
    whole = [[*row[:3], *(int(cell) for cell in row[3:6]), *row[6:8], int(row[8]), row[9]] for row in parts]
    write(folder / "inference.csv",
          "size part task weights weight_bytes multiply_adds latency_1 latency_32 memory snt", whole)  # fmt: skip
    machine = {"processor": "a CPU", "cores": 4, "threads": 1, "gpu": None, "torch": "2.9"}
    (folder / "machine.json").write_text(json.dumps(machine))
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    write(folder / "affinities.csv", "task partner cotraining lookahead",
          [[TASKS[i], TASKS[j], 10 * i + j, 5 * i + j] for i, j in pairs])  # fmt: skip
    write(folder / "approximations.csv", "approximation trainings kendall_tau budget test_loss optimal_loss regret",
          [["esa", 2.0, 0.5, 1.0, 0.92, 0.9, 0.02], ["esa", 2.0, 0.5, 2.0, 0.61, 0.55, 0.06]])  # fmt: skip
    write(folder / "trainings.csv", "network kind size seed epochs best_epoch seconds status reason folder",
          [["depth_z+normals@1", "candidate", 1, 0, 9, 7, 30.5, "trained", "", "runs/a"],
           ["depth_z@0.5", "candidate", 0.5, 0, 2, 0, 4.5, "failed", "its loss is no number", "runs/b"]])  # fmt: skip
    write_runs(folder, [RunEntry(run="depth_z+normals@1", folder="runs/a", kind="candidate",
                                 tasks=("depth_z", "normals"), seed=0)])  # fmt: skip
    (folder / "runs/a").mkdir(parents=True, exist_ok=True)
    history = [
        {"epoch": n, "step": n, "learning_rate": 0.2, "val/loss": loss} for n, loss in enumerate((0.9, 0.5, 0.6))
    ]
    (folder / "runs/a/history.json").write_text(json.dumps(history))
    (folder / "examples/2").mkdir(parents=True, exist_ok=True)
    picture = np.linspace(1, 4, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    np.savez(
        folder / "examples/2/depth_z.npz", input=np.zeros((1, 3, 8, 8)), target=picture, optimal=picture, mtl=picture
    )
    Manifest(
        study="lightning_taskonomy.studies.grouping.GroupingStudy", version=1, finished=True,
        report="lightning_taskonomy.reports.grouping.GroupingReport",
        tables={"groupings": "validation.csv", "choices": "choices.csv"},
        settings={"tasks": list(TASKS), "single_size": 0.5},
    ).write(folder)  # fmt: skip
    return folder


def settings(folder: Path, **changes: object) -> None:
    """Changes settings of a study."""
    plain = json.loads((folder / "study.json").read_text())
    plain["settings"] |= changes
    (folder / "study.json").write_text(json.dumps(plain))


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures are made, and not rendered, which takes most of the time."""
    monkeypatch.setattr(Page, "figure", lambda *_, **__: None)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("study"))
    return folder, re.sub(r"\s+", " ", report(folder).read_text())


def half(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return (high - low) / 2


def test_the_answer_says_where_grouping_helps_and_where_not(study):
    folder, page = study
    assert "Grouping helps at 1 of 3 budgets (2): there the best grouping has a lower test loss" in page
    leads = [0.05, 0.05, 0.05 + 0.02]  # the third seed's choice at 2 is better by its shift
    assert np.mean(leads) > half(leads)
    assert "The lead is beyond the spread of 3 seeds at 2." in page
    assert "for the lowest total loss within each budget. Of each rival" in page  # no weights, no limits
    mean, width = np.mean([0.52, 0.56, 0.55]), half([0.52, 0.56, 0.55])
    assert f"the best grouping has a test loss of {mean:.3f} ±{width:.3f}, independent networks 0.600" in page
    assert "the same loss as one joint network" in page and "the same loss as independent networks" in page
    table = rows(folder / "report/answer.csv")
    assert table[2]["lead over independent networks"] == f"{np.mean(leads):.3f} ±{half(leads):.3f}"
    assert (
        table[0]["lead over independent networks"] == "" and table[0]["lead over one joint network"] == "0.000 ±0.000"
    )


def test_losses_by_budget_are_means_with_students_intervals(study):
    folder, _ = study
    numbers = {(row["method"], float(row["budget"])): row for row in rows(folder / "report/losses-in-numbers.csv")}
    for budget, total in ((1.0, 0.9), (1.5, 0.6)):
        row = numbers["optimal", budget]
        assert float(row["test loss"]) == pytest.approx(total)
        assert float(row["±"]) == pytest.approx(half(SHIFTS))
        assert float(row["normals"]) == pytest.approx(total - 0.3)
    table = {row["method"]: row for row in rows(folder / "report/losses-by-budget.csv")}
    assert table["GradNorm"]["1"] == f"0.950 ±{half(SHIFTS):.3f}" and table["GradNorm"]["2"] == ""
    assert (folder / "report/losses.png").is_file() and (folder / "report/losses-others.png").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_one_seed_has_no_interval(tmp_path):
    folder = make(tmp_path, seeds=1)
    page = report(folder).read_text()
    assert "One seed was trained, so no interval is known" in page and "±" not in page.partition("Cost of inference")[0]
    table = {row["method"]: row for row in rows(folder / "report/losses-by-budget.csv")}
    assert float(table["optimal"]["1.5"]) == pytest.approx(0.6 + SHIFTS[0])


@pytest.mark.usefixtures("no_pictures")
def test_a_page_about_no_help_says_so(tmp_path):
    folder = make(tmp_path, seeds=1)
    kept = [row for row in rows(folder / "choices.csv") if not (row["method"] == "optimal" and row["budget"] == "2.0")]
    write(folder / "choices.csv", " ".join(kept[0]), [list(row.values()) for row in kept])
    assert "Grouping does not help here: at no budget" in report(folder).read_text()


@pytest.fixture
def copy(study, tmp_path, no_pictures):
    """A study of one's own to change."""
    return shutil.copytree(study[0], tmp_path / "copy", ignore=shutil.ignore_patterns("report"))


def changed(folder: Path, name: str, change) -> None:
    """Writes a table anew, with what a function makes of its rows."""
    new = [row for old in rows(folder / name) for row in change(old)]
    write(folder / name, " ".join(new[0]), [list(row.values()) for row in new])


def read(folder: Path) -> str:
    return re.sub(r"\s+", " ", report(folder).read_text())


@pytest.mark.parametrize(
    ("networks", "how"),
    [(APART, "by mixing sizes, or by tasks that are trained along and not used."),
     ("depth_z@0.5; edges_2d@0.5; normals@1", "by mixing sizes.")],
)  # fmt: skip
def test_a_choice_that_keeps_tasks_apart_is_no_help_of_grouping(copy, networks, how):
    text = (copy / "choices.csv").read_text()
    (copy / "choices.csv").write_text(text.replace(TOGETHER, networks))
    page = read(copy)
    assert "Grouping helps" not in page and "Grouping does not help here: at no budget" in page
    assert f"At 2 it has a lower one, but keeps tasks apart (no network serves two of them): it gains {how}" in page
    assert [row["tasks share a network"] for row in rows(copy / "report/answer.csv")] == ["yes", "yes", "no"]


@pytest.mark.parametrize(("apart", "helps"), [(1, True), (2, False)])
def test_seeds_of_which_most_share_decide(copy, apart, helps):
    changed(copy, "choices.csv", lambda row: [
        row | {"networks": APART} if row["networks"] == TOGETHER and int(row["seed"]) < apart else row])  # fmt: skip
    assert ("Grouping helps at 1 of 3" in read(copy)) is helps
    assert rows(copy / "report/answer.csv")[2]["tasks share a network"] == f"{3 - apart} of 3 seeds"


def test_the_rival_is_the_one_with_the_lowest_validation_loss_within_the_budget(copy):
    """Of three, the costlier one has the lower test loss, and the one beyond the budget the lowest validation loss."""

    def others(row):
        if row["method"] != "independent":
            return [row]
        return [row | {"budget": budget, "cost": budget, "validation_loss": validation, "test_loss": test}
                for budget, validation, test in ((1.0, 0.5, 0.57), (2.0, 0.6, 0.5), (3.0, 0.1, 0.1))]  # fmt: skip

    changed(copy, "choices.csv", others)
    page = read(copy)
    row = rows(copy / "report/answer.csv")[2]
    assert row["independent networks"].startswith("0.570") and row["one joint network (MTL)"].startswith("0.900")
    assert row["lead over independent networks"].startswith(f"{np.mean([0.57 - 0.52, 0.57 - 0.56, 0.57 - 0.55]):.3f}")
    assert "the one with the lowest validation loss within the budget is compared" in page


def test_importance_weighs_what_is_compared(copy):
    """Of each choice depth has 0.2, edges 0.1 and normals the rest; depth counts thrice."""
    settings(copy, importance={"depth_z": 3.0, "normals": 1.0}, limits={"edges_2d": 0.7}, memory=64)
    page = read(copy)
    numbers = {(row["method"], row["budget"]): row for row in rows(copy / "report/losses-in-numbers.csv")}
    assert float(numbers["optimal", "1.5"]["weighted test loss"]) == pytest.approx(3 * 0.2 + 0.1 + 0.3)
    assert float(numbers["independent", "1.5"]["weighted test loss"]) == pytest.approx(3 * 0.2 + 0.1 + 0.3)
    choices = {(row["budget"], row["seed"]): row for row in rows(copy / "report/choices.csv")}
    # of seed 0, whose losses are 0.97 of the table's: a pair with 0.9 and 1.1 of the losses alone, normals alone at 0.4
    expected = 0.97 * (3 * 0.9 * 0.2 + 1.1 * 0.1 + 0.4)
    assert float(choices["1.5", "0"]["weighted validation loss"]) == pytest.approx(expected)
    assert "there the best grouping has a lower weighted test loss" in page
    assert "The weighted total loss over tasks" in page and "Weighted total test loss by inference budget" in page
    assert "for the lowest weighted total loss within each budget, weighted depth z × 3, with a validation loss of " \
        "edges 2d at most 0.7, within 64 MiB of memory" in page  # fmt: skip
    assert "Regret: the weighted total test loss" in page


def test_weights_change_who_wins(copy):
    """At 2 the choice is worse at normals and better at depth than independent networks."""

    def losses(row):
        values = {"optimal": (0.1, 0.1, 0.45), "independent": (0.3, 0.1, 0.2)}.get(row["method"])
        if values is None or (row["method"] == "optimal" and row["budget"] != "2.0"):
            return [row]
        return [row | dict(zip(TASKS, values, strict=True)) | {"test_loss": sum(values)}]

    changed(copy, "choices.csv", losses)
    assert "Grouping helps" not in read(copy)  # 0.65 against 0.6
    settings(copy, importance={"depth_z": 2.0})
    assert "Grouping helps at 2 of 3 budgets (1.5 and 2)" in read(copy)  # 0.8 and 0.75 against 0.9
    assert rows(copy / "report/answer.csv")[2]["lead over independent networks"].startswith("0.150")


def test_random_groupings_are_weighted_too():
    table = GroupingsTable(("a", "b"), (Network(("a", "b"), 1.0, (0.2, 0.1)),))
    ((budget, band),) = random_bands(table, [1.0], [3.0, 1.0])
    assert (budget, band.middle) == (1.0, pytest.approx(0.7))


@pytest.mark.parametrize(
    ("mode", "method", "words"),
    [("pairs", "hoa", "the choice by higher order (HOA)"), ("early", "esa", "the choice by early stopping (ESA)"),
     ("search", "search", "the choice by search")],
)  # fmt: skip
def test_the_answer_is_about_what_the_mode_of_the_study_chooses_by(copy, mode, method, words):
    settings(copy, candidates=mode)
    changed(copy, "choices.csv", lambda row: [
        row | {"method": method if row["method"] == "optimal" else row["method"]}
    ] if row["method"] != "random" else [])  # fmt: skip
    text = (copy / "choices.csv").read_text()
    (copy / "choices.csv").write_text(  # a better informed name than the mode's, which is not its subject
        text + "search,2.0,0,2.0,depth_z@0.5; edges_2d@0.5; normals@1,0.1,0.1,0.05,0.02,0.03\n" * (mode != "search")
    )
    (copy / "approximations.csv").unlink()
    trained = {("depth_z",), ("edges_2d",), ("normals",), ("depth_z", "edges_2d")}
    few = GroupingsTable(TASKS, tuple(n for n in candidates().networks if n.tasks in trained or n.tasks == TASKS))
    for name in ("validation", "test"):
        few.write(copy / f"{name}.csv")
    page = read(copy)
    assert f"Grouping helps at 1 of 3 budgets (2): there {words} has a lower test loss" in page
    assert "There is no band of random groupings: losses decided which networks were trained" in page
    by = {
        "pairs": "predicted from the pairs",
        "early": "losses early in training",
        "search": "predicted where the search",
    }
    assert by[mode] in page and "the best grouping" not in page


@pytest.mark.usefixtures("no_pictures")
def test_networks_are_drawn_that_most_seeds_choose_and_serve_by_their_validation_losses(study, monkeypatch, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "copy")
    text = (folder / "choices.csv").read_text()
    (folder / "choices.csv").write_text(text.replace("optimal,1.5,0,1.5,depth_z+edges_2d@1; normals@0.5",
                                                     "optimal,1.5,0,1.5,edges_2d+normals@1; depth_z@0.5")
                                            .replace(TOGETHER, APART))  # fmt: skip
    drawn = []
    original = decisions.figures.kept_networks
    monkeypatch.setattr(
        decisions.figures, "kept_networks", lambda kept, tasks: drawn.append(kept) or original(kept, tasks)
    )
    report(folder)
    (kept,) = drawn
    assert [k.note for k in kept] == ["3 of 3 seeds", "2 of 3 seeds", "3 of 3 seeds"]
    assert [n.tasks for n in kept[1].networks] == [("depth_z", "edges_2d"), ("normals",)]
    # at 2: normals are better alone (0.4) than with edges (0.48), edges with normals
    assert kept[2].serves == (("edges_2d",), ("depth_z",), ("normals",))


def test_relations_have_intervals_over_seeds(study):
    folder, _ = study
    change = {row["trained with"]: row for row in rows(folder / "report/relationships-numbers.csv")}
    assert float(change["edges 2d"]["depth z"]) == pytest.approx(10)  # 0.9 of the loss alone
    assert float(change["depth z"]["edges 2d"]) == pytest.approx(-10)
    assert float(change["mean"]["mean"]) == pytest.approx((10 - 10 + 20 + 0 + 50 - 20) / 6)
    pairs = {row["pair"]: row for row in rows(folder / "report/affinity-of-pairs.csv")}
    assert float(pairs["edges 2d – normals"]["affinity, %"]) == pytest.approx(15)
    assert float(pairs["edges 2d – normals"]["±"]) == pytest.approx(0, abs=1e-9)  # each seed scales all losses


def test_equal_cost_compares_with_smaller_single_networks(study):
    two, three = rows(study[0] / "report/equal-cost-numbers.csv")
    assert (two["tasks"], two["networks"], three["tasks"]) == ("2", "3", "3")
    assert float(two["lower by, %"]) == pytest.approx(50 / 6)
    assert float(three["lower by, %"]) == pytest.approx(35)  # 1.3 against 2.0 of the half-size loss


def test_costs_of_choices_add_up_and_the_largest_activations_count(study):
    folder, page = study
    table = {(row["method"], row["budget"]): row for row in rows(folder / "report/cost-of-choices.csv")}
    row = table["optimal", "1.5"]  # a full-size network of two tasks and a half-size one of one
    assert float(row["multiply-adds, 10⁹"]) == pytest.approx(2 + 1 + 3 * 0.5)
    assert float(row["latency, ms"]) == pytest.approx(10 + 5 + 3 * 2)
    assert float(row["weights, MiB"]) == pytest.approx(24e6 / 2**20 + 3)
    assert float(row["activations, MiB"]) == 2
    assert float(row["memory, MiB"]) == pytest.approx(24e6 / 2**20 + 5)
    assert "Measured on a CPU, 1 of 4 cores, with torch 2.9." in page


@pytest.mark.parametrize(
    ("settings", "costs", "words"),
    [
        ({}, {0.5, 1.0}, "1: one full-size network"),
        ({"budget_unit": "multiply_adds"}, {1.0, 2.0}, "10⁹ multiply-adds"),
        ({"budget_unit": "milliseconds", "latency_batch": 32}, {45.0, 90.0}, "ms of 32 images"),
        ({"count_decoders": True}, {0.75, 1.25, 1.5, 1.75}, "1: one full-size network, with decoders"),
    ],
)
def test_random_groupings_cost_what_budgets_count(study, settings, costs, words):
    manifest = Manifest(study="GroupingStudy", version=1, report="", tables={}, settings=settings)
    results = read_grouping_study(study[0], manifest)
    assert {network.cost for network in results.priced_test.networks} == costs
    assert results.unit.words == words


def test_approximations_trainings_and_failures_are_told(study):
    folder, page = study
    (row,) = rows(folder / "report/approximations-numbers.csv")
    assert (float(row["mean regret"]), float(row["largest regret"])) == (pytest.approx(0.04), 0.06)
    assert "Left out: depth z, seed 0 (its loss is no number)." in page
    assert "1 networks trained, in 35 s" in page.replace("35.0", "35")
    assert (folder / "report/learning-curves.png").is_file() and (folder / "report/predictions-2.png").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_learning_curves_are_those_of_the_seed_that_the_study_names_first(study, monkeypatch, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "copy", ignore=shutil.ignore_patterns("report"))
    settings(folder, seed=7)
    runs = {7: "runs/a", 3: "runs/b"}  # the further seed is the smaller one
    pair = ("depth_z", "normals")
    write_runs(folder, [RunEntry(run=place, folder=place, kind="candidate", tasks=pair, seed=seed)
                        for seed, place in runs.items()])  # fmt: skip
    (folder / "runs/b").mkdir()
    (folder / "runs/b/history.json").write_text(json.dumps([{"val/loss": 0.1}]))
    drawn = []
    original = study_figures.learning_curves
    monkeypatch.setattr(
        study_figures, "learning_curves", lambda panels, measure: drawn.append(panels) or original(panels, measure)
    )
    report(folder)
    assert drawn == [{"2 tasks": {"runs/a": [(1, 0.9), (2, 0.5), (3, 0.6)]}}]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_is_named(study, tmp_path, name):
    folder = shutil.copytree(study[0], tmp_path / "copy", ignore=shutil.ignore_patterns("report"))
    place = folder / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    page = report(folder).read_text()
    expected = {"validation.csv": "needs validation.csv", "test.csv": "groupings: there is no test.csv",
                "network_losses.csv": "network_losses.csv has no validation losses"}  # fmt: skip
    assert expected.get(name, name) in page


def test_a_folder_with_nothing_but_its_manifest_has_a_page(tmp_path):
    Manifest(study="GroupingStudy", version=1, report="lightning_taskonomy.reports.grouping.GroupingReport", tables={},
             settings={"tasks": list(TASKS)}).write(tmp_path)  # fmt: skip
    page = report(tmp_path).read_text()
    assert page.count("Not here") >= 8 and "choices.csv" in page


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [("choices.csv", "test_loss", "tset_loss", "column 'test_loss'"),
     ("choices.csv", "normals@0.5", "normals", "a\\+b@1"),
     ("choices.csv", "0.6,", "low,", "low"),
     ("affinities.csv", "edges_2d", "edges_3d", "normals|edges")],
)  # fmt: skip
def test_a_damaged_file_is_named(study, tmp_path, name, old, new, message):
    folder = shutil.copytree(study[0], tmp_path / "copy", ignore=shutil.ignore_patterns("report"))
    (folder / name).write_text((folder / name).read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        report(folder)


def test_bars_scatter_and_curves_carry_their_numbers():
    bars = study_figures.equal_cost_bars({"2 tasks": (-1.15, 0.5), "3 tasks": (4.23, None)})
    assert [bar.get_height() for bar in bars.axes[0].patches] == [-1.15, 4.23]
    assert {"−1.15 %", "+4.23 %"} <= {text.get_text() for text in bars.axes[0].texts}
    scatter = study_figures.affinity_scatter({"transfer": ([1, 2, 3], [4, 5, 6], ["a", "b", "c"], "r = 1", 1)}, "%")
    marks = [line for line in scatter.axes[0].lines if len(line.get_xdata()) == 1]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in marks] == [(1, 4), (2, 5), (3, 6)]
    assert [line.get_markerfacecolor() == "none" for line in marks] == [False, True, False]
    costs = study_figures.inference_panels({"weights": ([(0.5, 3.0), (1.0, 4.0)], [(1.0, 0.1)])})
    assert costs.axes[0].lines[0].get_xydata().tolist() == [[0.5, 3], [1, 4]]
    assert costs.axes[0].lines[2].get_xydata().tolist() == [[0, 0], [1, 4]]  # in proportion
    learnt = study_figures.learning_curves({"2 tasks": {"a+b": [(1, 0.9), (2, 0.5), (3, 0.6)]}}, "loss")
    assert learnt.axes[0].lines[1].get_xydata().tolist() == [[2, 0.5]]  # the best
    regret = study_figures.regret_scatter({"ESA": (2.0, [0.02, 0.06])})
    assert regret.axes[0].lines[1].get_xydata().tolist() == [[2, 0.04]]
    for draw in (study_figures.equal_cost_bars, study_figures.inference_panels, study_figures.regret_scatter):
        with pytest.raises(InputError, match="give at least one"):
            draw({})


@pytest.mark.usefixtures("no_pictures")
def test_the_published_losses_give_table_4_and_the_correlation_of_fig_3(tmp_path):
    paths = {part: PUBLISHED / f"setting1_{part}.tsv" for part in ("validation", "test", "early")}
    if not all(path.exists() for path in paths.values()):
        pytest.skip(f"the published losses are not here: {PUBLISHED}")
    tables = {part: GroupingsTable.read(path) for part, path in paths.items()}
    validation, test = tables["validation"], tables["test"]
    choices = []
    for method, by in {"optimal": validation, "hoa": higher_order(validation), "esa": tables["early"]}.items():
        for solution in GroupingSolver().sweep(by, np.arange(1, 5.5, 0.5)):
            losses = score(solution.networks, test, validation)
            names = "; ".join("+".join(n.tasks) + f"@{n.cost:g}" for n in solution.networks)
            choices.append(
                [method, solution.budget, 0, solution.cost, names, "", sum(losses.values()), *losses.values()]
            )
    header = f"method budget seed cost networks validation_loss test_loss {' '.join(test.tasks)}"
    write(tmp_path / "choices.csv", header, choices)
    for part, table in tables.items():
        table.write(tmp_path / f"{part}.csv")
    upper = [1.740, 1.828, 0.723, 0.700, 1.915, 0.406, 0.468, 0.089, 0.118, 0.232]  # Table 3
    pairs = dict(zip(zip(*np.triu_indices(5, 1), strict=True), upper, strict=True))
    change = rows_of_table_1()
    write(tmp_path / "affinities.csv", "task partner cotraining transfer",
          [[test.tasks[t], test.tasks[p], change[p][t], pairs[min(p, t), max(p, t)]]
           for t in range(5) for p in range(5) if p != t])  # fmt: skip
    Manifest(study="GroupingStudy", version=1, report="lightning_taskonomy.reports.grouping.GroupingReport", tables={},
             settings={}, finished=True).write(tmp_path)  # fmt: skip
    report(tmp_path)
    printed = [line for line in (ROOT / "docs/grouping.md").read_text().splitlines() if line.startswith("| ")]
    documented = {cells[0].strip(): cells[1:10] for cells in (line.strip("| ").split("|") for line in printed)}
    for row in rows(tmp_path / "report/losses-by-budget.csv"):
        name = {"optimal": "optimal", "higher order (HOA)": "HOA", "early stopping (ESA)": "ESA"}[row.pop("method")]
        assert [f"{float(loss):.5f}" for loss in row.values()] == [f"{float(cell):.5f}" for cell in documented[name]]
    (transfer,) = rows(tmp_path / "report/affinity-correlations.csv")
    assert transfer["left out"] == "SemSeg – Edges"
    assert (round(float(transfer["r"]), 2), round(float(transfer["r without it"]), 2)) == (-0.12, -0.54)
    assert round(float(transfer["p without it"]), 2) == 0.13  # as printed below Fig. 3
    (two,) = rows(tmp_path / "report/equal-cost-numbers.csv")
    assert round(float(two["lower by, %"]), 2) == -1.15  # as printed in Fig. 2


def rows_of_table_1() -> list[list[float]]:
    return [[0, -5.41, -11.29, -4.32, -34.64], [4.17, 0, -3.55, 3.49, 3.76], [8.50, 2.48, 0, 1.37, 12.33],
            [4.82, 1.38, -0.02, 0, -5.26], [3.07, -0.92, -4.42, 1.37, 0]]  # fmt: skip
