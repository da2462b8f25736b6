"""A kind's defaults, and what a task's dotted paths put in their place."""

import pytest
import torch
from torch import nn

from lightning_taskonomy.batch import has_label
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import Head
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind

VALUES = Task("sizes", TaskKind.VECTOR, "sizes", 3, scale=2.0)
MAP = Task("map", TaskKind.DENSE, "map")
OWN = """
import torch
from torch import nn
from lightning_taskonomy.models.heads import Head

def squared(preds, target):
    return (preds - target).square().nanmean()

def worst(preds, target):
    return (preds - target).abs().amax(1)

class Zero(Head):
    def __init__(self, in_channels, reductions, task):
        super().__init__(in_channels, reductions, task)
        self.layer = nn.Linear(1, task.channels)

    def forward(self, features, size):
        return self.layer(torch.zeros(len(features[0]), 1))
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """The name of a user's module, gone afterwards."""
    import sys

    (tmp_path / "own_objective_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_objective_parts"
    sys.modules.pop("own_objective_parts", None)


@pytest.mark.parametrize("kind", [kind for kind in TaskKind if kind is not TaskKind.SET])
def test_every_kind_has_an_objective_whose_head_fits(kind):
    task = Task("x", kind, "x", 3)
    assert isinstance(objective(task).head([8], [4], task), Head)


def test_a_regressions_loss_is_in_multiples_of_its_scale_and_its_score_in_units():
    preds, target = torch.zeros(2, 3), torch.full((2, 3), 4.0)
    result = objective(VALUES)
    assert result.errors(preds, target)[0].unique().tolist() == [2.0]
    assert result.score_errors(preds, target)[0].unique().tolist() == [4.0]


def test_normals_are_trained_on_cosines_and_scored_in_degrees():
    result = objective(Task("normals", TaskKind.NORMALS, "normals", 3))
    preds = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    target = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1)
    assert result.errors(preds, target)[0].item() == pytest.approx(1.0, abs=1e-6)
    assert result.score_errors(preds, target)[0].item() == pytest.approx(90.0, abs=1e-4)


def test_depth_in_metres_has_delta_accuracy_too():
    assert set(objective(MAP).metrics(MAP)) == {"mae"}
    depth = MAP.but(units="m")
    assert set(objective(depth).metrics(depth)) == {"mae", "rmse", "delta1"}


@pytest.mark.parametrize("missing", [float("nan"), IGNORE_INDEX])
def test_has_label(missing):
    target = torch.full((2, 4, 4), missing)
    assert not has_label(target)
    target[1, 0, 0] = 1
    assert has_label(target)


def test_every_part_is_replaced_by_dotted_path(user_module, counting, batch_of):
    task = VALUES.but(
        loss=f"{user_module}.squared",
        score=f"{user_module}.worst",
        head=f"{user_module}.Zero",
        metric="torchmetrics.MeanSquaredError",
    )
    module, batch = MultiTaskModule([task], counting()), batch_of([VALUES])
    assert type(module.heads["sizes"]).__name__ == "Zero"
    assert [type(metric).__name__ for metric in module.test_metrics.metrics["sizes"].values()] == ["MeanSquaredError"]
    preds = module(batch)["sizes"]
    losses, _ = module.losses(batch)
    torch.testing.assert_close(losses["sizes"], nn.functional.mse_loss(preds, batch["sizes"]))
    scores = module.eval().test_step(batch, 0)["sizes"]
    torch.testing.assert_close(scores, (preds - batch["sizes"]).abs().amax(1))


def test_a_users_score_is_nan_where_unlabelled(user_module, counting, batch_of):
    module, batch = MultiTaskModule([VALUES.but(score=f"{user_module}.worst")], counting()).eval(), batch_of([VALUES])
    batch["sizes"][1] = torch.nan
    assert module.test_step(batch, 0)["sizes"].isnan().tolist() == [False, True, False, False]


def test_a_users_loss_that_is_not_a_number_stops_the_run(user_module, counting, batch_of):
    module, batch = MultiTaskModule([VALUES.but(loss=f"{user_module}.squared")], counting()), batch_of([VALUES])
    with torch.no_grad():
        next(module.heads.parameters()).fill_(torch.nan)
    module.require_finite(module.losses(batch)[0])
    with pytest.raises(InputError, match="the loss of sizes is NaN"):
        module.on_save_checkpoint({})


def test_a_metric_of_classes_gets_their_number_and_what_is_missing():
    task = Task("scene", TaskKind.CLASSIFICATION, "scene", 5, metric="torchmetrics.classification.MulticlassF1Score")
    (metric,) = objective(task).metrics(task).values()
    assert (metric.num_classes, metric.ignore_index) == (5, IGNORE_INDEX)


@pytest.mark.parametrize("role", ["loss", "score", "head", "metric"])
@pytest.mark.parametrize("path", ["no_such_module.x", "torch.no_such_name", "nothing"])
def test_a_path_that_leads_nowhere_is_one_line(role, path):
    with pytest.raises(InputError, match=f"task 'sizes': its {role} '{path}' cannot be imported"):
        objective(VALUES.but(**{role: path}))
