"""What two processes log of the instruments is the same, and what one process logs of both their images."""

import sys

import pytest
import torch

MADE = """
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

class Plain(Backbone):
    "Two maps, no statistics."

    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4, 3], [1, 2]
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, stride=2, padding=1)

    def features(self, image):
        fine = self.first(image).tanh()
        return [fine, self.second(fine).tanh()]

class Log(Callback):
    def __init__(self):
        self.logged = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.logged.append({n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("meta/")})

def images(batch, rows):
    return {name: value[rows] for name, value in batch.items()}

class Mine(LightningModule):
    "Runs the heads whose labels are in the batch of its own process."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
                                    for name in ("few", "many", "some")})

    def task_loss(self, name, predictions, batch):
        return (predictions - batch[name]).square().mean()

    def training_step(self, batch, batch_idx):
        features = self.backbone(batch["image"])
        return sum(self.task_loss(name, head(features), batch) for name, head in self.heads.items() if name in batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

def fit_mine(batches, **options):
    log, stretches = Log(), []
    callback = TaskMetaTransfer("few", ["many", "some"], rank=2)
    plain = callback.instruments.log_meta_step

    def watched(trainer, module, result):
        stretches.append({name: float(value) for name, value in result.stretch.items()})
        plain(trainer, module, result)

    callback.instruments.log_meta_step = watched
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback, log], **options)
    torch.manual_seed(7)
    trainer.fit(Mine(), torch.utils.data.DataLoader(batches, batch_size=None))
    return {"logged": log.logged, "stretches": stretches, "phi": callback.state_dict()["projections"]}

def fit(batches, unseen, **options):
    torch.manual_seed(0)
    tasks = [Task(name, TaskKind.VECTOR, name, 2) for name in ("few", "many", "some")]
    module = MultiTaskModule(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    log = Log()
    callback = TaskMetaTransfer("few", ["many", "some"], rank=2, inner="gradient", probe_every_n_steps=2,
                                optimizer=lambda params: torch.optim.SGD(params, 0.5))
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[callback, log],
        **options)
    torch.manual_seed(7)
    loaders = [torch.utils.data.DataLoader(each, batch_size=None) for each in (batches, unseen)]
    trainer.fit(module, *loaders)
    return log.logged
"""
SCRIPT = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from made_for_all import fit, images

batches, unseen = torch.load(f"{folder}/batches.pt", weights_only=True)
mine = lambda batches: [images(batch, [2 * rank, 2 * rank + 1]) for batch in batches]
logged = fit(mine(batches), mine(unseen), devices=2, strategy="ddp_find_unused_parameters_true",
             plugins=[LightningEnvironment()], use_distributed_sampler=False, default_root_dir=folder)
torch.save(logged, f"{folder}/logged{rank}.pt")
"""
UNEQUAL = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning_taskonomy.errors import InputError
from made_for_all import fit_mine, images

batches, _ = torch.load(f"{folder}/batches.pt", weights_only=True)
mine = [images(batch, [2 * rank, 2 * rank + 1]) for batch in batches]
for batch in mine[1::2]:
    del batch["few"]
if rank:
    del mine[0]["some"]
spread = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()],
          "use_distributed_sampler": False, "default_root_dir": folder}
ended = fit_mine(mine, **spread)
if rank:
    del mine[2]["some"], mine[2]["many"]
try:
    fit_mine(mine, **spread)
except InputError as error:
    ended["refused"] = str(error)
torch.save(ended, f"{folder}/ended{rank}.pt")
"""


def draw(count, random):
    batches = []
    for number in range(count):
        batch = {"image": torch.rand(4, 3, 8, 8, generator=random)}
        batch |= {name: torch.randn(4, 2, generator=random) for name in ("few", "many", "some")}
        if number % 2:
            batch["few"][:] = torch.nan
        batches.append(batch)
    return batches


@pytest.mark.slow
def test_two_processes_log_what_one_would(tmp_path, monkeypatch, two_processes):
    random = torch.Generator().manual_seed(0)
    batches, unseen = draw(6, random), draw(1, random)
    torch.save((batches, unseen), tmp_path / "batches.pt")
    (tmp_path / "made_for_all.py").write_text(MADE)
    two_processes(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    import made_for_all

    try:
        alone = made_for_all.fit(batches, unseen)
    finally:
        del sys.modules["made_for_all"]
    ours, theirs = (torch.load(tmp_path / f"logged{rank}.pt", weights_only=True) for rank in range(2))
    assert len(alone) == 6
    shared = {"step_ratio", "successive_cosine"} | {
        f"{task}/{name}"
        for task in ("many", "some")
        for name in ("stretch", "dominance", "plain_cosine", "projected_cosine")
    }
    assert {f"meta/{name}" for name in shared} <= alone[-1].keys()
    for one, other, expected in zip(ours, theirs, alone, strict=True):
        for name in {f"meta/{name}" for name in shared} & expected.keys():
            assert one[name] == other[name]
            tolerance = 0.02 if name.endswith("stretch") else 1e-4  # the mean of two ratios is not that of the whole
            assert one[name] == pytest.approx(expected[name], rel=tolerance, abs=1e-5)
    assert alone[-1]["meta/many/plain_cosine"] != pytest.approx(alone[-1]["meta/many/projected_cosine"], abs=1e-4)


@pytest.mark.slow
def test_a_meta_batch_may_lack_an_auxiliary_task_on_one_process(tmp_path, two_processes):
    """The stretch is the mean over the processes that had the task; a batch that lacks all of them stops both."""
    random = torch.Generator().manual_seed(0)
    torch.save((draw(4, random), []), tmp_path / "batches.pt")
    (tmp_path / "made_for_all.py").write_text(MADE)
    two_processes(UNEQUAL)
    ours, theirs = (torch.load(tmp_path / f"ended{rank}.pt", weights_only=True) for rank in range(2))
    assert ours["stretches"][0].keys() == {"many", "some"} and theirs["stretches"][0].keys() == {"many"}
    for process in (ours, theirs):
        for logged, one, other in zip(process["logged"][::2], ours["stretches"], theirs["stretches"], strict=True):
            assert logged["meta/many/stretch"] == pytest.approx((one["many"] + other["many"]) / 2)
            some = [stretches["some"] for stretches in (one, other) if "some" in stretches]
            assert logged["meta/some/stretch"] == pytest.approx(sum(some) / len(some))
    torch.testing.assert_close(ours["phi"], theirs["phi"], rtol=0, atol=0)
    assert "a batch needs labels of many, some" in ours["refused"] == theirs["refused"]
