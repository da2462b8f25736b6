"""The grouping study: its protocol with runs that only pretend to train, and a real tiny one from end to end."""

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy import training
from lightning_taskonomy.affinity.groupings import GroupingsTable
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes, write_json
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.grouping import GroupingStudy, jobs
from lightning_taskonomy.studies.grouping.plan import Candidate
from lightning_taskonomy.tasks import find

HERE = LocalExecutor(workers=0)
PUBLISHED = Path(__file__).parents[3] / "shared/published/taskgrouping"
TASKS = ["semantic_segmentation", "depth_z", "normals", "keypoints_2d", "edges_2d"]
NAMES = dict(zip(("SemSeg", "Depth", "Normals", "Keypoints", "Edges"), TASKS, strict=True))
TABLE_4 = {  # docs/grouping.md: the published losses, by enumeration of all sets
    "optimal": [0.50278, 0.46132, 0.45224, 0.44612, 0.44235, 0.43932, 0.43555, 0.43555, 0.43481],
    "hoa": [0.50278, 0.46132, 0.45474, 0.4505, 0.44875, 0.44489, 0.44112, 0.44552, 0.44196],
    "esa": [0.50278, 0.48732, 0.46727, 0.46063, 0.45722, 0.45058, 0.45058, 0.44742, 0.44742],
}
BUDGETS = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def settings(rooms, tiny_backbone):
    """What a study is made of."""
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    return {
        "tasks": TASKS,
        "data": rooms,
        "backbone": tiny_backbone,
        "heads": {"dense": light, "normals": light, "segmentation": light},
        "trainer": {"accelerator": "cpu"},
        "examples": 0,
        "checkpoint_seconds": 0,
    }


@pytest.fixture
def pretending(monkeypatch):
    """Training that writes losses from a function of group, size and seed instead; returns what was trained."""
    trained, losses = [], {}

    def statistics(tasks, data, done):
        write_json(done, {name: {"count": 1, "mean": 0.0, "std": 1.0} for name in tasks})

    def encoders(backbone, sizes, shrunk_by, data, done):
        sized = {
            repr(s): {**backbone, "init_args": {**backbone["init_args"], "channels": round(100 * s)}} for s in sizes
        }
        write_json(done, sized)

    def together(runs, checkpoint_seconds, **options):
        failed = []
        for run in runs:
            init_args, folder = run["config"]["model"]["init_args"], Path(run["folder"])
            group, size = tuple(init_args["tasks"]), init_args["backbone"]["init_args"]["channels"] / 100
            early = run["config"]["trainer"]["max_epochs"] == 1
            trained.append((group, size, early))
            row = losses["of"](group, size, run["config"]["seed_everything"])
            if folder.name.startswith(losses.get("broken_kind", "-")) or group in losses.get("broken", []):
                write_json(folder / "failed.json", {"error": "the loss of depth_z is NaN"})
                failed.append(group)
                continue
            first, last, test = ({f"{split}/{t}/loss": loss for t, loss in zip(group, one, strict=True)}
                                 for split, one in zip(("val", "val", "test"), row, strict=True))  # fmt: skip
            write_json(folder / "history.json", [{"epoch": 0, "step": 1, "learning_rate": 0.1, **first}])
            write_bytes(folder / "weights.safetensors", b"")
            write_json(folder / "metrics.json", {**(first if early else last), **test, "seconds": 1.0})
        if failed:
            raise InputError(f"{len(failed)} runs failed")

    monkeypatch.setattr(jobs, "label_statistics", statistics)
    monkeypatch.setattr(jobs, "encoder_sizes", encoders)
    monkeypatch.setattr(jobs, "inference_costs", lambda folder, **_: write_bytes(Path(folder) / "inference.csv", b""))
    monkeypatch.setattr(training, "execute_together", together)
    return trained, losses


@pytest.fixture
def published():
    """Early, validation and test losses of the paper's 36 networks."""
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published losses are not here: {PUBLISHED}")
    tables = [GroupingsTable.read(PUBLISHED / f"setting1_{name}.tsv") for name in ("early", "validation", "test")]

    def of(group, size, seed):
        key = tuple(name for name, task in NAMES.items() if task in group), size
        return [table.by_key[key].losses for table in tables]

    return of


