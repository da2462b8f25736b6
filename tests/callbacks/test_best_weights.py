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
    assert callback.scores[""] == module.weight.item() == 2.0


def test_parts_that_share_no_weight_have_a_best_validation_each():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    callback = BestWeights({"0.": "first", "1.": "second", "2.": "third"}, mode="max")
    trainer = SimpleNamespace(state=SimpleNamespace(fn="fit"), sanity_checking=False)
    nan = float("nan")
    for step, scores in enumerate([(1.0, 5.0, nan), (3.0, 4.0, nan), (2.0, 1.0, nan)]):
        trainer.callback_metrics = dict(zip(("first", "second", "third"), map(torch.tensor, scores), strict=True))
        for part in module:
            nn.init.constant_(part.weight, float(step))
        callback.on_validation_end(trainer, module)
    callback.on_fit_end(trainer, module)
    assert [part.weight.item() for part in module] == [1.0, 0.0, 2.0], "the third, never measured, stays as it ended"
    assert callback.weights.keys() == module.state_dict().keys()
