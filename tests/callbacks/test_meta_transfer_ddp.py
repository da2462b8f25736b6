"""Meta and auxiliary steps of two processes on halves of a batch are those of one process on all of it."""

import sys

import pytest
import torch
from torch.func import functional_call

from lightning_taskonomy.optim import LowRank

SCRIPT = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from made_for_both import ADAPTIVE, fit, images, with_others

batches = torch.load(f"{folder}/batches.pt", weights_only=True)
masked, balanced = ([images(batch, [2 * rank, 2 * rank + 1]) for batch in batches[name]] for name in batches)
quarters = [images(half, [index]) for half in balanced for index in (0, 1)]
spread = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "plugins": [LightningEnvironment()],
          "use_distributed_sampler": False, "default_root_dir": folder}
seen = {
    "masked": fit(False, masked, **spread),
    "masked, accumulated": fit(False, quarters, accumulate_grad_batches=2, **spread),
    "normalized": fit(True, masked[:1], **spread),
    "normalized, accumulated": fit(True, quarters[:2], accumulate_grad_batches=2, **spread),
}
for name, options in ADAPTIVE.items():
    seen[name] = fit(False, with_others(masked[::-1]), options, **spread)
    seen[f"{name}, accumulated"] = fit(False, with_others(quarters[2:] + quarters[:2]), options,
                                       accumulate_grad_batches=2, **spread)

torch.save(seen, f"{folder}/seen{rank}.pt")
"""
MADE = """
import torch
from lightning.pytorch import Trainer
from torch import nn
from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

ALPHA, SEED = 0.3, 7
ADAPTIVE = {  # under AdamW, an auxiliary step first
    "scaled, joint": {"on_meta": "joint"},
    "whole, held out, moments apart": {"inner": "full", "meta_batch": "held_out", "separate_moments": True},
}

class Plain(Backbone):
    def __init__(self, norm):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5) if norm else nn.Identity(),
                                    nn.Tanh(), nn.Conv2d(5, 4, 3, stride=2, padding=1))

    def features(self, image):
        return [self.layers(image).tanh()]

def images(batch, rows):
    return {name: value[rows] for name, value in batch.items()}

def with_others(batches):
    # the other images are those of the batch, upside down
    return [{**batch, "held_out": {**batch, "image": batch["image"].flip(2)}} for batch in batches]

def make(norm, options=None):
    torch.manual_seed(0)
    tasks = [Task(name, TaskKind.VECTOR, name, 2) for name in ("few", "many")]
    adaptive = lambda params: torch.optim.AdamW(params, lr=0.1, eps=1e-2)
    plain = lambda params: torch.optim.SGD(params, lr=0.1)
    return MultiTaskModule(tasks, Plain(norm), optimizer=plain if options is None else adaptive)

