"""One protocol for all data sets of a study of chains, and first links without labels or from a file of timm's."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from lightning_taskonomy.data.normalisation import measure_colours
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.sources import load_backbone
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.influence import InfluenceStudy
from lightning_taskonomy.training import execute, instantiate_data

NUMBERS = {"mean": [0.4, 0.5, 0.6], "deviation": [0.2, 0.2, 0.3]}
TIMM = {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet"}}


@pytest.fixture
def settings(rooms):
    """A data set with a task and its images alone, a first link of images alone."""
    training = {"steps": 2, "small_steps": 1, "rates": [0.01], "batch_size": 2}
    alone = {"self_supervised": "SimCLRModule"}
    other = {**rooms, "init_args": {**rooms["init_args"], "train_buildings": 3}}
    light = {"class_path": "lightning_taskonomy.models.heads.DenseHead", "init_args": {"layers": 2, "width": 8}}
    return {
        "sets": {
            "a": {"data": rooms, "tasks": {"depth": "depth_z", **alone}, "domain": "near"},
            "b": {"data": other, "tasks": {"depth": "depth_z"}, "domain": "far"},
        },
        "first": {"data": rooms, "tasks": alone, "domain": "near"},
        "backbone": TIMM,
        "heads": {"dense": light},
        "training": {"depth": training, "self_supervised": training},
        "targets": ["b/depth"],
        "scratch": False,
        "small": 4,
        "validation_share": 0.3,
        "features": 3,
        "trainer": {"accelerator": "cpu"},
        "checkpoint_seconds": 0,
    }


def test_chains_begin_and_go_on_without_labels(settings, tmp_path):
    """First link, source of the same kind, target; the images of each data set normalised by its own colours."""
    study, out = InfluenceStudy(**settings), tmp_path / "study"
    study.run(out, execution=LocalExecutor(workers=0))
    assert json.loads((out / "failures.json").read_text()) == []
    plan = study.plan(out)
    pairs = {(chain.target, chain.source) for chain in plan.chains()}
    assert pairs == {("b/depth", name) for name in ("imagenet", "a/depth", "a/self_supervised")}
    (first,), source = plan.firsts().values(), plan.source_run("a/self_supervised", "full")
    assert first.config["model"]["class_path"] == source.config["model"]["class_path"] == "SimCLRModule"
    assert "weights" not in first.config and source.config["weights"] == str(first.folder)
    chain = next(one for one in plan.chains() if one.source == "a/self_supervised")
    assert plan.kept(chain).config["weights"] == str(source.folder) and plan.kept(chain).is_done
    for run, name in ((first, "imagenet"), (source, "a"), (plan.kept(chain), "b")):
        (colours,) = out.glob(f"data/colours-{name}-*/colours.json")
        assert run.config["data"]["init_args"]["normalise"] == str(colours)
        assert (load_backbone(run.folder).mean == 0).all()
    images = settings["sets"]["b"]["data"]
    measured = measure_colours(instantiate_data(images))
    (colours,) = out.glob("data/colours-b-*/colours.json")
    assert json.loads(colours.read_text()) == {"mean": list(measured.mean), "deviation": list(measured.deviation)}
    before = {file: file.stat().st_mtime_ns for file in out.glob("data/*/*.json")}
    study.run(out, execution=LocalExecutor(workers=0))
    assert {file: file.stat().st_mtime_ns for file in out.glob("data/*/*.json")} == before


def test_the_best_self_supervised_source_has_the_lowest_loss(settings, tmp_path):
    training = {**settings["training"], "self_supervised": {"steps": 2, "small_steps": 1, "rates": [0.1, 0.01, 0.001]}}
    plan = InfluenceStudy(**{**settings, "training": training}).plan(tmp_path)
    runs = plan.firsts()
    for run, loss in zip(runs.values(), (2.0, 1.0, 3.0), strict=True):
        run.folder.mkdir(parents=True)
        run.done.write_text(json.dumps({"val/loss": loss}))
    assert plan.start("imagenet", "small") == runs[0.01]


def test_what_a_recipe_says_of_colours_stands(settings, tmp_path):
    with_numbers = {**settings["sets"]["b"]["data"]}
    with_numbers["init_args"] = {**with_numbers["init_args"], "normalise": NUMBERS}
    sets = {**settings["sets"], "b": {**settings["sets"]["b"], "data": with_numbers}}
    plan = InfluenceStudy(**{**settings, "sets": sets}).plan(tmp_path)
    assert sorted(job.name for job in plan.prepared() if job.kind == "colours") == ["a", "imagenet"]
    (run,) = plan.chain_runs(plan.chains()[0]).values()
    assert run.config["data"]["init_args"]["normalise"] == NUMBERS
    assert run.config["model"]["init_args"]["backbone"]["init_args"]["normalises"] is False
    plain = InfluenceStudy(**settings, normalise=False).plan(tmp_path)
    assert not any(job.kind == "colours" for job in plain.prepared())
    (run,) = plain.chain_runs(plain.chains()[0]).values()
    assert "normalise" not in run.config["data"]["init_args"]
    assert "normalises" not in run.config["model"]["init_args"]["backbone"]["init_args"]


def test_no_fit_waits_for_less_than_its_colours_and_no_seed_measures_again(settings, tmp_path):
    study = InfluenceStudy(**settings, seeds=[1])
    plan, other = study.plans(tmp_path)
    colours = {job.done[0] for job in plan.prepared() if job.kind == "colours"}
    assert len(colours) == 3 and {job.done[0] for job in other.prepared() if job.kind == "colours"} == colours
    assert all(colours <= {*job.needs} for job in (*plan.first_jobs(), *plan.source_jobs(), *other.chain_jobs()))


def test_any_checkpoint_of_timm_is_a_first_link(settings, tmp_path):
    torch.manual_seed(3)
    theirs = timm.create_model("test_resnet")
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    backbone = {**TIMM, "init_args": {**TIMM["init_args"], "weights": str(tmp_path / "theirs.safetensors")}}
    plan = InfluenceStudy(**{**settings, "first": None, "backbone": backbone}, normalise=False).plan(tmp_path)
    assert plan.first_jobs() == []
    chain = next(one for one in plan.chains() if one.source == "imagenet")
    (run,) = plan.chain_runs(chain).values()
    (source,) = plan.source_runs("a/depth", "full").values()
    assert "weights" not in run.config and "weights" not in source.config
    for link in (run, source):
        untrained = {**link.config, "trainer": {**link.config["trainer"], "max_steps": 0}}
        execute(untrained, link.folder, test=False)
        started = load_backbone(link.folder).model.state_dict()
        assert started and all(torch.equal(value, theirs.state_dict()[name]) for name, value in started.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["a/self_supervised"]}, "learns from images alone; it can be a source only"),
        ({"multi_source": {"m": ["a/self_supervised", "b/self_supervised"]}}, "multi_source 'm' is self-supervised"),
    ],
)
def test_what_has_no_labels_is_no_target(settings, changes, message):
    settings["sets"]["b"] = {**settings["sets"]["b"], "tasks": settings["sets"]["a"]["tasks"]}
    with pytest.raises(InputError, match=message):
        InfluenceStudy(**{**settings, **changes})
    alone = {"self_supervised": "SimCLRModule"}
    sets = {name: {**one, "tasks": alone} for name, one in settings["sets"].items()}
    with pytest.raises(InputError, match="its tasks are all self-supervised"):
        InfluenceStudy(**{**settings, "sets": sets, "targets": None})
