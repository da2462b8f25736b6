"""Meta and auxiliary steps of two processes on halves of a batch are those of one process on all of it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.func import functional_call

SCRIPT = """
import sys
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank, batches = sys.argv[1], int(sys.argv[2]), torch.load(f"{sys.argv[1]}/batches.pt", weights_only=True)
    sys.path.insert(0, folder)
    from made_for_both import fit
    halves = [{name: value[2 * rank : 2 * rank + 2] for name, value in batch.items()} for batch in batches]
    options = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()],
               "use_distributed_sampler": False, "default_root_dir": folder}
    seen = {
        "masked": fit(True, halves, **options),
        "accumulated": fit(True, [{n: v[i : i + 1] for n, v in halves[0].items()} for i in (0, 1)],
                           accumulate_grad_batches=2, **options),
        "normalized": fit(False, halves[:1], **options),
    }
    torch.save(seen, f"{folder}/seen{rank}.pt")
"""
MADE = """
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

ALPHA = 0.3

class Plain(Backbone):
    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 3, stride=2, padding=1))

    def features(self, image):
        return [self.layers(image).tanh()]

class Normalized(LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.Conv2d(5, 4, 3))
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)) for name in ("few", "many")})

    def task_loss(self, name, predictions, batch):
        return (predictions - batch[name].nan_to_num()).square().mean()

    def training_step(self, batch, batch_idx):
        features = self.backbone(batch["image"])
        return sum(self.task_loss(name, self.heads[name](features), batch) for name in self.heads)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

def make(masked):
    torch.manual_seed(0)
    if not masked:
        return Normalized()
    tasks = [Task(name, TaskKind.VECTOR, name, 2) for name in ("few", "many")]
    return MultiTaskModule(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1))

def fit(masked, batches, **options):
    module, steps = make(masked), []

    def projections(params):
        params = list(params)
        optimizer = torch.optim.SGD(params, 0.1)
        optimizer.register_step_pre_hook(
            lambda *ignored: steps[-1].update({f"phi.{i}": p.grad.clone() for i, p in enumerate(params)}))
        return optimizer

    callback = TaskMetaTransfer("few", ["many"], rank=2, inner_lr=ALPHA, optimizer=projections)
    own = callback.on_train_batch_start
    callback.on_train_batch_start = lambda *args: (steps.append({}), own(*args))
    module.on_before_optimizer_step = lambda optimizer: steps[-1].update(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[callback], **options)
    torch.manual_seed(7)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return steps
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def sharded(module, phi, halves, alpha):
    """Double backward through both shards' losses, each with its own batch statistics."""
    own = dict(module.backbone.named_parameters())
    matrix = torch.diag(phi.diagonal) + phi.factor @ phi.factor.T
    inner = 0
    for half in halves:
        features = module.backbone(half["image"])
        leaf = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(module.task_loss("many", module.heads["many"](leaf), half), leaf)
        inner = inner + (features * torch.einsum("cd,bdhw->bchw", matrix, gradient)).sum() / 2
    pulled = torch.autograd.grad(inner, list(own.values()), create_graph=True)
    ahead = {name: p - alpha * d for (name, p), d in zip(own.items(), pulled, strict=True)}
    outer = 0
    for half in halves:
        there = functional_call(module.backbone, ahead, (half["image"],))
        outer = outer + module.task_loss("few", module.heads["few"](there), half) / 2
    return torch.autograd.grad(outer, [*ahead.values(), *phi.parameters()])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch):
    (tmp_path / "two.py").write_text(SCRIPT)
    (tmp_path / "made_for_both.py").write_text(MADE)
    random, batches = torch.Generator().manual_seed(0), []
    for _ in range(2):
        batch = {"image": torch.rand(4, 3, 8, 8, generator=random)}
        for name in ("few", "many"):
            batch[name] = torch.randn(4, 2, generator=random)
        batches.append(batch)
    batches[0]["many"][0, 1] = torch.nan  # three labels here, four there
    batches[1]["few"][:] = torch.nan  # an auxiliary batch
    batches[1]["many"][2:] = torch.nan  # whose labels are all on the first process
    torch.save(batches, tmp_path / "batches.pt")
    port, root = str(free_port()), str(Path(__file__).parents[2])
    both = [
        subprocess.Popen([sys.executable, str(tmp_path / "two.py"), str(tmp_path), str(rank)],
                         env={**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": str(rank),
                              "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]  # fmt: skip
    for process in both:
        told, _ = process.communicate(timeout=240)
        assert process.returncode == 0, told[-3000:]
    seen = [torch.load(tmp_path / f"seen{rank}.pt", weights_only=True) for rank in range(2)]

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from made_for_both import ALPHA, fit, make

    from lightning_taskonomy.optim import LowRank

    alone = fit(True, batches)
    for own in seen:
        compare(own["masked"], alone)
    compare(seen[0]["accumulated"], seen[1]["accumulated"])
    with torch.random.fork_rng():
        torch.manual_seed(7)  # as the processes had it at the start of the fit
        projection = LowRank(4, 2)
    halves = [{name: value[at : at + 2] for name, value in batches[0].items()} for at in (0, 2)]
    module = make(False)
    names = [f"backbone.{name}" for name, _ in module.backbone.named_parameters()] + ["phi.0", "phi.1"]
    expected = dict(zip(names, sharded(module, projection, halves, ALPHA), strict=True))
    for own in seen:
        compare([{name: own["normalized"][0][name] for name in names}], [expected])
    sys.modules.pop("made_for_both", None)


def compare(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6)
