"""Affinities on two processes with halves of a batch are those of one process with all of it."""

import sys

import numpy as np
import pytest

from lightning_taskonomy.affinity.groupings import Affinities

SCRIPT = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from measured import batches, fit, images

halves = [images(batch, [2 * rank, 2 * rank + 1]) for batch in batches()]
fit(f"{folder}/two", halves, devices=2, strategy="ddp", plugins=[LightningEnvironment()],
    use_distributed_sampler=False)
"""
MADE = """
import torch
from lightning.pytorch import Trainer
from torch import nn
from lightning_taskonomy.callbacks import TaskAffinity
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

class Plain(Backbone):
    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 3, stride=2, padding=1))

    def features(self, image):
        return [self.layers(image).tanh()]

def batches():
    random, made = torch.Generator().manual_seed(0), []
    for _ in range(3):
        batch = {"image": torch.rand(4, 3, 8, 8, generator=random)}
        made.append({**batch, **{name: torch.randn(4, 2, generator=random) for name in ("few", "many")}})
    made[0]["many"][0, 1] = torch.nan  # three labels here, four there
    made[1]["few"][:] = torch.nan  # on neither process
    made[2]["many"][2:] = torch.nan  # all on the first process
    return made

def images(batch, rows):
    return {name: value[rows] for name, value in batch.items()}

def fit(folder, batches, **options):
    torch.manual_seed(0)
    tasks = [Task(task, TaskKind.VECTOR, task, 2) for task in ("few", "many")]
    module = MultiTaskModule(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, default_root_dir=folder,
        callbacks=[TaskAffinity(1)], **options)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_two_processes_measure_what_one_does(tmp_path, monkeypatch, two_processes):
    (tmp_path / "measured.py").write_text(MADE)
    two_processes(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    from measured import batches, fit

    fit(f"{tmp_path}/one", batches())
    one, two = (Affinities.read(tmp_path / name / "affinities.csv") for name in ("one", "two"))
    assert one.tasks == two.tasks == ("few", "many")
    for measure, matrix in one.values.items():
        assert np.isfinite(matrix).all()
        np.testing.assert_allclose(two.of(measure), matrix, rtol=2e-3, atol=1e-5)
    sys.modules.pop("measured", None)
