"""Soft sharing's penalty and gradient by their formulas, and networks that are otherwise each its own."""

import copy
import itertools

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from lightning_taskonomy.callbacks import ResumeCheckpoint
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule, SoftSharingModule, StandardisedSoftSharingModule
from lightning_taskonomy.tasks import Task, TaskKind

TASKS = [
    Task("depth", TaskKind.DENSE, "depth"),
    Task("classes", TaskKind.SEGMENTATION, "classes", 4),
    Task("edges", TaskKind.DENSE, "edges"),
]


def sgd(params):
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


@pytest.fixture
def module_of(counting):
    def make(tasks=TASKS, kind=SoftSharingModule, **options):
        torch.manual_seed(0)
        module = kind(list(tasks), counting(), **{"optimizer": sgd, **options})
        torch.manual_seed(1)
        with torch.no_grad():  # apart
            for parameter in module.backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return module

    return make


def train(module, batches, callbacks=(), ckpt_path=None, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, limit_val_batches=0, log_every_n_steps=1,
                      callbacks=list(callbacks), **{**quiet, **options})  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=ckpt_path)
    return trainer


pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")


def test_the_distance_is_the_sum_over_pairs(module_of):
    module = module_of()
    vectors = [torch.cat([p.flatten() for p in network.parameters()]) for network in module.backbone.networks.values()]
    pairs = sum((a - b).square().sum() for a, b in itertools.combinations(vectors, 2))
    torch.testing.assert_close(module.backbone.distance(), pairs)


def test_the_gradient_pulls_each_network_to_the_mean(module_of, batch_of):
    module, plain, batch = module_of(strength=0.3), module_of(strength=0.0), batch_of(TASKS)
    losses = [one.training_losses(batch)[0] for one in (module, plain)]
    torch.testing.assert_close(losses[0] - losses[1], 0.3 * module.backbone.distance())
    for loss in losses:
        loss.backward()
    networks = module.backbone.networks
    means = [torch.stack(copies).mean(0) for copies in zip(*(n.parameters() for n in networks.values()), strict=True)]
    for name, network in networks.items():
        of_task = plain.backbone.networks[name].parameters()
        for ours, alone, mean in zip(network.parameters(), of_task, means, strict=True):
            torch.testing.assert_close(ours.grad, alone.grad + 2 * 0.3 * 3 * (ours - mean))
    for ours, alone in zip(module.heads.parameters(), plain.heads.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, alone.grad)


def test_all_networks_begin_with_the_weights_of_the_backbone(counting):
    backbone = counting()
    module = SoftSharingModule(list(TASKS), backbone)
    for network in module.backbone.networks.values():
        for name, value in backbone.state_dict().items():
            assert torch.equal(network.state_dict()[name], value)
    assert module.backbone.distance() == 0 and len(set(module.backbone.parameters())) == 3 * len(
        list(backbone.parameters())
    )


def test_without_a_penalty_each_network_is_that_of_its_task_alone(counting, batch_of):
    torch.manual_seed(0)
    backbone, batches = counting(), [batch_of(TASKS, seed=seed) for seed in range(3)]
    module = SoftSharingModule(list(TASKS), copy.deepcopy(backbone), strength=0.0, optimizer=sgd)
    heads = copy.deepcopy(module.heads)
    train(module, batches)
    for task in TASKS:
        alone = MultiTaskModule([task], copy.deepcopy(backbone), optimizer=sgd)
        alone.heads[task.name] = heads[task.name]
        train(alone, batches)
        for name, value in alone.backbone.state_dict().items():
            torch.testing.assert_close(module.backbone.networks[task.name].state_dict()[name], value)
        torch.testing.assert_close(module.heads[task.name].state_dict(), heads[task.name].state_dict())