def fit(norm, batches, extra=None, **options):
    module, steps = make(norm, extra), [{}]

    def projections(params):
        params = list(params)
        optimizer = torch.optim.SGD(params, 0.1)
        optimizer.register_step_pre_hook(
            lambda *ignored: steps[-1].update({f"phi.{i}": p.grad.clone() for i, p in enumerate(params)}))
        return optimizer

    module.on_before_optimizer_step = lambda optimizer: steps[-1].update(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None})
    module.on_before_zero_grad = lambda optimizer: steps.append({})
    callback = TaskMetaTransfer("few", ["many"], rank=2, inner_lr=ALPHA, optimizer=projections, **(extra or {}))
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[callback], **options)
    torch.manual_seed(SEED)
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return [step for step in steps if step]
"""


def draw(missing):
    """A meta and an auxiliary batch of four images without the labels at these places."""
    random, batches = torch.Generator().manual_seed(0), []
    for step in range(2):
        batch = {"image": torch.rand(4, 3, 8, 8, generator=random)}
        for name in ("few", "many"):
            batch[name] = torch.randn(4, 2, generator=random)
            for place in missing[name]:
                batch[name][place] = torch.nan
        if step:
            batch["few"][:] = torch.nan
        batches.append(batch)
    return batches


def sharded(module, phi, shards, alpha):
    """Double backward through all shards' losses, each with its own batch statistics; labels weigh the same."""
    parameters, head = dict(module.backbone.named_parameters()), dict(module.heads["few"].named_parameters())
    matrix = torch.diag(phi.diagonal) + phi.factor @ phi.factor.T

    def loss(name, features, shard):
        share = (~shard[name].isnan()).sum() / sum((~other[name].isnan()).sum() for other in shards)
        return share * module.head_loss(name, features, shard)

    inner = outer = 0
    for shard in shards:
        (features,) = module.backbone(shard["image"])
        leaf = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss("many", [leaf], shard), leaf)
        inner = inner + (features * torch.einsum("cd,bdhw->bchw", matrix, gradient)).sum()
    pulled = torch.autograd.grad(inner, list(parameters.values()), create_graph=True)
    ahead = {name: p - alpha * d for (name, p), d in zip(parameters.items(), pulled, strict=True)}
    for shard in shards:
        outer = outer + loss("few", functional_call(module.backbone, ahead, (shard["image"],)), shard)
    names = [*(f"backbone.{name}" for name in parameters), *(f"heads.few.{name}" for name in head), "phi.0", "phi.1"]
    gradients = torch.autograd.grad(outer, [*ahead.values(), *head.values(), *phi.parameters()])
    return dict(zip(names, gradients, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but:UserWarning")
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch, two_processes):
    (tmp_path / "made_for_both.py").write_text(MADE)
    unequal = {"few": [(1, 1)], "many": [(0, 1), (2, slice(None)), (3, slice(None))]}  # the last two: one process's all
    paired = {"few": [(1, 1), (2, 0)], "many": [(0, 1), (3, 0)]}  # 1 and 2 labels a process, 3 in either micro-batch
    batches = {"masked": draw(unequal), "balanced": draw(paired)}
    torch.save(batches, tmp_path / "batches.pt")
    two_processes(SCRIPT)

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from made_for_both import ADAPTIVE, ALPHA, SEED, fit, images, make, with_others

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        projection = LowRank(4, 2)
    halves = [images(batches["masked"][0], rows) for rows in ([0, 1], [2, 3])]
    quarters = [images(batches["balanced"][0], [index]) for index in range(4)]
    expected = {
        "masked": fit(False, batches["masked"]),
        "masked, accumulated": fit(False, batches["balanced"]),
        "normalized": [sharded(make(True), projection, halves, ALPHA)],
        "normalized, accumulated": [sharded(make(True), projection, quarters, ALPHA)],
    }
    for name, options in ADAPTIVE.items():
        expected[name] = fit(False, with_others(batches["masked"][::-1]), options)
        expected[f"{name}, accumulated"] = fit(False, with_others(batches["balanced"][::-1]), options)
    for rank in range(2):
        seen = torch.load(tmp_path / f"seen{rank}.pt", weights_only=True)
        for case, steps in expected.items():
            assert [step.keys() for step in seen[case]] == [step.keys() for step in steps], case
            for ours, theirs in zip(seen[case], steps, strict=True):
                for name, value in theirs.items():
                    torch.testing.assert_close(
                        ours[name], value, rtol=0, atol=1e-8 + 1e-4 * float(value.abs().max()),
                        msg=lambda message, at=(case, name): f"{at}: {message}",
                    )  # fmt: skip
    sys.modules.pop("made_for_both", None)


REFUSED = """
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning_taskonomy.errors import InputError
from made_for_both import fit, with_others

(batch,) = with_others([{"image": torch.rand(2, 3, 8, 8), "few": torch.ones(2, 2), "many": torch.ones(2, 2)}])
if rank:
    batch["held_out"]["few"] = torch.full((2, 2), torch.nan)
try:
    fit(False, [batch], {"meta_batch": "held_out"}, devices=2, strategy="ddp_find_unused_parameters_true",
        plugins=[LightningEnvironment()], use_distributed_sampler=False, default_root_dir=folder)
except InputError as error:
    open(f"{folder}/refused{rank}.txt", "w").write(str(error))
"""


@pytest.mark.slow
def test_both_processes_stop_where_one_has_other_images_without_primary_labels(tmp_path, two_processes):
    (tmp_path / "made_for_both.py").write_text(MADE)
    two_processes(REFUSED)
    for rank in range(2):
        assert "no valid label of the primary task 'few'" in (tmp_path / f"refused{rank}.txt").read_text()