@pytest.mark.parametrize(
    ("candidates", "method", "trainings"), [("all", "optimal", 36), ("all", "hoa", 36), ("all", "esa", 36),
                                            ("pairs", "hoa", None), ("early", "esa", None)]
)  # fmt: skip
def test_the_study_gives_table_4_from_the_published_losses(
    settings, pretending, published, tmp_path, candidates, method, trainings
):
    trained, losses = pretending
    losses["of"] = published
    GroupingStudy(**settings, candidates=candidates).run(
        tmp_path, execution=HERE, stages=["data", "networks", "analysis"]
    )
    kept = {float(row["budget"]): row for row in rows(tmp_path / "choices.csv") if row["method"] == method}
    assert [round(float(kept[b]["test_loss"]), 5) for b in BUDGETS] == TABLE_4[method]
    if trainings:
        assert len(trained) == trainings == len(set(trained))
    else:  # what was trained to the end beyond the first networks is what was chosen
        first = {"pairs": 20, "early": 36}[candidates]
        later = {(group, size) for group, size, early in trained[first:] if not early}
        words = {name for row in kept.values() for name in row["networks"].split("; ")}
        assert later <= {(tuple(w.partition("@")[0].split("+")), float(w.partition("@")[2])) for w in words}
        assert len(trained) == first + len(later)


def test_what_failed_is_left_out_named_and_never_chosen(settings, pretending, tmp_path):
    _, losses = pretending

    def of(group, size, seed):
        value = float("nan") if group == tuple(TASKS[:2]) else 0.1 if group == tuple(TASKS[:3]) else 1.0
        return [[value] * len(group)] * 3

    losses["of"] = of
    GroupingStudy(**settings).run(tmp_path, execution=HERE, stages=["data", "networks", "analysis"])
    name = "+".join(TASKS[:2]) + "@1"
    (failed,) = [row for row in rows(tmp_path / "trainings.csv") if row["status"] == "failed"]
    assert failed["network"] == name and TASKS[0] in failed["reason"]
    assert all(name not in row["networks"].split("; ") for row in rows(tmp_path / "choices.csv"))
    assert (
        "+".join(TASKS[:3]) + "@1"
        in next(r for r in rows(tmp_path / "choices.csv") if r["budget"] == "2.0")["networks"]
    )


@pytest.mark.parametrize("candidates", ["all", "pairs", "early", "search"])
def test_a_network_that_fails_is_tried_once_and_the_study_goes_on(settings, pretending, tmp_path, candidates):
    trained, losses = pretending
    broken = tuple(TASKS[1:3])
    losses |= {"of": lambda group, size, seed: [[(1 + 0.1 * len(group)) / size] * len(group)] * 3, "broken": [broken]}
    study = GroupingStudy(**settings, candidates=candidates, budgets=[1, 2])
    study.run(tmp_path, execution=HERE, stages=["data", "networks", "analysis"])
    assert [group for group, *_ in trained].count(broken) == 1
    (failed,) = [row for row in rows(tmp_path / "trainings.csv") if row["status"] == "failed"]
    assert failed["reason"] == "the loss of depth_z is NaN"
    method = {"all": "optimal", "pairs": "hoa", "early": "esa", "search": "search"}[candidates]
    # One network of all has 5 * 1.5. Of two, a pair and a triple are the best. By pairs alone all larger groups look
    # like 1.2, so that one task alone and all together are taken. A search then finds that all have 1.5 where 1.2 was
    # predicted: a triple looks like 1.5 too, and the network of all is already there.
    best = {"pairs": 1.1 + 4 * 1.5, "search": 2 * 1.2 + 3 * 1.5}.get(candidates, 2 * 1.2 + 3 * 1.3)
    kept = {float(row["budget"]): row for row in rows(tmp_path / "choices.csv") if row["method"] == method}
    assert float(kept[1.0]["test_loss"]) == pytest.approx(7.5)
    assert float(kept[2.0]["test_loss"]) == pytest.approx(best)
    assert "+".join(broken) + "@1" not in kept[2.0]["networks"].split("; ")


def test_a_baseline_that_fails_leaves_the_candidate_of_its_tasks(settings, pretending, tmp_path):
    _, losses = pretending
    losses |= {"of": lambda group, size, seed: [[1.0 / size] * len(group)] * 3, "broken_kind": "mgda_ub"}
    study = GroupingStudy(**settings, baselines=["mgda_ub"], budgets=[1])
    study.run(tmp_path, execution=HERE, stages=["data", "networks", "analysis"])
    (optimal,) = [row for row in rows(tmp_path / "choices.csv") if row["method"] == "optimal"]
    assert optimal["networks"] == "+".join(TASKS) + "@1"


