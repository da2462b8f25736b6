"""Beyond the taxonomy: novel tasks, chains, another data set, other settings, on the study that is finished already."""

import csv
import json
import shutil

import numpy as np
import pytest

from lightning_taskonomy.affinity import win_rate
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies import TaxonomyStudy


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
        "fine_tune": {
            "data": tiny_settings["data"], "task": "scene_classification", "target": "normals", "metric": "accuracy",
            "epochs": 1,
        },
        "variants": {"wide": {"transfer_width": 16}},
    }  # fmt: skip
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    TaxonomyStudy(**settings).run(out)
    return out, before


def test_nothing_is_trained_twice(extended):
    out, before = extended
    assert json.loads((out / "failures.json").read_text()) == []
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())


def test_novel_tasks_are_solved_without_themselves(extended):
    found = rows(extended[0] / "novel.csv")
    assert {(row["target"], row["order"]) for row in found} == {(t, o) for t in ("depth_z", "normals") for o in "12"}
    for row in found:
        assert row["target"] not in row["sources"].split(";") and len(row["sources"].split(";")) <= int(row["order"])
        assert 0 <= float(row["win_rate_vs_imagenet"]) <= 1 and 0 <= float(row["win_rate_vs_colorization"]) <= 1
    first, second = (next(r for r in found if r["target"] == "normals" and r["order"] == o) for o in "12")
    assert float(second["affinity"]) >= float(first["affinity"])


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


def test_fine_tuned_networks_are_ranked_beside_the_affinities(extended):
    out, _ = extended
    found = rows(out / "fine_tune.csv")
    assert {row["source"] for row in found} == {"depth_z", "colorization"}
    for row in found:
        metrics = json.loads(next(out.glob(f"runs/fine_tuned-*-from-{row['source']}-*/metrics.json")).read_text())
        assert float(row["accuracy"]) == metrics["test/scene_classification/accuracy"]
    assert json.loads((out / "fine_tune.json").read_text())["target"] == "normals"


def test_variants_are_compared_with_the_study(extended):
    (row,) = rows(extended[0] / "stability.csv")
    assert row["variant"] == "wide" and -1 <= float(row["mean_spearman"]) <= 1 and float(row["frobenius"]) > 0


def test_a_variant_of_first_order_has_no_stage_of_higher_orders(finished, tiny_settings, tmp_path, monkeypatch):
    from lightning_taskonomy.studies.engine import Engine

    shutil.copytree(finished[0], tmp_path / "study")
    titles = []
    plain = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, title, jobs: titles.append(title) or plain(self, title, jobs))
    before = {file.parent.name for file in (tmp_path / "study").glob("runs/*/metrics.json")}
    variants = {"low": {"max_order": 1}, "other": {"max_order": 2, "transfer_epochs": 1}}
    study = TaxonomyStudy(**tiny_settings, variants=variants)
    study.run(tmp_path / "study", stages=["transfers"])
    assert [title for title in titles if "higher" in title] == [
        "transfers of higher order", "transfers of higher order (other)",
    ]  # fmt: skip
    study.run(tmp_path / "study", stages=["taxonomy"])
    assert {row["variant"] for row in rows(tmp_path / "study/stability.csv")} == set(variants)
    new = {file.parent.name for file in (tmp_path / "study").glob("runs/*/metrics.json")} - before
    assert new and all(name.startswith("transfer-") for name in new), "of the other variant, none of the low one"


def test_the_report_shows_them(extended):
    page = (extended[0] / "report/index.html").read_text()
    assert "win_rate_vs_direct" in page or "Transitive" in page or "transitive" in page


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variants": {"odd": {"widht": 3}}}, "transfer_width|no setting"),
        ({"transitive": [("normals", "depth_z", "edges")]}, "edges"),
        ({"controls": [("normals", "dept_z")]}, "depth_z"),
    ],
)
def test_settings_are_checked_before_anything_runs(tiny_settings, setting, message):
    with pytest.raises(InputError, match=message):
        TaxonomyStudy(**{**tiny_settings, **setting})
