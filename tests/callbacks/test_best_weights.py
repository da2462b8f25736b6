"""The weights of the best validation."""

from types import SimpleNamespace

import torch
from torch import nn

from lightning_taskonomy.callbacks import BestWeights


def test_nan_is_no_score():
    callback, module = BestWeights("loss"), nn.Linear(1, 1)
    trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), sanity_checking=False)
    for score in (float("nan"), 3.0, 2.0, float("nan"), 4.0):
        trainer.callback_metrics = {"loss": torch.tensor(score)}
        nn.init.constant_(module.weight, score)
        callback.on_validation_end(trainer, module)
    callback.on_fit_end(trainer, module)
    assert callback.score == module.weight.item() == 2.0
