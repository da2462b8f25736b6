"""SimCLR: its loss written out in NumPy, two processes as one, and its backbone as the start of others."""

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lightning_taskonomy.data import RoomsDataModule, pretext
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone, TimmBackbone
from lightning_taskonomy.models.heads import ClassificationHead
from lightning_taskonomy.models.sources import FrozenSources, load_backbone
from lightning_taskonomy.modules import MultiTaskModule, SimCLRModule
from lightning_taskonomy.modules.self_supervised import nt_xent
from lightning_taskonomy.tasks import Task, TaskKind
from lightning_taskonomy.training import execute

torch.set_num_threads(1)
ROOMS = {"size": 32, "views": 4, "train_buildings": 2, "validation_buildings": 1, "test_buildings": 1, "samples": 1}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
         "num_sanity_val_steps": 0, "accelerator": "cpu"}  # fmt: skip


def literal_loss(first, second, temperature):
    """Algorithm 1 of SimCLR, loop for loop: the views of image k are 2 k and 2 k + 1."""
    views = np.stack([first, second], 1).reshape(-1, first.shape[1])
    views = views / np.sqrt((views**2).sum(1, keepdims=True))
    total = 0.0
    for i in range(len(views)):
        j = i + 1 if i % 2 == 0 else i - 1
        below = sum(np.exp(views[i] @ views[k] / temperature) for k in range(len(views)) if k != i)
        total += -np.log(np.exp(views[i] @ views[j] / temperature) / below)
    return total / len(views)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_the_loss_is_the_papers(temperature):
    views = np.random.default_rng(0).normal(size=(2, 7, 5)) * np.array([[[1.0]], [[30.0]]])
    loss = nt_xent(torch.from_numpy(views), temperature)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(literal_loss(*views, temperature), rel=1e-12)


def test_the_loss_of_parts_among_all_is_that_of_all():
    views = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parts = [nt_xent(views[:, at : at + 2], 0.2, views, at) for at in (0, 2, 4)]
    torch.testing.assert_close(torch.stack(parts).mean(), nt_xent(views, 0.2))
    half = nt_xent(views.bfloat16(), 0.2)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(nt_xent(views, 0.2)), rel=0.02)


def test_two_views_of_an_image_are_drawn_anew_each_epoch_and_the_same_again():
    data = RoomsDataModule(**ROOMS)
    samples = data.dataset("train", keys=["image", "image_views"], training=True)
    image, views = samples[1]["image"], samples[1]["image_views"]
    assert views.shape == (2, 3, 32, 32) and views.isfinite().all() and views.min() >= 0 and views.max() <= 1
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[0], image)
    torch.manual_seed(5)
    assert torch.equal(samples[1]["image_views"], views)
    assert not torch.equal(samples[1 + len(samples)]["image_views"], views)
    alone = data.dataset("train", keys=["image_views"], training=True)[1]
    assert alone.keys() == {"id", "image_views"} and torch.equal(alone["image_views"], views)


def test_making_views_draws_from_no_other_stream():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    pretext.derive({"image": torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))}, ["image_views"], 4)
    assert torch.equal(torch.rand(2), expected)