@pytest.mark.slow
def test_a_penalty_holds_them_together(module_of, batch_of):
    distances = []
    for strength in (0.0, 0.1):
        module = module_of(strength=strength, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
        trainer = train(module, [batch_of(TASKS, seed=seed) for seed in range(20)])
        distances.append(float(module.backbone.distance().detach()))
    assert distances[1] < 0.3 * distances[0]
    assert trainer.callback_metrics["train/distance"] == pytest.approx(distances[1])


def test_a_task_is_predicted_by_its_network_alone(module_of, batch_of):
    module, batch = module_of().eval(), batch_of(TASKS)
    before = module(batch)
    with torch.no_grad():
        for parameter in module.backbone.networks["classes"].parameters():
            parameter.zero_()
    after = module(batch)
    assert torch.equal(before["depth"], after["depth"]) and torch.equal(before["edges"], after["edges"])
    assert not torch.equal(before["classes"], after["classes"])


def test_of_several_maps_and_views(batch_of, counting):
    pair = Task("pose", TaskKind.VECTOR, "pose", 6, input="pair_fixated")
    backbone = TimmBackbone("test_resnet", pretrained=False, out_indices=(1, 2))
    module = SoftSharingModule([TASKS[0], TASKS[1]], backbone)
    assert module.backbone.out_channels == 2 * backbone.out_channels
    features = module.encode(batch_of(TASKS, size=32), "image")
    expected = module.backbone.networks["classes"](batch_of(TASKS, size=32)["image"])
    for ours, alone in zip(module.backbone.maps_of("classes", features), expected, strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-3, atol=1e-4)
    module = SoftSharingModule([TASKS[0], pair], counting())
    assert module(batch_of([TASKS[0], pair]))["pose"].shape == (4, 6)


def test_a_task_without_labels(module_of, batch_of):
    module, batch = module_of(strength=0.2), batch_of(TASKS)
    batch["edges"] = torch.full_like(batch["edges"], torch.nan)
    module.training_losses(batch)[0].backward()
    assert all(parameter.grad is None for parameter in module.heads["edges"].parameters())
    networks = module.backbone.networks
    for copies in zip(*(network.parameters() for network in networks.values()), strict=True):
        unlabelled = copies[list(networks).index("edges")]
        mean = torch.stack(copies).mean(0)
        torch.testing.assert_close(unlabelled.grad, 2 * 0.2 * 3 * (unlabelled - mean))  # the penalty alone
    for task in TASKS:
        batch.pop(task.target, None)
    batch["depth"] = torch.full((4, 1, 16, 16), torch.nan)
    assert module.training_losses(batch) is None


def test_the_mean_of_standardised_losses(module_of, batch_of):
    statistics = {"depth": [0.5, 2.0], "edges": [0.1, 0.2]}
    module = module_of(kind=StandardisedSoftSharingModule, strength=0.1, statistics=statistics)
    batch = batch_of(TASKS)
    losses, preds = module.losses(batch)
    torch.testing.assert_close(losses["depth"], (preds["depth"] - batch["depth"]).abs().mean() / 2)
    expected = torch.stack(list(losses.values())).mean() + 0.1 * module.backbone.distance()
    loss, logged, _ = module.training_losses(batch)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logged, torch.stack(list(losses.values())).mean().detach())


def test_a_resumed_fit_ends_as_the_unbroken_one(counting, batch_of, tmp_path):
    def made():
        torch.manual_seed(0)
        return SoftSharingModule(list(TASKS), counting(), strength=0.1, optimizer=sgd)

    batches, unbroken = [batch_of(TASKS, seed=seed) for seed in range(3)], made()
    train(unbroken, batches, [ResumeCheckpoint(tmp_path / "unbroken", seconds=0)], max_epochs=2)
    saving = ResumeCheckpoint(tmp_path, seconds=0)
    train(made(), batches, [saving], max_epochs=1)
    resumed = made()
    train(resumed, batches, [ResumeCheckpoint(tmp_path, seconds=0)], str(saving.path), max_epochs=2)
    torch.testing.assert_close(resumed.state_dict(), unbroken.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none(counting, strength):
    with pytest.raises(InputError, match="give a number from 0 on"):
        SoftSharingModule(list(TASKS), counting(), strength)


@pytest.mark.recipe
def test_a_recipe_names_the_arguments_of_both(tmp_path, tiny_fit):
    recipe = tiny_fit("depth_z", "normals", strength=0.1, statistics={"depth_z": [3.0, 1.0]})
    recipe["model"]["class_path"] = "StandardisedSoftSharingModule"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = tmp_path / "run"
    assert main(["fit", "--config", str(tmp_path / "recipe.yaml"), "--out", str(run)]) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
    assert saved["strength"] == 0.1 and saved["statistics"] == {"depth_z": [3.0, 1.0]}
    assert (run / "weights.safetensors").is_file()
