"""Two processes on halves of a batch give the loss and gradients of one process on all of it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from lightning_taskonomy.data.batch import collate
from lightning_taskonomy.modules import MultiTaskModule, SoftSharingModule
from lightning_taskonomy.tasks import Task, TaskKind

SCRIPT = """
import sys
import torch

def work(rank, folder):
    torch.set_num_threads(1)
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.plugins.environments import LightningEnvironment

    part = torch.load(f"{folder}/batch.pt", weights_only=True)[rank]
    module = made(folder)
    seen = {}

    class Loader(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return part

    plain = module.training_step
    def training_step(batch, batch_idx):
        loss = plain(batch, batch_idx)
        seen["labelled"] = module.labelled(batch)
        seen["loss"] = loss.detach()
        return loss
    module.training_step = training_step
    module.on_before_optimizer_step = lambda optimizer: seen.update(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    )
    asking = Callback()
    asking.monitor = "train/loss_epoch"
    trainer = Trainer(accelerator="cpu", devices=2, callbacks=[asking], num_nodes=1, strategy=sys.argv[4],
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, plugins=[LightningEnvironment()], default_root_dir=folder)
    trainer.fit(module, torch.utils.data.DataLoader(Loader(), batch_size=None))
    seen["logged"] = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    torch.save(seen, f"{folder}/seen{rank}.pt")

def made(folder):
    sys.path.insert(0, folder)
    from made_for_both import make
    return make()

if __name__ == "__main__":
    work(int(sys.argv[3]), sys.argv[1])
"""
MADE = """
import torch
from torch import nn
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import KIND
from lightning_taskonomy.tasks import Task, TaskKind

class Plain(Backbone):
    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def features(self, image):
        return [self.layer(image).relu()]

def make():
    torch.manual_seed(0)
    tasks = [Task(name, TaskKind.VECTOR, name, 2) for name in ("first", "second", "third")]
    module = KIND(tasks, Plain(), optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    with torch.no_grad():
        for parameter in module.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module
"""


def trainer_of(strategy, devices=2):
    return Trainer(accelerator="cpu", devices=devices, strategy=strategy, logger=False, enable_checkpointing=False)


@pytest.mark.parametrize(
    ("strategy", "tasks", "expected"),
    [
        ("ddp", 2, {"find_unused_parameters": True}),
        ("ddp", 1, {}),
        ("ddp_find_unused_parameters_false", 2, {"find_unused_parameters": False}),  # as the recipe says
        (DDPStrategy(static_graph=True), 2, {"static_graph": True}),
    ],
)
def test_plain_ddp_is_told_of_heads_without_labels_where_there_are_several(strategy, tasks, expected, counting):
    module = MultiTaskModule([Task(f"t{i}", TaskKind.VECTOR, f"t{i}", 2) for i in range(tasks)], counting())
    module.trainer = trainer_of(strategy)
    module.setup("validate")
    assert module.trainer.strategy._ddp_kwargs == {k: v for k, v in expected.items() if strategy != "ddp"}
    module.setup("fit")
    assert module.trainer.strategy._ddp_kwargs == expected


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def on_both(folder, whole, strategy):
    """What two processes saw, each on a half of the batch."""
    (folder / "two.py").write_text(SCRIPT)
    halves = [{name: value[at : at + 2] for name, value in whole.items()} for at in (0, 2)]
    torch.save(halves, folder / "batch.pt")
    port = str(free_port())
    root = str(Path(__file__).parents[2])
    both = [
        subprocess.Popen([sys.executable, str(folder / "two.py"), str(folder), port, str(rank), strategy],
                         env={**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "", "LOCAL_RANK": str(rank),
                              "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"},
                         stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]  # fmt: skip
    for process in both:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error[-3000:]
    return [torch.load(folder / f"seen{rank}.pt", weights_only=True) for rank in range(2)]


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def assert_same_gradients(seen, expected):
    for of_rank in seen:
        assert of_rank.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(of_rank[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.fixture
def made_for_both(tmp_path, monkeypatch):
    """Writes the module's source for both processes and gives a module of it for this one."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**changes):
        source = MADE
        for name, value in changes.items():
            source = source.replace(name, value)
        (tmp_path / "made_for_both.py").write_text(source)
        return importlib.import_module("made_for_both").make()

    yield make
    sys.modules.pop("made_for_both", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("ddp", "MultiTaskModule"),
        ("ddp_find_unused_parameters_true", "MultiTaskModule"),
        ("ddp", "SoftSharingModule"),
    ],
)
def test_labels_that_only_one_process_has_count_as_in_one_batch(tmp_path, made_for_both, strategy, kind):
    alone: MultiTaskModule = made_for_both(KIND=kind)
    random = torch.Generator().manual_seed(0)
    whole = {"image": torch.rand(4, 3, 8, 8, generator=random)}
    for name in ("first", "second", "third"):
        whole[name] = torch.randn(4, 2, generator=random)
    whole["first"][0, 1] = torch.nan  # three labels of "first" here, four there
    whole["second"][2:] = torch.nan  # none on the second process
    whole["third"][:] = torch.nan  # none at all
    seen = on_both(tmp_path, whole, strategy)

    losses, _ = alone.losses(whole)
    loss = alone.combine(losses)
    logged = {"train/loss": loss, "train/loss_epoch": loss}
    if isinstance(alone, SoftSharingModule):
        loss = loss + alone.strength * alone.backbone.distance()
    loss.backward()
    assert seen[0].pop("labelled") == seen[1].pop("labelled") == list(losses) == ["first", "second"]
    torch.testing.assert_close((seen[0].pop("loss") + seen[1].pop("loss")) / 2, loss.detach())
    expected = gradients(alone)
    logged |= {f"train/{name}/loss": value for name, value in losses.items()}
    if isinstance(alone, SoftSharingModule):
        alone.configure_optimizers().step()
        logged["train/distance"] = alone.backbone.distance()
    for of_rank in seen:  # not one process's share: the second has no label of "second"
        torch.testing.assert_close(of_rank.pop("logged"), {name: value.detach() for name, value in logged.items()})
    assert_same_gradients(seen, expected)


@pytest.mark.slow
def test_each_term_of_a_loss_is_divided_by_its_count_over_both_processes(tmp_path, made_for_both):
    """Boxes and points: the terms of keypoints have counts of their own, and one process has no point."""
    tasks = 'keypoints("people", ["a", "b"], (1, 0), (0.1, 0.1))'
    alone: MultiTaskModule = made_for_both(
        **{"KIND": "MultiTaskModule",
           'Task(name, TaskKind.VECTOR, name, 2) for name in ("first", "second", "third")': tasks,
           "Plain(), ": 'Plain(), {"set": partial(KeypointHead, hidden=4)}, ',
           "from torch import nn": "from functools import partial\nfrom torch import nn\n"
           "from lightning_taskonomy.models.heads import KeypointHead\n"
           "from lightning_taskonomy.tasks.catalog.objects import keypoints"},
    )  # fmt: skip
    nan = float("nan")
    boxes = [[[2, 2, 20, 28], [8, 0, 31, 16]], [[4, 4, 12, 30]], [[0, 10, 16, 26]], []]
    points = [[[[5, 6], [nan, nan]], [[12, 3], [28, 9]]], [[[5, 20], [9, 9]]], [[[nan, nan]] * 2], []]
    samples = [
        {"boxes": torch.tensor(edges, dtype=torch.float32).reshape(-1, 4), "image": torch.rand(3, 32, 32),
         "points": torch.tensor(spots, dtype=torch.float32).reshape(-1, 2, 2)}
        for edges, spots in zip(boxes, points, strict=True)
    ]  # fmt: skip
    whole = collate(samples, alone.tasks["people"].targets)
    seen = on_both(tmp_path, whole, "ddp")

    losses, _ = alone.losses(whole)
    losses["people"].backward()
    assert [of_rank.pop("labelled") for of_rank in seen] == [["people"]] * 2
    torch.testing.assert_close((seen[0].pop("loss") + seen[1].pop("loss")) / 2, losses["people"].detach())
    for of_rank in seen:
        torch.testing.assert_close(of_rank.pop("logged")["train/loss"], losses["people"].detach())
    assert_same_gradients(seen, gradients(alone))
