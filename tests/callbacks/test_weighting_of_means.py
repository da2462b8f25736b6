"""Weightings act on a module whose loss is the mean of its tasks' losses as on one whose loss is their sum."""

import pytest
import torch
import yaml

from lightning_taskonomy.callbacks import (
    CosineWeighting,
    GradientAggregation,
    GradNormWeighting,
    KendallWeighting,
    MGDAUpperBound,
    TaskMetaTransfer,
)
from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.modules import MultiTaskModule, StandardisedModule
from lightning_taskonomy.modules.standardised import standardised
from lightning_taskonomy.optim.aggregation import AGGREGATORS
from lightning_taskonomy.tasks import Task, TaskKind

TASKS = [
    Task("few", TaskKind.SEGMENTATION, "few", 3),
    Task("many", TaskKind.DENSE, "many"),
    Task("more", TaskKind.VECTOR, "more", 2),
]
STATISTICS = {"many": [0.5, 2.0], "more": [-1.0, 0.5]}


def still(params):
    return torch.optim.SGD(params, lr=0.0)


def batches(count=2):
    random = torch.Generator().manual_seed(2)
    return [
        {
            "image": torch.rand(2, 3, 32, 32, generator=random), "many": torch.randn(2, 1, 32, 32, generator=random),
            "few": torch.randint(3, (2, 32, 32), generator=random), "more": torch.randn(2, 2, generator=random),
        }
        for _ in range(count)
    ]  # fmt: skip


def trained(mean, callback, fit, **options):
    """The gradients of each step, of a network whose loss is the mean or the sum of the same losses."""
    torch.manual_seed(0)
    backbone, seen = TimmBackbone("test_resnet", pretrained=False, out_indices=(1, 2)), []
    if mean:
        module = StandardisedModule(list(TASKS), backbone, optimizer=still, statistics=STATISTICS)
    else:
        tasks = [task.but(weight=1.0) for task in standardised(TASKS, STATISTICS).values()]
        module = MultiTaskModule(tasks, backbone, optimizer=still)
    module.on_before_optimizer_step = lambda optimizer: seen.append(
        {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    )
    fit(module, [callback] if callback else [], batches(), limit_val_batches=0, **options)
    return seen


def assert_times(actual, factor, expected, in_backbone=None):
    for ours, others in zip(actual, expected, strict=True):
        assert ours.keys() == others.keys()
        for name, gradient in others.items():
            times = in_backbone if in_backbone is not None and name.startswith("backbone") else factor
            torch.testing.assert_close(ours[name], times * gradient, rtol=2e-3, atol=1e-6)


MAKERS = {
    "none": lambda: None,
    "pcgrad": lambda **options: GradientAggregation("pcgrad", **options),
    "mgda": lambda **options: GradientAggregation("mgda", **options),
    "imtl_g": lambda **options: GradientAggregation("imtl_g", **options),
    "aligned_mtl": lambda **options: GradientAggregation("aligned_mtl", **options),
    "cosine": lambda: CosineWeighting("few", ["many", "more"]),
    "mgda_ub": MGDAUpperBound,
    "mgda_ub, normalised": lambda: MGDAUpperBound(normalisation="loss+"),
    "kendall": lambda: KendallWeighting("few", ["many", "more"]),
    "grad_norm": GradNormWeighting,  # Adam: its steps do not depend on the slopes' scale
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_gradient_is_that_of_the_sum_divided_by_the_tasks(name, fit):
    if name in AGGREGATORS:
        pytest.importorskip("torchjd")
    callbacks = MAKERS[name](), MAKERS[name]()
    assert_times(trained(True, callbacks[0], fit), 1 / 3, trained(False, callbacks[1], fit))
    if hasattr(callbacks[0], "weights"):
        assert callbacks[0].weights == pytest.approx(callbacks[1].weights, rel=1e-3)


@pytest.mark.parametrize("name", ["mgda", "imtl_g", "aligned_mtl", "mgda_ub"])
def test_a_factor_gives_the_step_of_losses_that_were_not_divided(name, fit):
    if name in AGGREGATORS:
        pytest.importorskip("torchjd")
    mean, plain = trained(True, MAKERS[name](factor=3.0), fit), trained(False, MAKERS[name](), fit)
    assert_times(mean, 1 / 3, plain, in_backbone=1.0)


def test_the_meta_step_finds_the_losses_of_training_step(fit, caplog):
    """It takes each task's loss again, and says so if they do not add up to that of ``training_step``."""
    trained(True, TaskMetaTransfer("few", ["many", "more"]), fit)
    assert "tasks' losses add up to" not in caplog.text


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [GradientAggregation, MGDAUpperBound])
def test_a_factor_that_is_none(kind, factor):
    with pytest.raises(InputError, match="give a number above 0"):
        kind(factor=factor)


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MGDAUpperBound", {"factor": 2, "normalisation": "loss+"}),
        ("GradNormWeighting", {"alpha": 0.12, "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1}}}),
    ],
)
def test_a_recipe_names_them(name, options, tmp_path, tiny_fit):
    recipe = tiny_fit("depth_z", "normals", statistics={"depth_z": [3.0, 1.0]})
    recipe["model"]["class_path"] = "StandardisedModule"
    recipe["trainer"]["callbacks"] = [{"class_path": name, "init_args": options}]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["fit", "--config", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]) == 0
    callbacks = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["trainer"]["callbacks"]
    (saved,) = [entry["init_args"] for entry in callbacks if entry["class_path"].endswith(name)]
    assert all(saved[key] == value for key, value in options.items() if key != "optimizer")
    assert (tmp_path / "run" / "metrics.json").is_file()
