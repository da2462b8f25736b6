"""Backbones that count their calls, and batches made up for any task."""

import pytest
import torch
from torch import nn

from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.tasks import VIEWS, TaskKind


class Counting(Backbone):
    """Two convolutions with batch normalisation; counts its calls and the images it saw."""

    def __init__(self, width=4):
        super().__init__()
        self.out_channels, self.reductions = [width], [2]
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.seen = []

    def features(self, image):
        self.seen.append(len(image))
        return [self.layers(image)]


def make_batch(tasks, size=16, count=4, seed=0):
    """Random inputs and labels of some tasks, all labelled."""
    random = torch.Generator().manual_seed(seed)
    batch = {"id": torch.arange(count)}
    for task in tasks:
        views = (VIEWS[task.input],) if task.input in VIEWS else ()
        if task.input not in batch:
            batch[task.input] = torch.rand(count, *views, 3, size, size, generator=random)
        if task.target in batch:
            continue
        shape = (count, *task.label.shape((size, size)))
        if task.is_classes:
            batch[task.target] = torch.randint(0, min(task.channels, 4), shape, generator=random)
        elif task.kind is TaskKind.NORMALS:
            batch[task.target] = nn.functional.normalize(torch.randn(shape, generator=random), dim=1)
        else:
            batch[task.target] = task.shift + task.scale * torch.randn(shape, generator=random)
    return batch


@pytest.fixture
def counting():
    return Counting


@pytest.fixture
def batch_of():
    return make_batch
