"""The study of transfer chains: real runs end to end, small."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lightning_taskonomy.checkpoints import WEIGHTS
from lightning_taskonomy.cli import main
from lightning_taskonomy.data import RoomsDataModule
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.models.backbones import read_weights
from lightning_taskonomy.models.sources import load_backbone
from lightning_taskonomy.reports.base import open_report
from lightning_taskonomy.reports.influence.files import read_influence
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.influence import InfluenceStudy


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def study(rooms, tiny_backbone):
    """Two data sets with a task each, one of several sources, a first link, two learning rates for one type."""
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    other = {**rooms, "init_args": {**rooms["init_args"], "train_buildings": 3}}
    training = {"steps": 3, "small_steps": 2, "rates": [0.01], "batch_size": 2}
    return InfluenceStudy(
        sets={
            "a": {"data": rooms, "tasks": {"depth": "depth_z", "normals": "normals"}, "domain": "near"},
            "b": {"data": other, "tasks": {"depth": "depth_z"}, "domain": "far"},
        },
        first={"data": rooms, "tasks": {"curvature": "curvature"}, "domain": "near"},
        backbone=tiny_backbone,
        heads={"dense": light, "normals": light},
        training={"depth": {**training, "rates": [0.001, 0.01]}, "normals": training, "curvature": training},
        multi_source={"depths": ["a/depth", "b/depth"]},
        small=4,
        seeds=[1],
        features=5,
        trainer={"accelerator": "cpu"},
        checkpoint_seconds=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """Its folder, and the splits that were read in their order."""
    out, seen, plain = tmp_path_factory.mktemp("influence") / "whole", [], RoomsDataModule.dataset

    def dataset(self, split, **options):
        seen.append(split)
        return plain(self, split, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoomsDataModule, "dataset", dataset)
        results = study.run(out, execution=LocalExecutor(workers=0))
    return out, seen, results


def test_the_tables_hold_each_chain_once(finished):
    out, _, _ = finished
    assert json.loads((out / "failures.json").read_text()) == []
    tasks = ["a/depth", "a/normals", "b/depth"]
    expected = {
        (target, source, setting, seed)
        for target in tasks
        for source in (
            "imagenet",
            "",
            *(name for name in tasks if name != target),
            *(["depths"] if target == "a/normals" else []),
        )
        for setting in ("small",)
        for seed in "01"
    }
    chains = rows(out / "chains.csv")
    assert {(row["target"], row["source"], row["setting"], row["seed"]) for row in chains} == expected
    assert len(chains) == len(expected) and all(float(row["value"]) > 0 for row in chains)
    sizes = {row["name"]: (row["domains"], int(row["size"])) for row in rows(out / "factors.csv")}
    each = int(sizes["a/depth"][1])
    assert sizes["depths"] == ("near;far", each + sizes["b/depth"][1]) and sizes["a/normals"] == ("near", each)


def test_its_page_has_the_answer(finished):
    out, _, results = finished
    assert results.report == out / "report/index.html" and type(open_report(out)).__name__ == "InfluenceReport"
    assert {"gains", "chains", "distances"} <= results.tables.keys()


def test_gains_are_those_of_the_paper(finished):
    """Eq. (2) by hand, of the means over seeds; errors with their sign turned."""
    out, _, _ = finished
    values = {}
    for row in rows(out / "chains.csv"):
        values.setdefault((row["target"], row["source"], row["setting"]), []).append(float(row["value"]))
    gains = rows(out / "gains.csv")
    assert len(gains) == len([key for key in values if key[1] not in ("", "imagenet")])
    for row in gains:
        reference = np.mean(values[row["target"], "imagenet", row["setting"]])
        reached = np.mean(values[row["target"], row["source"], row["setting"]])
        assert float(row["gain"]) == pytest.approx(-100 * (reached / reference - 1), abs=1e-9)


def test_distances_are_those_of_the_features(finished):
    out, _, _ = finished
    features = {}
    for name in "ab":
        (file,) = out.glob(f"features/{name}-*/features.npz")
        with np.load(file) as content:
            features[name] = content["features"]
            assert len(set(content["id"].tolist())) == 5
    distance = cdist(features["a"], features["b"])
    row = next(row for row in rows(out / "distances.csv") if (row["target"], row["source"]) == ("a", "b"))
    assert float(row["target_to_source"]) == pytest.approx(distance.min(1).mean(), rel=1e-5)
    assert float(row["source_to_target"]) == pytest.approx(distance.min(0).mean(), rel=1e-5)


def test_the_same_images_are_seen_by_the_networks_of_several_task_types(finished, study):
    """Fig. 3b and c: of the set with two types, by its sources and the first link, each by its own backbone."""
    out, _, _ = finished
    arrays = {}
    for kind in ("depth", "normals", "first link"):
        (file,) = out.glob(f"type_features/a-{kind.replace(' ', '?')}-*/features.npz")
        with np.load(file) as content:
            arrays[kind] = {name: content[name] for name in content.files}
    assert not list(out.glob("type_features/b-*"))
    results = read_influence(out, Manifest.read(out))
    assert {*results.features} == {"a", "b"} and {*results.type_features} == {"a"}
    assert {*results.type_features["a"]} == {*arrays}
    plan = study.plan(out)
    runs = {kind: plan.source_run(f"a/{kind}", "full") for kind in ("depth", "normals")}
    runs["first link"] = plan.start("imagenet", "full")
    data = plan.normalised("a", study.sets["a"])
    images = RoomsDataModule(**data["init_args"], seed=study.seed)
    batches = list(images.loader(images.dataset("train", keys=["image"])))
    for kind, run in runs.items():
        assert arrays[kind]["id"].tolist() == arrays["depth"]["id"].tolist()
        backbone = load_backbone(run.folder).eval()
        with torch.no_grad():
            pooled = torch.cat([backbone(batch["image"])[-1].mean((2, 3)) for batch in batches])
        ids = torch.cat([batch["id"] for batch in batches]).tolist()
        wanted = pooled[[ids.index(one) for one in arrays[kind]["id"].tolist()]]
        width = wanted.shape[1]
        torch.testing.assert_close(torch.tensor(arrays[kind]["features"])[:, -width:], wanted)


def test_a_data_set_of_the_study_is_no_distance_from_itself_as_a_new_target(finished, rooms, capsys):
    """Its images reach the encoder as those of the study did: normalised by its own colours."""
    out, _, _ = finished
    options = [f"--data.{name}={value}" for name, value in rooms["init_args"].items()]
    words = ["--target", "mine", "--by", "inclusion", "--data", "RoomsDataModule", *options, "--json"]
    capsys.readouterr()
    assert main(["recommend", str(out), *words]) == 0
    distances = {one["source"]: one["distance"] for one in json.loads(capsys.readouterr().out)["candidates"]}
    assert distances["a/depth"] == pytest.approx(0, abs=1e-6) and distances["b/depth"] > 1e-3


def test_a_target_starts_from_the_backbone_of_its_source(finished, study):
    """A chain of one more link without training would be the source itself: its backbone is read from the run."""
    out, _, _ = finished
    plan = study.plan(out)
    chain = next(one for one in plan.chains() if (one.target, one.source) == ("b/depth", "a/normals"))
    config = plan.kept(chain).config
    assert config["weights"] == str(plan.source_run("a/normals", "full").folder)
    source, target = (
        read_weights(folder / WEIGHTS)
        for folder in (plan.source_run("a/normals", "full").folder, plan.kept(chain).folder)
    )
    moved = [float((target[key] - value).abs().max()) for key, value in source.items() if key.startswith("backbone.")
             and value.is_floating_point() and "running" not in key and key in target]  # fmt: skip
    assert moved and max(moved) < 0.05  # two steps of Adam at 0.01 go no farther than 0.02 and a little decay


def test_test_images_are_read_by_what_was_selected_alone(finished):
    out, seen, _ = finished
    tests = [place for place, split in enumerate(seen) if split == "test"]
    prepared = [place for place in tests if place < 10]
    fits = [place for place, split in enumerate(seen) if split == "train"]
    after = [place for place in tests if place not in prepared]
    tested = {file.parent for file in out.glob("runs/*/test.json")}
    chains = rows(out / "chains.csv")
    assert len(tested) == len(after) and len(chains) >= len(tested)
    features = 2 + 3  # training images of each data set, and of one by three networks, read last
    assert min(after) > sorted(fits)[-features - 1]


def test_a_dry_run_downloads_no_weights(study, tmp_path, monkeypatch):
    import timm

    create, asked = timm.create_model, []

    def noted(*given, pretrained=False, **options):
        asked.append(pretrained)
        return create(*given, **options)

    monkeypatch.setattr(timm, "create_model", noted)
    backbone = {
        "class_path": "lightning_taskonomy.models.backbones.TimmBackbone",
        "init_args": {"name": "test_resnet", "pretrained": True, "out_indices": [2]},
    }
    downloading = study.but(backbone=backbone, first=None, seeds=None)
    assert "source " in downloading.dry_run(tmp_path, execution=LocalExecutor(workers=1))
    assert asked and not any(asked)


def test_a_dry_run_without_the_data_counts_the_jobs(study, tmp_path):
    absent = {"class_path": "VOC2012DataModule", "init_args": {"root": str(tmp_path / "none"), "batch_size": 2}}
    sets = {
        name: {"data": absent, "tasks": {"segmentation": "voc2012.semantic_segmentation"}, "domain": "consumer"}
        for name in "ab"
    }
    training = {"segmentation": {"steps": 3, "small_steps": 2, "rates": [0.1, 0.01], "batch_size": 2}}
    other = study.but(sets=sets, training=training, first=None, multi_source=None, heads=None, seeds=None)
    # by two rates: two sources, and two targets from the other one, the first link and from scratch
    counts = "2 prepare, 2 colours, 4 source, 12 chain, 6 test, 2 features"
    with pytest.raises(InputError, match=rf"none/.* is missing; .*; so nothing was timed of what is to run: {counts}$"):
        other.dry_run(tmp_path / "s", execution=LocalExecutor(workers=1))


def test_a_study_that_was_moved_goes_on_without_the_old_folder(finished, study, tmp_path):
    out, _, _ = finished
    moved, hidden = tmp_path / "moved", out.with_name("hidden")
    shutil.copytree(out, moved)
    untested = [file for file in moved.glob("runs/*/test.json") if "imagenet" in file.parent.name]
    for file in untested:
        file.unlink()
    fitted = {file: file.stat().st_mtime_ns for file in moved.glob("runs/*/metrics.json")}
    assert untested
    out.rename(hidden)
    try:
        study.run(moved, execution=LocalExecutor(workers=0))
    finally:
        hidden.rename(out)
    assert json.loads((moved / "failures.json").read_text()) == []
    assert {file: file.stat().st_mtime_ns for file in moved.glob("runs/*/metrics.json")} == fitted
    assert rows(moved / "chains.csv") == rows(out / "chains.csv")


def test_it_resumes_without_training_anything_again(finished, study):
    out, _, _ = finished
    before = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")}
    gains = (out / "gains.csv").read_bytes()
    study.run(out, execution=LocalExecutor(workers=0))
    assert {file: file.stat().st_mtime_ns for file in out.glob("runs/*/metrics.json")} == before
    assert (out / "gains.csv").read_bytes() == gains