def fitted(folder, **changes):
    """A run of SimCLR on rooms without labels."""
    init_args = {"backbone": {"class_path": "TimmBackbone", "init_args": {"name": "test_resnet"}}, "hidden": 16,
                 "features": 8, "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}}  # fmt: skip
    config = {
        "seed_everything": 0,
        "model": {"class_path": "SimCLRModule", "init_args": init_args},
        "data": {"class_path": "RoomsDataModule", "init_args": {**ROOMS, "batch_size": 4}},
        "trainer": {**QUIET, "max_steps": 2, "max_epochs": -1},
        **changes,
    }
    return config, execute(config, folder, test=False)


def test_its_run_starts_other_fits_and_its_backbone_alone_is_taken(tmp_path):
    config, metrics = fitted(tmp_path / "first")
    assert metrics["val/loss"] > 0 and 0 <= metrics["val/accuracy"] <= 1
    trained = load_backbone(tmp_path / "first")
    task = {"class_path": "MultiTaskModule", "init_args": {"tasks": ["scene_classification"],
            "backbone": config["model"]["init_args"]["backbone"]}}  # fmt: skip
    start = {"weights": str(tmp_path / "first"), "weights_of": "backbone.", "trainer": {**QUIET, "max_epochs": 0}}
    execute({**config, **start, "model": task}, tmp_path / "second", test=False)
    for name, value in load_backbone(tmp_path / "second").state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    fitted(tmp_path / "third", **start)
    third = load_backbone(tmp_path / "third").state_dict()
    assert all(torch.equal(value, third[name]) for name, value in trained.state_dict().items())


class Plain(Backbone):
    """Nothing that depends on the batch."""

    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [5, 4], [1, 2]
        self.layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def features(self, image):
        return [image, self.layer(image).tanh()]


def trainer_of(folder, **options):
    return Trainer(**{**QUIET, "default_root_dir": folder, **options})


def test_a_validation_compares_all_images_whatever_the_batches(tmp_path):
    torch.manual_seed(0)
    module = SimCLRModule(Plain(), features=6, layers=1, temperature=0.3)
    views, ids = torch.rand(5, 2, 3, 8, 8), torch.arange(5)
    with torch.no_grad():
        first, second = (
            module.projection(module.backbone(views[:, i])[1].mean((2, 3))).double().numpy() for i in range(2)
        )
    logged = []
    for parts in ([0, 5], [0, 2, 3, 5]):
        batches = [{"id": ids[a:b], "image_views": views[a:b]} for a, b in pairwise(parts)]
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        (metrics,) = trainer_of(tmp_path).validate(module, loader, verbose=False)
        logged.append(metrics)
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)
    assert logged[0]["val/loss"] == pytest.approx(literal_loss(first, second, 0.3), rel=1e-5)
    both = np.concatenate([first, second])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    nearest = (both @ both.T - 9 * np.eye(10)).argmax(1)
    assert logged[0]["val/accuracy"] == pytest.approx((nearest == (np.arange(10) + 5) % 10).mean())


def test_it_learns_to_tell_images_apart(tmp_path):
    torch.manual_seed(0)
    module = SimCLRModule(Plain(), features=6, layers=1, optimizer=lambda p: torch.optim.Adam(p, 0.02))
    colours = torch.rand(6, 1, 3, 1, 1)
    views = (colours + 0.02 * torch.randn(6, 2, 3, 8, 8)).clamp(0, 1)
    loader = torch.utils.data.DataLoader([{"id": torch.arange(6), "image_views": views}], batch_size=None)
    (before,) = trainer_of(tmp_path).validate(module, loader, verbose=False)
    trainer_of(tmp_path, max_steps=40, max_epochs=40, limit_val_batches=0).fit(module, loader, loader)
    (after,) = trainer_of(tmp_path).validate(module, loader, verbose=False)
    assert after["val/loss"] < 0.5 * before["val/loss"] and after["val/accuracy"] == 1


def test_one_image_is_refused(tmp_path):
    module = SimCLRModule(Plain(), features=6, layers=1)
    loader = torch.utils.data.DataLoader([{"id": torch.arange(1), "image_views": torch.rand(1, 2, 3, 8, 8)}],
                                         batch_size=None)  # fmt: skip
    with pytest.raises(InputError, match="this one has 1"):
        trainer_of(tmp_path, max_steps=1, limit_val_batches=0).fit(module, loader, loader)
    with pytest.raises(InputError, match="there is 1 to validate"):
        trainer_of(tmp_path).validate(module, loader, verbose=False)
    with pytest.raises(InputError, match="temperature is above 0"):
        SimCLRModule(Plain(), temperature=0.0)
    with pytest.raises(InputError, match="no task to predict"):
        module.predict_step({}, 0)


def test_a_loss_that_is_no_number_ends_the_fit(tmp_path):
    module = SimCLRModule(Plain(), features=6, layers=1)
    views = torch.full((2, 2, 3, 8, 8), torch.nan)
    loader = torch.utils.data.DataLoader([{"id": torch.arange(2), "image_views": views}], batch_size=None)
    with pytest.raises(InputError, match="loss of SimCLR is NaN or infinite at step 0"):
        trainer_of(tmp_path, max_steps=2, limit_val_batches=0).fit(module, loader, loader)


