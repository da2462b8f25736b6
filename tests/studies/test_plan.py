"""Which networks a study trains, and what names them."""

from pathlib import Path

import pytest

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.runs import RunSpec, content_hash
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy
from lightning_taskonomy.studies.taxonomy.analysis import halves, shuffled
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings, Variant


@pytest.fixture
def plan(rooms, tiny_backbone):
    settings = TaxonomySettings(["depth_z", "normals", "colorization"], rooms, tiny_backbone, transfer_size=6)
    return TaxonomyPlan(settings, Path("out"))


def test_a_runs_name_is_the_hash_of_what_made_it():
    first = RunSpec("transfer", "normals<-depth_z+edges_2d", {"a": 1, "b": [2]}, Path("out"))
    same = RunSpec("transfer", "normals<-depth_z+edges_2d", {"b": [2], "a": 1}, Path("out"))
    other = RunSpec("transfer", "normals<-depth_z+edges_2d", {"a": 1, "b": [3]}, Path("out"))
    assert first.folder == same.folder != other.folder
    assert first.folder.name.startswith("transfer-normals-from-depth_z+edges_2d-")
    assert first.folder.parent == Path("out/runs")


def test_a_study_may_be_moved():
    assert content_hash({"file": "/a/b/x"}, Path("/a/b")) == content_hash({"file": "/c/x"}, Path("/c"))


def test_targets_are_the_tasks_that_are_not_source_only(plan):
    assert list(plan.tasks) == ["depth_z", "normals", "colorization"] and plan.targets == ["depth_z", "normals"]


def test_networks_train_on_training_and_transfers_on_validation_buildings(plan):
    data = {"gold": plan.task_specific("normals"), "scratch": plan.scratch("normals")}
    split = {name: spec.config["data"]["init_args"] for name, spec in data.items()}
    assert (split["gold"]["fit_split"], split["gold"]["fit_size"]) == ("train", None)
    assert (split["scratch"]["fit_split"], split["scratch"]["fit_size"]) == ("validation", 6)
    labels = plan.transfer("normals", ["depth_z"]).config["data"]["init_args"]["labels"]
    assert labels == data["scratch"].config["data"]


def test_a_random_encoder_is_never_trained(plan):
    assert plan.random_encoder.config["trainer"]["max_epochs"] == 0
    assert plan.random_encoder.config["model"]["init_args"]["backbone"]["class_path"].endswith("GaussianBackbone")


def test_representations_are_shared_by_all_transfers_of_a_source(plan):
    folders = plan.transfer("normals", ["depth_z", "colorization"]).config["model"]["init_args"]["sources"]
    assert folders[0] == plan.transfer("depth_z", ["depth_z"]).config["model"]["init_args"]["sources"][0]
    assert len(set(folders)) == 2


@pytest.mark.parametrize(
    ("changes", "networks", "transfers"),
    [
        ({"transfer_width": 99}, False, True),
        ({"transfer_epochs": 99}, False, True),
        ({"transfer_size": 2}, False, True),
        ({"epochs": 99}, True, True),
        ({"seed": 9}, True, True),
        ({"max_order": 2}, False, False),
        ({"test_images": 3}, True, True),
    ],
)
def test_a_setting_changes_the_runs_that_it_concerns(plan, changes, networks, transfers):
    other = plan.but(**changes)
    assert (plan.task_specific("normals").folder != other.task_specific("normals").folder) == networks
    pair = [p.transfer("normals", ["depth_z"]).folder for p in (plan, other)]
    assert (pair[0] != pair[1]) == transfers


def test_heads_behind_a_readout_are_found_by_task_then_kind_then_as_those_of_networks(plan):
    def head(layers):
        return {"class_path": "DenseHead", "init_args": {"layers": layers}}

    def heads(plan):
        return [plan.transfer(t, ["colorization"]).config["model"]["init_args"].get("head") for t in plan.targets]

    deep = plan.but(heads={"dense": head(9), "normals": head(8)})
    assert heads(plan) == [None, None] and heads(deep) == [head(9), head(8)]
    shallow = deep.but(transfer_heads={"dense": head(3), "depth_z": head(2)})
    assert heads(shallow) == [head(2), head(8)]
    assert [shallow.task_specific(t).folder for t in plan.tasks] == [deep.task_specific(t).folder for t in plan.tasks]


def test_a_variant_may_change_every_setting():
    assert set(Variant.__annotations__) == set(TaxonomySettings.__dataclass_fields__)


def test_an_unknown_setting_of_a_variant_is_one_line(plan):
    with pytest.raises(
        InputError, match="changes 'transfer_widt', which is not a setting; did you mean 'transfer_width'"
    ):
        plan.settings.but({"transfer_widt": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["normls", "depth_z"]}, "no task 'normls'"),
        ({"tasks": ["normals"]}, "a study needs two tasks"),
        ({"tasks": ["colorization", "jigsaw"]}, "one of them a target"),
        ({"max_order": 0}, "max_order is 0"),
        ({"budgets": [0]}, "budget 0: no taxonomy meets it"),
        ({"controls": [("depth_z", "normls")]}, "controls name 'normls'.*did you mean 'normals'"),
        ({"transitive": [("depth_z", "x", "normals")]}, "transitive name 'x'"),
        ({"variants": {"wide": {"wid": 3}}}, "which is not a setting"),
    ],
)
def test_a_study_is_checked_before_anything_runs(tiny_settings, changes, message):
    with pytest.raises(InputError, match=message):
        TaxonomyStudy(**{**tiny_settings, **changes})


def test_an_unknown_stage_is_one_line(tiny_settings, tmp_path):
    with pytest.raises(InputError, match="no stage 'analisis'; did you mean 'analysis'"):
        TaxonomyStudy(**tiny_settings).run(tmp_path, stages=["analisis"])
    assert list(tmp_path.iterdir()) == []


def test_halves_are_disjoint_seeded_and_whole():
    import numpy as np

    ids = np.arange(11)
    first, second = halves(ids, 0, same=False)
    assert not (first & second).any() and (first | second).all() and first.sum() == 6
    assert np.array_equal(halves(ids, 0, same=False)[0], first)
    assert not np.array_equal(halves(ids, 1, same=False)[0], first)
    assert all(part.all() for part in halves(ids, 0, same=True))


def test_shuffled_scores_change_hands_image_by_image():
    import numpy as np

    scores = {"t": {("t", "transfer", (s,)): np.random.default_rng(i).random(50) for i, s in enumerate("abc")}}
    mixed = shuffled(scores, 0)["t"]
    before, after = (np.sort(np.stack(list(part.values())), 0) for part in (scores["t"], mixed))
    assert np.array_equal(before, after)
    assert all(not np.array_equal(mixed[key], scores["t"][key]) for key in mixed)
