"""Beyond the taxonomy: novel tasks, chains, another data set, other settings, on the study that is finished already."""

import csv
import json
import shutil

import numpy as np
import pytest
from scipy.stats import spearmanr

from lightning_taskonomy.affinity import TransfersTable, win_rate
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.scheduler import Scheduler
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy
from lightning_taskonomy.studies.taxonomy.measurements import Measurements
from lightning_taskonomy.studies.taxonomy.novel import RIVALS, novel_tasks
from lightning_taskonomy.tasks import catalog

ELSEWHERE = [
    ("Scenes", "scene_classification", "normals", "accuracy"),
    ("Points", "vanishing_points", "depth_z", "mae"),
]
"""Two other data sets: what the report calls each, its task, the study's target, the metric."""


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def extended(finished, tiny_settings, tiny_backbone, tmp_path_factory):
    """The finished study with everything switched on."""
    out = tmp_path_factory.mktemp("extras") / "study"
    shutil.copytree(finished[0], out)
    settings = {
        **tiny_settings,
        "novel": True,
        "imagenet": tiny_backbone,
        "transitive": [("colorization", "normals", "depth_z")],
        "transitive_sizes": [4],
        "fine_tune": [
            {
                "data": tiny_settings["data"], "task": task, "target": target, "metric": metric, "epochs": 1,
                "name": name,
            }
            for name, task, target, metric in ELSEWHERE
        ],
        "variants": {"wide": {"transfer_width": 16}},
    }  # fmt: skip
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    TaxonomyStudy(**settings).run(out, execution=LocalExecutor(workers=0))
    return out, before


def test_nothing_is_trained_twice(extended):
    out, before = extended
    assert json.loads((out / "failures.json").read_text()) == []
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())