def test_limits_are_on_final_losses_alone(settings, pretending, tmp_path):
    _, losses = pretending
    losses["of"] = lambda group, size, seed: [[3.0 + len(group)] * len(group), *[[len(group) / size] * len(group)] * 2]
    study = GroupingStudy(**settings, limits={"depth_z": 1.5}, budgets=[1, 2, 3])
    study.run(tmp_path, execution=HERE, stages=["data", "networks", "analysis"])
    kept = {(row["method"], float(row["budget"])): row for row in rows(tmp_path / "choices.csv")}
    assert ("optimal", 1.0) not in kept and float(kept["optimal", 2.0]["depth_z"]) == 1.0  # depth alone, at full size
    assert float(kept["esa", 1.0]["depth_z"]) == 5.0
    assert {row["budget"] for row in rows(tmp_path / "approximations.csv")} == {"1.0", "2.0", "3.0"}


def test_a_mean_is_over_the_same_seeds(settings, pretending, tmp_path):
    _, losses = pretending
    losses["of"] = lambda group, size, seed: [[(1.0 + seed) / size] * len(group)] * 3
    study = GroupingStudy(**settings, seeds=[1], budgets=[5])
    plan, other = study.plans(tmp_path)
    study.run(tmp_path, execution=HERE, stages=["data", "networks"])
    (other.run(Candidate(tuple(TASKS))).folder / "metrics.json").unlink()
    study.run(tmp_path, execution=HERE, stages=["analysis"])
    table = GroupingsTable.read(tmp_path / "test.csv")
    assert (tuple(TASKS), 1.0) not in table.by_key
    assert table.by_key[(TASKS[0],), 1.0].losses == (1.5,)
    assert plan.run(Candidate(tuple(TASKS))).is_done


def test_seeds_are_chosen_and_scored_each_by_itself(settings, pretending, tmp_path):
    _, losses = pretending
    losses["of"] = lambda group, size, seed: [[(1 + len(group) * (1 if seed else -0.1)) / size] * len(group)] * 3
    study = GroupingStudy(**settings, seeds=[7], budgets=[5], single_size=1.0)
    study.run(tmp_path, execution=HERE, stages=["data", "networks", "analysis"])
    optimal = {row["seed"]: row for row in rows(tmp_path / "choices.csv") if row["method"] == "optimal"}
    assert float(optimal["0"]["test_loss"]) == pytest.approx(5 * (1 - 0.5))  # all together help
    assert float(optimal["7"]["test_loss"]) == pytest.approx(5 * 2.0)  # each alone
    table = GroupingsTable.read(tmp_path / "test.csv")
    assert table.by_key[(TASKS[0],), 1.0].losses == pytest.approx(((2 + 0.9) / 2,))


# statistics


def test_statistics_are_those_of_all_valid_labels(rooms, tmp_path):
    module = training.instantiate_data(rooms)
    jobs.label_statistics(TASKS[:3], rooms, str(tmp_path / "statistics.json"))
    measured = json.loads((tmp_path / "statistics.json").read_text())
    samples = module.dataset("train", keys=["depth_z", "normals", "semantic"])
    for name in TASKS[1:3]:
        labels = np.concatenate([samples[i][find(name).target].double().numpy().ravel() for i in range(len(samples))])
        labels = labels[np.isfinite(labels)]
        expected = {"count": len(labels), "mean": labels.mean(), "std": labels.std()}
        assert measured[name] == pytest.approx(expected)
    assert set(measured["semantic_segmentation"]) == {"count"}


