"""Standardised labels under L1, cross-entropy for classes, and the mean of the tasks' losses."""

import pytest
import torch
import torch.nn.functional as F

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.modules import StandardisedModule
from lightning_taskonomy.tasks import Task, TaskKind

DEPTH = Task("depth", TaskKind.DENSE, "depth", shift=3.0, scale=2.0)
NORMALS = Task("normals", TaskKind.NORMALS, "normals", 3)
CLASSES = Task("classes", TaskKind.SEGMENTATION, "classes", 4)
STATISTICS = {"depth": [2.5, 0.5], "normals": [0.1, 0.6]}


@pytest.fixture
def model(counting):
    torch.manual_seed(0)
    return StandardisedModule([DEPTH, NORMALS, CLASSES], counting(), statistics=STATISTICS)


def test_the_loss_is_the_mean_of_errors_of_standardised_labels(model, batch_of):
    batch = batch_of([DEPTH, NORMALS, CLASSES])
    losses, preds = model.losses(batch)
    expected = {"classes": F.cross_entropy(preds["classes"], batch["classes"])}
    for name, (mean, std) in STATISTICS.items():
        valid = batch[name].isfinite()
        expected[name] = ((preds[name] - mean) / std - (batch[name] - mean) / std)[valid].abs().mean()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    torch.testing.assert_close(model.combine(losses), torch.stack(list(expected.values())).mean())


def test_what_a_head_gives_is_in_units_of_the_deviation(model, batch_of):
    batch = batch_of([DEPTH, NORMALS, CLASSES])
    features = model.encode(batch, "image")
    raw = model.heads["depth"](features, tuple(batch["image"].shape[-2:]))
    torch.testing.assert_close(model(batch)["depth"], 2.5 + 0.5 * raw)


def test_the_parts_of_the_loss_that_callbacks_take_add_up_to_it(model, batch_of):
    batch = batch_of([DEPTH, NORMALS, CLASSES])
    parts = [model.head_loss(name, model.encode(batch, "image"), batch) for name in model.tasks]
    torch.testing.assert_close(torch.stack(parts).sum(), model.combine(model.losses(batch)[0]))


def test_the_validation_loss_is_the_mean_too(model, batch_of):
    batch = batch_of([DEPTH, NORMALS, CLASSES])
    for name, loss in model.losses(batch)[0].items():
        model.val_metrics.losses[name].update(loss.detach(), 1)
    values = {name: metric.compute() for name, metric in model.val_metrics.losses.items()}
    weighted = sum(model.tasks[name].weight * value for name, value in values.items())
    torch.testing.assert_close(weighted, torch.stack(list(values.values())).mean())


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        ({"dept": [0.0, 1.0]}, "not a task here; did you mean 'depth'"),
        ({"classes": [0.0, 1.0]}, "labels are not numbers"),
        ({"depth": [0.0, 0.0]}, "above 0"),
        ({"depth": [float("nan"), 1.0]}, "above 0"),
    ],
)
def test_statistics_that_are_none_are_refused(counting, statistics, words):
    with pytest.raises(InputError, match=words):
        StandardisedModule([DEPTH, CLASSES], counting(), statistics=statistics)