def scores_of(spec, task):
    """The held-out scores of one run."""
    with np.load(spec.folder / "scores.npz") as content:
        ids, values = content["id"], content[task]
    held_out = np.ones(len(ids), bool)
    held_out[np.random.default_rng(0).permutation(len(ids))[: (len(ids) + 1) // 2]] = False
    return values[held_out]


def test_novel_tasks_are_solved_without_themselves(extended):
    transfers = rows(extended[0] / "novel.csv")
    assert {(row["target"], row["order"]) for row in transfers} == {
        (t, o) for t in ("depth_z", "normals") for o in "12"
    }
    for row in transfers:
        assert row["target"] not in row["sources"].split(";") and len(row["sources"].split(";")) <= int(row["order"])
    first, second = (next(r for r in transfers if r["target"] == "normals" and r["order"] == o) for o in "12")
    assert float(second["affinity"]) >= float(first["affinity"])


def test_novel_tasks_are_compared_with_win_rates_and_losses_of_each_rival(extended, tiny_settings):
    out, _ = extended
    plan = TaxonomyStudy(**tiny_settings).plan(out)
    fixed = plan.untrained("imagenet")  # the same backbone stands for ImageNet's
    for row in rows(out / "novel.csv"):
        target = row["target"]
        ours = scores_of(plan.transfer(target, row["sources"].split(";")), target)
        assert float(row["loss"]) == pytest.approx(float(ours.mean()), rel=1e-4)
        rivals = {
            ("gain", "scratch"): plan.scratch(target),
            ("quality", "task_specific"): plan.task_specific(target),
            ("win_rate_vs_imagenet", "imagenet"): plan.transfer_from(target, [fixed], "imagenet"),
            ("win_rate_vs_colorization", "colorization"): plan.transfer(target, ["colorization"]),
        }
        for (column, name), spec in rivals.items():
            theirs = scores_of(spec, target)
            assert float(row[column]) == pytest.approx(win_rate(ours, theirs), abs=1e-6), column
            assert float(row[f"loss_{name}"]) == pytest.approx(float(theirs.mean()), rel=1e-4)


def test_a_novel_targets_own_network_is_no_member_of_its_tournament(tiny_settings, tmp_path, monkeypatch):
    """Its scores alone turn the order of two sources round: without it the other one is the better."""
    plan = TaxonomyStudy(**{**tiny_settings, "max_order": 1}).plan(tmp_path)
    sources = ("normals", "colorization")
    specific, first, second = (np.full(100, 0.5, np.float32) for _ in range(3))
    first[:51], second[:51] = 0.6, 0.7  # the first beats the second on 51 images, the second it on 49
    first[51:], second[51:] = 0.4, 0.3
    specific[:51] = 0.1  # the task-specific network beats both where the first is the better one, and on the rest
    specific[51:] = np.where(np.arange(49) < 45, 0.35, 0.2)  # ... only the first, on 45 of 49
    scores = {
        "depth_z": {
            ("depth_z", "task_specific", ("depth_z",)): specific,
            **{("depth_z", "transfer", (s,)): v for s, v in zip(sources, (first, second), strict=True)},
        }
    }
    monkeypatch.setattr(Measurements, "_scores", lambda *_, **__: (scores, np.arange(100)))
    best = {}
    for novel in (False, True):
        table, *_ = Measurements(plan, same_images=True, novel=novel).table()
        affinity = {row.sources[0]: row.affinity for row in table.transfers}
        best[novel] = max(sources, key=affinity.__getitem__)
        assert ("depth_z" in affinity) != novel
        assert sum(affinity.values()) == pytest.approx(1)
    assert best == {False: "colorization", True: "normals"}
    (row,) = novel_tasks(Measurements(plan, same_images=True, novel=True), None)[1]
    assert row[:3] == ["depth_z", 1, "normals"] and row[3] == pytest.approx(0.51)  # of two, AHP gives the win rates
    quality, loss_of_own = row[5], row[8]
    assert quality == pytest.approx(win_rate(first, specific)) and loss_of_own == pytest.approx(float(specific.mean()))


def test_rivals_of_novel_tasks_are_the_papers():
    assert set(RIVALS) < set(catalog()) and {"egomotion", "pose_fixated", "point_matching", "jigsaw"} < set(RIVALS)


def test_a_chain_is_compared_with_the_direct_transfer_image_by_image(extended):
    out, _ = extended
    (row,) = rows(out / "transitive.csv")
    assert (row["source"], row["first"], row["second"], row["images"]) == ("colorization", "normals", "depth_z", "4")
    chain = next(out.glob("runs/transfer-depth_z-from-normals-from-colorization-*/scores.npz"))
    rates = []
    for direct in out.glob("runs/transfer-depth_z-from-colorization-*/scores.npz"):  # of 4 and of 6 images
        with np.load(chain) as ours, np.load(direct) as theirs:
            rates.append(win_rate(ours["depth_z"], theirs["depth_z"]))
    assert pytest.approx(float(row["win_rate_vs_direct"]), abs=1e-6) in rates


def test_fine_tuned_networks_are_ranked_beside_the_affinities_on_each_data_set(extended):
    out, _ = extended
    results, rankings = rows(out / "fine_tune.csv"), json.loads((out / "fine_tune.json").read_text())
    assert [entry["name"] for entry in rankings] == ["Scenes", "Points"]
    affinities = {
        (row.target, row.sources): row.affinity for row in TransfersTable.read(out / "affinity.csv").transfers
    }
    for entry, (name, task, target, metric) in zip(rankings, ELSEWHERE, strict=True):
        of_task = [row for row in results if row["name"] == name]
        assert {row["source"] for row in of_task} == {"depth_z", "normals", "colorization"} - {target}
        for row in of_task:
            folder = next(out.glob(f"runs/fine_tuned-{task}-from-{row['source']}-*"))
            metrics = json.loads((folder / "metrics.json").read_text())
            assert float(row["value"]) == metrics[f"test/{task}/{metric}"] and row["metric"] == metric
            assert float(row["affinity"]) == pytest.approx(affinities[target, (row["source"],)])
        assert (entry["target"], entry["higher_is_better"]) == (target, metric == "accuracy")
        values = [[float(row[column]) for row in of_task] for column in ("affinity", "value")]
        rho = spearmanr(*values).statistic * (1 if metric == "accuracy" else -1)
        assert entry["spearman"] is None if np.isnan(rho) else entry["spearman"] == pytest.approx(rho)


def test_variants_are_compared_with_the_study(extended):
    (row,) = rows(extended[0] / "stability.csv")
    assert row["variant"] == "wide" and -1 <= float(row["mean_spearman"]) <= 1 and float(row["frobenius"]) > 0


def test_a_variant_of_first_order_has_no_stage_of_higher_orders(finished, tiny_settings, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path / "study")
    titles = []
    plain = Scheduler.run
    monkeypatch.setattr(
        Scheduler, "run", lambda self, stage, later: titles.append(stage.title) or plain(self, stage, later)
    )
    before = {file.parent.name for file in (tmp_path / "study").glob("runs/*/metrics.json")}
    variants = {"low": {"max_order": 1}, "other": {"max_order": 2, "transfer_epochs": 1}}
    study = TaxonomyStudy(**tiny_settings, variants=variants)
    study.run(tmp_path / "study", stages=["transfers"], execution=LocalExecutor(workers=0))
    assert [title for title in titles if "higher" in title] == [
        "transfers of higher order", "transfers of higher order (other)",
    ]  # fmt: skip
    study.run(tmp_path / "study", stages=["analysis"])
    assert {row["variant"] for row in rows(tmp_path / "study/stability.csv")} == set(variants)
    new = {file.parent.name for file in (tmp_path / "study").glob("runs/*/metrics.json")} - before
    assert new and all(name.startswith("transfer-") for name in new), "of the other variant, none of the low one"


def test_the_report_shows_them(extended):
    out, _ = extended
    page = (out / "report/index.html").read_text()
    assert "Transitive transfers" in page
    for figure in ("novel-tasks", "fine-tuned"):
        assert (out / f"report/{figure}.png").is_file() and f'href="{figure}.png"' in page


def elsewhere(**changes):
    return {"data": {}, "task": "scene_classification", "target": "normals", "metric": "accuracy", **changes}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variants": {"odd": {"widht": 3}}}, "transfer_width|no setting"),
        ({"transitive": [("normals", "depth_z", "edges")]}, "edges"),
        ({"controls": [("normals", "dept_z")]}, "depth_z"),
        (
            {"fine_tune": [elsewhere(target="norml")]},
            "'norml', which is not a target of this study; did you mean 'normals'",
        ),
        ({"fine_tune": [elsewhere(target="colorization")]}, "'colorization', which is not a target"),
        ({"fine_tune": [elsewhere(task="scene_clasification")]}, "did you mean 'scene_classification'"),
        ({"fine_tune": [elsewhere(metric="acuracy")]}, "no metric 'acuracy'; did you mean 'accuracy'.*allowed: acc"),
        ({"fine_tune": [elsewhere(), elsewhere()]}, "two data sets called 'scene_classification'; give each a name"),
    ],
)
def test_settings_are_checked_before_anything_runs(tiny_settings, setting, message):
    with pytest.raises(InputError, match=message):
        TaxonomyStudy(**{**tiny_settings, **setting})
