"""Which chains a study trains, from what, and how learning rates are selected. Nothing is trained here."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lightning_taskonomy.configurations import with_arguments
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.influence.words import small_images
from lightning_taskonomy.studies.influence import InfluenceStudy
from lightning_taskonomy.studies.influence.encoders import collections, feature_jobs, task_type_jobs
from lightning_taskonomy.studies.influence.tables import influence_tables
from lightning_taskonomy.training import instantiate_data

ROOMS = {"class_path": "lightning_taskonomy.data.RoomsDataModule", "init_args": {"size": 32}}
TRAINING = {"steps": 20, "small_steps": 10, "rates": [0.1, 0.01, 0.001]}
SETTINGS = {
    "sets": {
        "a": {"data": ROOMS, "tasks": {"segmentation": "semantic_segmentation", "depth": "depth_z"}, "domain": "near"},
        "b": {"data": ROOMS, "tasks": {"segmentation": "semantic_segmentation"}, "domain": "near"},
        "c": {"data": ROOMS, "tasks": {"segmentation": "semantic_segmentation"}, "domain": "far", "small": 40},
    },
    "backbone": {
        "class_path": "lightning_taskonomy.models.backbones.TimmBackbone",
        "init_args": {"name": "test_resnet", "pretrained": True},
    },
    "training": {"segmentation": TRAINING, "depth": {**TRAINING, "rates": [0.01]}},
}
FIRST = {"data": ROOMS, "tasks": {"segmentation": "normals"}, "domain": "any"}


def plan_of(folder, **changes):
    return InfluenceStudy(**{**SETTINGS, **changes}).plan(folder)


def pretend(run, value, key="val/semantic_segmentation/miou"):
    run.folder.mkdir(parents=True, exist_ok=True)
    run.done.write_text(json.dumps({key: value}))


def test_all_chains_of_the_small_setting(tmp_path):
    plan = plan_of(tmp_path)
    names = ["a/segmentation", "a/depth", "b/segmentation", "c/segmentation"]
    pairs = {(chain.target, chain.source) for chain in plan.chains()}
    expected = {(t, s) for t in names for s in (*names, "imagenet", "scratch") if s != t}
    assert pairs == expected and len(plan.chains()) == len(expected)


def test_the_images_that_are_prepared_are_those_that_are_trained_on_and_tested(tmp_path):
    """Not those of the usual names, so that a split that is not there is refused before anything is trained."""
    other = {**ROOMS, "init_args": {"size": 32, "fit_split": "validation", "test_split": "train"}}
    plan = plan_of(tmp_path, sets={**SETTINGS["sets"], "b": {**SETTINGS["sets"]["b"], "data": other}})
    prepared = [job for job in plan.prepared() if job.kind == "prepare"]
    splits = {job.name: job.arguments["split"] for job in prepared}
    usual = {f"{name} {split}": split for name in ("a", "c") for split in ("train", "test")}
    assert splits == {**usual, "b validation": "validation", "b train": "train"}
    (trained,) = [job for job in prepared if job.name == "b validation"]
    assert plan.prepared_images(plan.tasks["b/segmentation"]) == trained.done[0]


def test_the_data_of_what_is_neither_target_nor_source_are_not_needed(tmp_path):
    two = {"targets": ["a/segmentation"], "sources": ["b/segmentation"]}
    plan = plan_of(tmp_path, **two)
    assert {job.name.split()[0] for job in plan.prepared()} == {"a", "b"}
    assert all("depth_z" not in job.arguments.get("keys", ()) for job in plan.prepared())
    assert list(collections(plan)) == ["a", "b"]
    assert set(plan_of(tmp_path, **two, multi_source={"both": ["b/segmentation", "c/segmentation"]}).colours) == set(
        "abc"
    )
    assert set(plan_of(tmp_path, targets=["a/segmentation"]).colours) == set("abc")


def test_metrics_that_lack_what_counts_are_one_line(tmp_path):
    plan = plan_of(tmp_path)
    task = plan.tasks["b/segmentation"]
    runs = plan.source_runs(task.name, "small")
    pretend(next(iter(runs.values())), 0.5, key="val/other")
    with pytest.raises(InputError, match=r"metrics.json has no 'val/semantic_segmentation/miou'; remove its folder"):
        plan.selected(runs, task)


def test_a_model_of_several_sources_is_not_judged_on_what_it_has_seen(tmp_path):
    several = {"near": ["a/segmentation", "b/segmentation"]}
    plan = plan_of(tmp_path, multi_source=several, settings=["small", "full", "small_source"])
    seen = {(chain.target, chain.setting) for chain in plan.chains() if chain.source == "near"}
    assert seen == {(target, setting) for target in ("a/depth", "c/segmentation") for setting in ("small", "full")}
    # the targets of small sources are those of the small setting: nothing is trained from the first link twice
    assert not any(chain.source == "imagenet" for chain in plan.chains() if chain.setting == "small_source")


def test_a_small_target_is_trained_on_as_many_images_as_it_says_and_others_select_its_rate(tmp_path):
    plan = plan_of(tmp_path, small=90, validation_share=0.1)
    for target, size, kept in (("b/segmentation", 90, 10), ("c/segmentation", 40, 4)):
        chain = next(one for one in plan.chains() if one.target == target)
        (data,) = {
            json.dumps(run.config["data"]["init_args"], sort_keys=True) for run in plan.chain_runs(chain).values()
        }
        options = json.loads(data)
        assert options["fit_size"] == size + kept
        assert round(options["fit_size"] * options["validation_share"]) == kept


def test_the_backbone_comes_from_the_source_and_the_head_is_fresh(tmp_path):
    plan = plan_of(tmp_path)
    by_source = {chain.source: chain for chain in plan.chains() if chain.target == "b/segmentation"}
    chained = next(iter(plan.chain_runs(by_source["a/depth"]).values())).config
    (source,) = plan.source_runs("a/depth", "small").values()
    assert (chained["weights"], chained["weights_of"]) == (str(source.folder), "backbone.")
    assert "pretrained" not in chained["model"]["init_args"]["backbone"]["init_args"]
    first = next(iter(plan.chain_runs(by_source["imagenet"]).values())).config
    assert "weights" not in first and first["model"]["init_args"]["backbone"]["init_args"]["pretrained"]
    scratch = next(iter(plan.chain_runs(by_source["scratch"]).values())).config
    assert "weights" not in scratch and "pretrained" not in scratch["model"]["init_args"]["backbone"]["init_args"]
    assert source.config["model"]["init_args"]["backbone"]["init_args"]["pretrained"]  # the source is a second link


def test_a_first_link_that_is_trained_here_is_under_all_chains_but_those_from_scratch(tmp_path):
    plan = plan_of(tmp_path, first=FIRST)
    links = plan.firsts()
    for run, value in zip(links.values(), (30.0, 10.0, 20.0), strict=True):
        pretend(run, value, "val/normals/mean_angle")  # an error: the lowest is the best
    first = links[0.01]
    for chain in plan.chains():
        config = next(iter(plan.chain_runs(chain).values())).config
        if chain.source == "imagenet":
            assert config["weights"] == str(first.folder)
        elif chain.source == "scratch":
            assert "weights" not in config
        else:
            assert plan.start(chain.source, "small").config["weights"] == str(first.folder)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_rate_that_is_best_on_validation_images_is_kept(tmp_path, best):
    plan = plan_of(tmp_path)
    chain = plan.chains()[0]
    runs = list(plan.chain_runs(chain).values())
    for place, run in enumerate(runs):
        pretend(run, 0.5 if place == best else 0.1 * place)
    assert plan.kept(chain) == runs[best]
    other = plan.seeded(7)
    (again,) = other.chain_runs(chain).values()
    rate = [run.config["model"]["init_args"]["optimizer"]["init_args"]["lr"] for run in (again, runs[best])]
    assert rate[0] == rate[1] and again.config["seed_everything"] == 7
    assert again.config["data"]["init_args"]["seed"] == 7


def test_rates_fall_as_the_paper_has_it(tmp_path):
    """Step decay by ten; poly with power 0.9 (appendix A.2)."""
    import torch
    from torch.optim.lr_scheduler import MultiStepLR, PolynomialLR

    poly = {"segmentation": {**TRAINING, "decay": "poly"}, "depth": TRAINING}
    for training, expected in (
        (poly, lambda step: (1 - step / 10) ** 0.9),
        (None, lambda step: 0.1 ** ((step >= 7) + (step >= 9))),
    ):
        plan = plan_of(tmp_path, **({"training": training} if training else {}))
        chain = next(one for one in plan.chains() if one.target == "b/segmentation")
        spec = next(iter(plan.chain_runs(chain).values())).config["model"]["init_args"]["scheduler"]
        kind = {"MultiStepLR": MultiStepLR, "PolynomialLR": PolynomialLR}[spec["class_path"].rsplit(".", 1)[1]]
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
        scheduler, rates = kind(optimizer, **spec["init_args"]), []
        for _ in range(10):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert rates == pytest.approx([expected(step) for step in range(10)])
        assert all(later <= earlier for earlier, later in pairwise(rates))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"heads": {"dense": {"class_path": "DenseHead", "init_args": {"layers": 1}}}},
            "task 'a/depth': .*at least 2 layers",
        ),
        ({"trainer": {"max_epoch": 3}}, "task '.*': .*max_epoch"),
        ({"targets": ["a/segmentaton"]}, "targets names 'a/segmentaton'.*did you mean 'a/segmentation'"),
        ({"multi_source": {"m": ["a/segmentation", "a/depth"]}}, "multi_source 'm'.*of one type"),
        ({"multi_source": {"imagenet": ["a/segmentation", "b/segmentation"]}}, "name of another source"),
        ({"training": {"segmentation": TRAINING}}, "training says nothing of 'depth', a task type of 'a'"),
        ({"small": 0}, "small is 0, must be at least 1"),
        ({"validation_share": 0.0}, "validation_share is 0.0"),
        ({"settings": ["small", "small"]}, "settings are"),
        ({"sets": {"b": SETTINGS["sets"]["b"]}}, "needs two tasks"),
        ({"first": SETTINGS["sets"]["a"]}, "first has 2 tasks"),
        ({"seeds": [0]}, "seeds \\[0, 0\\] repeat"),
        ({"training": {**SETTINGS["training"], "depth": {**TRAINING, "rates": []}}}, "rates are \\[\\]"),
        ({"training": {**SETTINGS["training"], "depth": {**TRAINING, "metric": "mea"}}}, "no metric 'mea'.*mae"),
    ],
)
def test_settings_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        plan_of(tmp_path, **changes)


@pytest.mark.parametrize("owner_first", [True, False])
def test_the_set_that_owns_the_images_stands_for_those_that_share_them(tmp_path, owner_first):
    """One file of features a collection; distances and features.json are of it, wherever the owner is listed."""
    task = {"tasks": {"depth": "depth_z"}, "domain": "near"}
    owner = {"a": {"data": ROOMS, **task}}
    others = {
        name: {"data": {**ROOMS, "init_args": {"size": 32, "train_buildings": buildings}}, "images": images, **task}
        for name, buildings, images in (("x", 3, "a"), ("b", 4, None), ("y", 5, "a"), ("v", 6, "w"), ("w1", 7, "w"))
    }
    sets = {**owner, **others} if owner_first else {**others, **owner}
    plan = plan_of(tmp_path, sets=sets)
    for job in plan.prepared():
        job.done[0].parent.mkdir(parents=True, exist_ok=True)
        job.done[0].write_text(json.dumps({"images": 10}))
    for chain in plan.chains():
        folder = plan.kept(chain).folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.json").write_text(json.dumps({plan.tasks[chain.target].logged("test"): 0.5}))
    features = {}
    for place, job in enumerate(feature_jobs(plan, 6)):
        buildings = job.arguments["data"]["init_args"].get("train_buildings")
        features[buildings] = np.random.default_rng(place).normal(place, 1, (6, 3)).astype(np.float32)
        job.done[0].parent.mkdir(parents=True)
        np.savez(job.done[0], features=features[buildings], id=np.arange(6))
    assert features.keys() == {None, 4, 6}  # of a itself, of b, and of v, the first with images of w
    tables = dict(influence_tables([plan], 6))
    assert tables["features.json"]["files"].keys() == {"a", "b", "w"}
    header, rows = tables["distances.csv"]
    measured = {(row[0], row[1]): row[header.index("target_to_source")] for row in rows}
    by_name = {"a": features[None], "b": features[4], "w": features[6]}
    assert measured == {
        (one, other): pytest.approx(cdist(by_name[one], by_name[other]).min(1).mean(), rel=1e-5)
        for one in by_name for other in by_name if one != other
    }  # fmt: skip
    columns, factors = tables["factors.csv"]
    images = {row[0]: row[columns.index("images")] for row in factors}
    assert images["x/depth"] == images["y/depth"] == "a" and images["v/depth"] == "w"
    for file in (job.done[0], folder / "test.json"):  # damaged files are named
        file.write_bytes(b"PK")
        with pytest.raises(InputError, match=f"{file.name} cannot be read"):
            dict(influence_tables([plan], 6))


def test_the_images_of_several_task_types_are_those_of_their_owner(tmp_path):
    """Fig. 3b and c: a set that shares the images of another is pictured with it."""
    shares = {"data": {**ROOMS, "init_args": {"size": 32, "train_buildings": 3}}, "images": "a", "domain": "near"}
    sets = {"x": {**shares, "tasks": {"depth": "depth_z"}}, "a": {"data": ROOMS, "domain": "near",
            "tasks": {"segmentation": "semantic_segmentation"}}}  # fmt: skip
    jobs = task_type_jobs(plan_of(tmp_path, sets=sets))
    assert {job.name for job in jobs} == {"a/depth", "a/segmentation"}
    assert not any("train_buildings" in job.arguments["data"]["init_args"] for job in jobs)


def test_a_set_too_short_for_its_small_target_is_divided_as_the_report_says(tmp_path, rooms):
    data = {**rooms, "init_args": {**rooms["init_args"], "limit": None}}
    size = len(instantiate_data(data).dataset("train", keys=["image"]))
    sets = {name: {"data": data, "tasks": {"depth": "depth_z"}, "domain": "near"} for name in "ab"}
    for small in (size // 2, size - 1, size, 2 * size):
        plan = plan_of(tmp_path, sets=sets, small=small, validation_share=0.25)
        (run,) = plan.chain_runs(plan.chains()[0]).values()
        module = instantiate_data(with_arguments(run.config["data"], normalise=None))
        trained = module.dataset("train", keys=["image"], size=module.fit_size, part=module.fit_part)
        assert len(trained) == small_images(size, small, 0.25) <= small
