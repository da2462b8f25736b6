"""A user's multi-headed module for the callbacks that act on the bifurcation, and a trainer that does nothing else."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn import functional


class TwoHeaded(LightningModule):
    """Backbone and two heads; keeps count of its training steps and the gradients that its optimizer saw."""

    def __init__(self, norm=True, dropout=0.0, lr=0.05, **options):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(dropout),
            nn.Conv2d(5, 4, 3),
        )  # fmt: skip
        self.heads = nn.ModuleDict({name: self.head(norm) for name in ("few", "many")})
        self.lr, self.options = lr, options
        self.steps, self.states, self.seen = 0, [], []

    @staticmethod
    def head(norm):
        return nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.Conv2d(3, 1, 1))

    def task_loss(self, name, predictions, batch):
        return functional.mse_loss(predictions, batch[name])

    def training_step(self, batch, batch_idx):
        self.steps += 1
        self.states.append(torch.get_rng_state())
        features = self.backbone(batch["image"])
        losses = [self.task_loss(name, self.heads[name](features), batch) for name in self.heads if name in batch]
        return torch.stack(losses).sum()

    def on_before_optimizer_step(self, optimizer):
        self.seen.append({name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr, **self.options)


def make_batches(pattern, count=2, dtype=torch.float32):
    """A batch per letter: m has both labels, a the auxiliary one alone."""
    random = torch.Generator().manual_seed(1)
    batches = []
    for letter in pattern:
        batch = {"image": torch.randn(count, 3, 8, 8, generator=random, dtype=dtype)}
        batch["many"] = torch.randn(count, 1, 4, 4, generator=random, dtype=dtype)
        few = torch.randn(count, 1, 4, 4, generator=random, dtype=dtype)
        batches.append({**batch, "few": few} if letter == "m" else batch)
    return batches


def run(module, callbacks, batches, ckpt_path=None, **options):
    """Fits; the batches are the loader."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1,
             "log_every_n_steps": 1}  # fmt: skip
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, callbacks=callbacks, **{**quiet, **options})
    loader = batches if not isinstance(batches, list) else torch.utils.data.DataLoader(batches, batch_size=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to infer the `batch_size`|You defined a `validation_step` but")
        trainer.fit(module, loader, ckpt_path=ckpt_path)
    return trainer


JOIN = """
import sys
import torch

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, folder)
torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
"""


def in_two_processes(folder, script, seconds=240):
    """Runs a script that knows ``folder`` and ``rank`` and has joined a gloo group; leaves no process behind."""
    (folder / "two.py").write_text(JOIN + script)
    shared = {"PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "", "NODE_RANK": "0",
              "WORLD_SIZE": "2"}  # fmt: skip
    processes, deadline = [], time.monotonic() + seconds
    try:
        for rank in range(2):
            with (folder / f"output{rank}.txt").open("w") as output:
                processes.append(subprocess.Popen(
                    [sys.executable, str(folder / "two.py"), str(folder), str(rank)], cwd=folder,
                    env={**os.environ, **shared, "LOCAL_RANK": str(rank)}, stdout=output, stderr=output,
                ))  # fmt: skip
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            assert time.monotonic() < deadline, "hangs"
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "".join((folder / f"output{rank}.txt").read_text()[-3000:] for rank in range(2))


@pytest.fixture
def two_processes(tmp_path):
    return lambda script: in_two_processes(tmp_path, script)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def two_headed():
    return TwoHeaded


@pytest.fixture
def batches_of():
    return make_batches


@pytest.fixture
def fit():
    return run