def test_a_task_without_a_label_is_named(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_valid", lambda task, target: target[:0] if task.name == "normals" else target.flatten())
    with pytest.raises(InputError, match="task 'normals' has no valid label 'normals' in split 'train'"):
        jobs.label_statistics(["depth_z", "normals"], rooms, str(tmp_path / "statistics.json"))


# what is trained


def test_candidates_are_those_of_the_paper(settings, tmp_path):
    plan = GroupingStudy(**settings, small_sizes=[0.1, 0.2, 0.4, 0.6, 0.8]).plan(tmp_path)
    first = plan.first()
    assert len(first) == 36 and sum(network.size == 0.5 for network in first) == 5  # C0, section 4.2
    assert len([*first, *plan.compared()]) == 36 + 25  # 56 networks and the half-size ones (section 3.1)
    expected = {group for n in range(1, 6) for group in itertools.combinations(TASKS, n)}
    assert {network.tasks for network in first} == expected


def test_every_run_has_its_own_folder_and_the_same_data(settings, tmp_path):
    plan = GroupingStudy(**settings, baselines=["mtl", "gradnorm", "soft_sharing"], baseline_sizes=[1, 2]).plan(
        tmp_path
    )
    statistics, sizes = {name: [0.0, 1.0] for name in TASKS[1:]}, dict.fromkeys(plan.sizes(), settings["backbone"])
    runs = [plan.run(network, statistics, sizes) for network in [*plan.first(), *plan.compared()]]
    assert len({run.folder for run in runs}) == len(runs) == 36 + 5  # a candidate is the mtl of size 1
    assert len({json.dumps(run.config["data"], default=str) for run in runs}) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"candidates": [["depth_z", "normal"]]},
            "'normal', which is not a task of this study; did you mean 'normals'",
        ),
        ({"candidates": [["depth_z", "depth_z"]]}, "each once"),
        ({"baselines": ["gradnrom"]}, "no baseline 'gradnrom'; did you mean 'gradnorm'"),
        ({"baselines": ["my.Callback"]}, "baseline 'my.Callback' cannot be imported"),
        ({"small_sizes": [1.5]}, "not a share of the full-size encoder"),
        ({"limits": {"depth": 1.0}}, "limits names 'depth'"),
        ({"budgets": [0.0]}, "must be above 0"),
        ({"budget_unit": "milliseconds"}, "give budgets in it"),
        ({"seeds": [0]}, "repeat a seed"),
        ({"transfers": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"tasks": ["depth_z"]}, "two tasks at least"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, changes, words):
    with pytest.raises(InputError, match=words):
        GroupingStudy(**{**settings, **changes})


def test_a_real_study_from_end_to_end(settings, tmp_path):
    changes = {
        "tasks": ["depth_z", "normals"], "passes": 1, "parts": 2, "affinity_steps": 1,
        "baselines": ["mgda_ub", "soft_sharing", "lightning_taskonomy.callbacks.GradNormWeighting"],
        "baseline_sizes": [1.0], "examples": 1,
    }  # fmt: skip
    study = GroupingStudy(**{**settings, **changes})
    results = study.run(tmp_path, execution=HERE)
    assert results.report is not None and results.report.is_file()
    trainings = {row["network"] + row["kind"]: row for row in rows(tmp_path / "trainings.csv")}
    assert len(trainings) == 3 + 2 + 3 and all(row["status"] == "trained" for row in trainings.values())
    statistics = json.loads((tmp_path / "statistics.json").read_text())
    row = trainings["depth_z+normals@1candidate"]
    metrics = json.loads((tmp_path / row["folder"] / "metrics.json").read_text())
    # the loss is the mean absolute error in multiples of the labels' deviation
    assert metrics["test/depth_z/loss"] == pytest.approx(
        metrics["test/depth_z/mae"] / statistics["depth_z"]["std"], rel=1e-4
    )
    assert metrics["test/loss"] == pytest.approx((metrics["test/depth_z/loss"] + metrics["test/normals/loss"]) / 2)
    (together,) = [r for r in rows(tmp_path / "choices.csv") if r["method"] == "mtl"]
    assert float(together["test_loss"]) == pytest.approx(2 * metrics["test/loss"])
    assert float(together["validation_loss"]) == pytest.approx(2 * metrics["val/loss"])
    measured = {(r["task"], r["partner"]): r for r in rows(tmp_path / "affinities.csv")}
    assert {"cotraining", "lookahead", "gradient_cosine"} <= measured["depth_z", "normals"].keys()
    assert sorted(file.name for file in (tmp_path / "examples/2").iterdir()) == ["depth_z.npz", "normals.npz"]
    weights = (tmp_path / row["folder"] / "weights.safetensors").read_bytes()
    assert study.run(tmp_path, execution=HERE).tables["choices"] == results.tables["choices"]  # nothing is done twice
    assert (tmp_path / row["folder"] / "weights.safetensors").read_bytes() == weights


@pytest.mark.parametrize("changes", [{"budgets": [0.75]}, {"limits": {"depth_z": 0.1}}])
def test_budgets_and_limits_that_nothing_meets_are_said_and_the_rest_is_written(
    settings, pretending, tmp_path, changes, caplog
):
    _, losses = pretending
    losses["of"] = lambda group, size, seed: [[1.0 / size] * len(group)] * 3
    GroupingStudy(**{**settings, "budgets": [2], **changes}).run(
        tmp_path, execution=HERE, stages=["data", "networks", "analysis"]
    )
    methods = {row["method"] for row in rows(tmp_path / "choices.csv")}
    assert {"mtl", "independent"} <= methods and "optimal" not in methods
    words = (
        "smallest budget|raise the budget to that" if "budgets" in changes else "no network serves depth_z with a loss"
    )
    assert any(re.search(words, record.getMessage()) for record in caplog.records)
