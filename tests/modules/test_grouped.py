"""The networks of a grouping as one module: each trained as if alone, each task answered by one, the rest dropped."""

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import GroupedModule, MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind
from lightning_taskonomy.training import execute, load_run

DEPTH = Task("depth", TaskKind.DENSE, "depth", shift=3.0, scale=2.0)
CLASSES = Task("classes", TaskKind.SEGMENTATION, "classes", 4)
LAYOUT = Task("layout", TaskKind.VECTOR, "layout", 5)
NOISY = Task("clean", TaskKind.DENSE, "image", 3, input="image_noisy")
GROUPS = [[DEPTH, CLASSES], [CLASSES, LAYOUT]]
SERVES = [["depth"], ["classes", "layout"]]


def networks(counting, groups=GROUPS):
    torch.manual_seed(0)
    return [MultiTaskModule(group, counting(4 + 2 * index)) for index, group in enumerate(groups)]


def sgd(params):
    return torch.optim.SGD(params, lr=0.05, momentum=0.9)


def fit(module, batches, tmp_path, **options):
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(module, loader, loader)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_each_network_ends_a_common_fit_as_it_ends_one_of_its_own(counting, batch_of, tmp_path):
    batches = [batch_of([DEPTH, CLASSES, LAYOUT], seed=seed) for seed in range(3)]
    together, alone = GroupedModule(networks(counting), SERVES, optimizer=sgd), networks(counting)
    logged = fit(together, batches, tmp_path)
    for index, (mine, other) in enumerate(zip(together.networks, alone, strict=True)):
        other.optimizer = sgd
        expected = fit(other, batches, tmp_path)
        for name, value in other.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, msg=lambda text, name=name: f"{name}: {text}")
        for split in ("train", "val"):
            assert logged[f"{split}/network_{index}/loss"] == pytest.approx(expected[f"{split}/loss"])
        for task in ("depth", "classes", "layout"):
            if f"val/{task}/loss" in expected:
                key = f"val/{task}/loss" if task in SERVES[index] else f"val/network_{index}/{task}/loss"
                assert logged[key] == pytest.approx(expected[f"val/{task}/loss"])
    for split in ("train", "val"):
        assert logged[f"{split}/loss"] == pytest.approx(sum(logged[f"{split}/network_{i}/loss"] for i in (0, 1)))


def test_each_task_is_answered_by_its_network_alone(counting, batch_of):
    parts = networks(counting)
    model, batch = GroupedModule(parts, SERVES).eval(), batch_of([DEPTH, CLASSES, LAYOUT])
    for part in parts:
        part.backbone.seen.clear()
    answers = model(batch)
    assert list(answers) == list(model.tasks) == ["depth", "classes", "layout"]
    assert [part.backbone.seen for part in parts] == [[4], [4]], "one pass per network"
    assert torch.equal(answers["depth"], parts[0](batch)["depth"])
    assert torch.equal(answers["classes"], parts[1](batch)["classes"])
    assert not torch.equal(answers["classes"], parts[0](batch)["classes"])
    for name, preds in model(batch["image"]).items():
        assert torch.equal(preds, answers[name]), "images alone are enough"
    assert list(model(batch, ["layout"])) == ["layout"] and parts[0].backbone.seen == [4, 4, 4, 4]
    predicted = model.predict_step({"image": batch["image"]}, 0)
    assert torch.equal(predicted["classes"], answers["classes"].argmax(1))
    scores = model.test_step(batch, 0)
    assert torch.equal(scores["classes"], parts[1].test_step(batch, 0)["classes"])
    assert list(scores) == ["id", "depth", "classes", "layout"]


def test_inputs_of_several_kinds_reach_their_networks(counting, batch_of):
    model, batch = (
        GroupedModule(networks(counting, [[DEPTH, NOISY], [CLASSES]])).eval(),
        batch_of([DEPTH, NOISY, CLASSES]),
    )
    assert model.batch_keys == ["classes", "depth", "image", "image_noisy"]
    assert list(model(batch)) == ["depth", "clean", "classes"]
    assert list(model(batch["image"])) == ["depth", "classes"]