@pytest.mark.filterwarnings("ignore:Found .* module.* in eval mode")
def test_a_linear_probe_learns_a_linear_map_of_frozen_features(tmp_path):
    """A frozen source and a head of one layer: what the paper judges a self-supervised backbone by."""
    torch.manual_seed(0)
    task = Task("kind", TaskKind.CLASSIFICATION, target="kind", channels=3)
    backbone = TimmBackbone("test_resnet")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    probe = MultiTaskModule(
        [task], FrozenSources([backbone]),
        heads={"kind": lambda *args: ClassificationHead(*args, layers=1, grid=1, width=4096)},
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
    )  # fmt: skip
    images, kinds = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    loader = torch.utils.data.DataLoader([{"image": images, "kind": kinds}], batch_size=None)
    trainer_of(tmp_path, max_epochs=3, limit_val_batches=0).fit(probe, loader, loader)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    probe.eval()
    with torch.no_grad():
        pooled = backbone.eval()(images)[-1].mean((2, 3))
        logits, head = probe({"image": images})["kind"], probe.heads["kind"]
        assert sum(p.numel() for p in head.parameters()) == 3 * (pooled.shape[1] + 1)
        torch.testing.assert_close(logits, pooled @ head.output.weight.T + head.output.bias)


MADE = """
import torch
from torch import nn
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import SimCLRModule

class Plain(Backbone):
    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def features(self, image):
        return [self.layer(image).tanh()]

def make():
    torch.manual_seed(0)
    return SimCLRModule(Plain(), features=6, layers=1, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
"""
SCRIPT = """
import sys
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, folder)
from made_for_both import make

trained, validated = torch.load(f"{folder}/batches.pt", weights_only=True)[rank]
module, seen = make(), {}
plain = module.training_step
def training_step(batch, batch_idx):
    loss = plain(batch, batch_idx)
    seen["loss"] = loss.detach()
    return loss
module.training_step = training_step
module.on_before_optimizer_step = lambda optimizer: seen.update(
    {"gradients": {n: p.grad.clone() for n, p in module.named_parameters()}}
)
def loader(batch):
    return torch.utils.data.DataLoader([batch], batch_size=None)
trainer = Trainer(accelerator="cpu", devices=2, num_nodes=1, strategy="ddp", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    plugins=[LightningEnvironment()], default_root_dir=folder, num_sanity_val_steps=0, limit_val_batches=0)
trainer.fit(module, loader(trained))
seen["logged"] = trainer.callback_metrics["train/loss"]
trainer = Trainer(accelerator="cpu", devices=2, num_nodes=1, strategy="ddp", logger=False, enable_progress_bar=False,
    enable_checkpointing=False, use_distributed_sampler=False, plugins=[LightningEnvironment()],
    default_root_dir=folder)
seen["validated"] = trainer.validate(make(), loader(validated), verbose=False)[0]
torch.save(seen, f"{folder}/seen{rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_compare_the_images_of_both(tmp_path, monkeypatch):
    """Loss and gradients are those of one process on all images, and a repeated image is validated once."""
    (tmp_path / "two.py").write_text(SCRIPT)
    (tmp_path / "made_for_both.py").write_text(MADE)
    views = torch.rand(6, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 0])]
    shares = [
        ({"image_views": views[3 * rank : 3 * rank + 3]}, {"id": ids[rank], "image_views": views[ids[rank]]})
        for rank in range(2)
    ]
    torch.save(shares, tmp_path / "batches.pt")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    shared = {"PYTHONPATH": str(Path(__file__).parents[2]), "CUDA_VISIBLE_DEVICES": "", "NODE_RANK": "0",
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}  # fmt: skip
    both = [
        subprocess.Popen([sys.executable, str(tmp_path / "two.py"), str(tmp_path), str(rank)],
                         env={**os.environ, **shared, "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]  # fmt: skip
    for process in both:
        _, error = process.communicate(timeout=240)
        assert process.returncode == 0, error[-3000:]
    seen = [torch.load(tmp_path / f"seen{rank}.pt", weights_only=True) for rank in range(2)]

    monkeypatch.syspath_prepend(str(tmp_path))
    from made_for_both import make

    alone = make()
    loss = nt_xent(alone({"image_views": views}), 0.1)
    loss.backward()
    torch.testing.assert_close((seen[0]["loss"] + seen[1]["loss"]) / 2, loss.detach())
    with torch.no_grad():
        expected = float(nt_xent(alone({"image_views": views[:5]}), 0.1))
    for of_rank in seen:
        torch.testing.assert_close(of_rank["logged"], loss.detach())
        assert of_rank["validated"]["val/loss"] == pytest.approx(expected, rel=1e-5)
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(of_rank["gradients"][name], parameter.grad, rtol=1e-4, atol=1e-6)
    sys.modules.pop("made_for_both", None)
