"""Weightings on two processes with halves of a batch take the steps of one process with all of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank = sys.argv[1], int(sys.argv[2])
    sys.path.insert(0, folder)
    from weighted import NAMES, fit
    options = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()],
               "use_distributed_sampler": False, "default_root_dir": folder}
    torch.save({name: fit(name, rank, **options) for name in NAMES}, f"{folder}/seen{rank}.pt")
"""
MADE = """
import importlib.util
import torch
from lightning.pytorch import Trainer
from torch import nn
from lightning_taskonomy.callbacks import CosineWeighting, GradientAggregation, KendallWeighting
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

NAMES = {
    "kendall": lambda: KendallWeighting("few", ["many"], optimizer=lambda params: torch.optim.SGD(params, lr=0.5)),
    "cosine": lambda: CosineWeighting("few", ["many"], between="last"),
}
if importlib.util.find_spec("torchjd"):
    NAMES["mgda"] = lambda: GradientAggregation("mgda")

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
    made[1]["few"][:] = torch.nan  # an auxiliary batch
    made[1]["many"][2:] = torch.nan  # whose labels are all on the first process
    return made

def fit(name, rank=None, **options):
    torch.manual_seed(0)
    tasks = [Task(task, TaskKind.VECTOR, task, 2) for task in ("few", "many")]
    module, seen = MultiTaskModule(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1)), []
    module.on_before_optimizer_step = lambda optimizer: seen.append(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    own = NAMES[name]()
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[own], **options)
    part = slice(None) if rank is None else slice(2 * rank, 2 * rank + 2)
    given = [{key: value[part] for key, value in batch.items()} for batch in batches()]
    trainer.fit(module, torch.utils.data.DataLoader(given, batch_size=None))
    return seen, own.state_dict().get("log_variances", torch.zeros(0))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch):
    (tmp_path / "two.py").write_text(SCRIPT)
    (tmp_path / "weighted.py").write_text(MADE)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    both = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "two.py"), str(tmp_path), str(rank)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "",
                 "LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                 "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in both:
        told, _ = process.communicate(timeout=240)
        assert process.returncode == 0, told[-3000:]
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from weighted import NAMES, fit

    for rank in range(2):
        every = torch.load(tmp_path / f"seen{rank}.pt", weights_only=True)
        for name in NAMES:
            (ours, variances), (alone, expected) = every[name], fit(name)
            torch.testing.assert_close(variances, expected)
            assert len(ours) == len(alone) == 3
            for found, steps in zip(ours, alone, strict=True):
                assert found.keys() == steps.keys()
                for key, value in steps.items():
                    torch.testing.assert_close(found[key], value, rtol=2e-3, atol=1e-5)
    sys.modules.pop("weighted", None)