def test_what_is_deployed_answers_the_same_with_less(counting, batch_of):
    model, batch = GroupedModule(networks(counting), SERVES), batch_of([DEPTH, CLASSES, LAYOUT])
    deployed = model.deployed()
    assert [list(network.heads) for network in deployed.networks] == SERVES
    assert [list(network.heads) for network in model.networks] == [["depth", "classes"], ["classes", "layout"]]
    assert not deployed.training and model.training
    answers = model.eval()(batch)
    assert deployed(batch).keys() == answers.keys()
    assert all(torch.equal(preds, answers[name]) for name, preds in deployed(batch).items())
    built = GroupedModule(networks(counting), SERVES, drop_unused=True)
    assert built.state_dict().keys() == deployed.state_dict().keys()
    assert deployed.test_step(batch, 0).keys() == {"id", *answers}


def test_without_a_word_the_first_network_that_has_a_task_answers_it(counting):
    assert GroupedModule(networks(counting)).serves == [["depth", "classes"], ["layout"]]


@pytest.mark.parametrize(
    ("serves", "message"),
    [
        ([["depth"]], "serves has 1 lists for 2 networks"),
        ([["depth"], ["layuot"]], "network 1 has no task 'layuot' to serve; did you mean 'layout'"),
        ([["classes"], ["classes"]], "serves names task 'classes' twice"),
        ([["depth", "classes"], []], r"network 1 \(classes, layout\) serves no task; leave it out"),
    ],
)
def test_what_cannot_be_served_is_refused(serves, message, counting):
    with pytest.raises(InputError, match=message):
        GroupedModule(networks(counting), serves)


def test_a_grouping_has_a_network():
    with pytest.raises(InputError, match="networks is empty"):
        GroupedModule([])


def test_a_task_that_nobody_serves_is_named(counting, batch_of):
    with pytest.raises(InputError, match="no network serves task 'dept'; did you mean 'depth'"):
        GroupedModule(networks(counting))(batch_of([DEPTH]), ["dept"])


@pytest.fixture
def grouped_fit(tiny_fit):
    """The configuration of a fit of two networks; the first learns normals for depth's sake."""
    config = tiny_fit("depth_z")
    del config["trainer"]["limit_val_batches"]
    parts = []
    for tasks in (["depth_z", "normals"], ["normals", "semantic_segmentation"]):
        init_args = {**config["model"]["init_args"], "tasks": tasks}
        parts.append({"class_path": "lightning_taskonomy.modules.MultiTaskModule", "init_args": init_args})
    serves = [["depth_z"], ["normals", "semantic_segmentation"]]
    config["model"] = {"class_path": "GroupedModule", "init_args": {"networks": parts, "serves": serves}}
    monitors = {f"networks.{index}.": f"val/network_{index}/loss" for index in (0, 1)}
    config["trainer"]["callbacks"] = [{"class_path": "BestWeights", "init_args": {"monitor": monitors}}]
    return config


@pytest.mark.recipe
def test_a_recipe_trains_tests_and_predicts(grouped_fit, tmp_path):
    recipe, out = tmp_path / "choice.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump({"out": str(out), **grouped_fit}))
    assert main(["fit", "--config", str(recipe)]) == 0
    assert main(["test", "--config", str(out / "config.yaml"), "--weights", str(out)]) == 0
    assert (out / "metrics.json").is_file() and (out / "scores.npz").is_file()
    model, _ = load_run(out)
    assert isinstance(model, GroupedModule) and model.serves == [["depth_z"], ["normals", "semantic_segmentation"]]


@pytest.mark.recipe
def test_finished_runs_are_put_together_without_training(tiny_fit, tmp_path, batch_of):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, tasks in zip(folders, (("depth_z", "normals"), ("normals",)), strict=True):
        execute(tiny_fit(*tasks), folder)
    model, parts = (
        GroupedModule.from_runs(folders, [["depth_z"], ["normals"]]),
        [load_run(f)[0].eval() for f in folders],
    )
    image = torch.rand(2, 3, 32, 32)
    answers = model(image)
    assert torch.equal(answers["depth_z"], parts[0]({"image": image})["depth_z"])
    assert torch.equal(answers["normals"], parts[1]({"image": image})["normals"])
    with pytest.raises(InputError, match="holds no finished run"):
        GroupedModule.from_runs([tmp_path / "c"])
