"""Weightings on two processes with halves of a batch take the steps of one process with all of it."""

import sys

import pytest
import torch

SCRIPT = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from weighted import NAMES, fit, halves_of, quarters_of

spread = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()],
          "use_distributed_sampler": False, "default_root_dir": folder}
seen = {}
for name in NAMES:
    seen[name] = fit(name, halves_of(rank), **spread)
    seen[f"{name}, accumulated"] = fit(name, quarters_of(rank), accumulate_grad_batches=2, **spread)
torch.save(seen, f"{folder}/seen{rank}.pt")
"""
MADE = """
import importlib.util
import torch
from lightning.pytorch import Trainer
from torch import nn
from lightning_taskonomy.callbacks import CosineWeighting, GradientAggregation, GradNormWeighting, KendallWeighting
from lightning_taskonomy.callbacks import MGDAUpperBound
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

NAMES = {
    "kendall": lambda: KendallWeighting("few", ["many"], optimizer=lambda params: torch.optim.SGD(params, lr=0.5)),
    "cosine": lambda: CosineWeighting("few", ["many"], between="last"),
    "grad_norm": lambda: GradNormWeighting(optimizer=lambda params: torch.optim.SGD(params, lr=0.5)),
    "mgda_ub": lambda: MGDAUpperBound(normalisation="loss+"),
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
    made[1]["few"][:] = torch.nan  # an auxiliary batch
    return made

def images(batch, rows):
    return {name: value[rows] for name, value in batch.items()}

def unequal():
    made = batches()
    made[0]["many"][0, 1] = torch.nan  # three labels here, four there
    made[1]["many"][2:] = torch.nan  # all on the first process
    return made

def balanced():
    made = batches()
    for batch in made:  # one and two labels here, two and one there: three in either micro-batch
        batch["many"][0, 1] = batch["many"][3, 0] = torch.nan
    return made

def halves_of(rank):
    return [images(batch, [2 * rank, 2 * rank + 1]) for batch in unequal()]

def quarters_of(rank):
    return [images(batch, [2 * rank + place]) for batch in balanced() for place in (0, 1)]

def fit(name, batches, **options):
    torch.manual_seed(0)
    tasks = [Task(task, TaskKind.VECTOR, task, 2) for task in ("few", "many")]
    module, seen = MultiTaskModule(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1)), []
    module.on_before_optimizer_step = lambda optimizer: seen.append(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    callback = NAMES[name]()
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[callback], **options)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    learnt = ("log_variances", "weights", "first_losses")
    return seen, {name: value for name, value in callback.state_dict().items() if name in learnt}
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch, two_processes):
    (tmp_path / "weighted.py").write_text(MADE)
    two_processes(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from weighted import NAMES, balanced, fit, unequal

    alone = {name: fit(name, unequal()) for name in NAMES}
    alone |= {f"{name}, accumulated": fit(name, balanced()) for name in NAMES}
    for rank in range(2):
        seen = torch.load(tmp_path / f"seen{rank}.pt", weights_only=True)
        for case, (expected, learnt) in alone.items():
            torch.testing.assert_close(seen[case][1], learnt)
            assert [step.keys() for step in seen[case][0]] == [step.keys() for step in expected], case
            for actual, steps in zip(seen[case][0], expected, strict=True):
                for key, value in steps.items():
                    torch.testing.assert_close(
                        actual[key], value, rtol=2e-3, atol=1e-5, msg=lambda message, at=(case, key): f"{at}: {message}"
                    )
    sys.modules.pop("weighted", None)
