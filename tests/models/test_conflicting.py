"""A head that makes conflict: the gradient of the features against M·g by brute force, under every way of training."""

import copy
from functools import partial

import pytest
import torch
import torch.autograd.forward_ad as forward_mode
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.heads import ConflictingHead, DenseHead, Head, VectorHead
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import find
from lightning_taskonomy.training import instantiate_model

DEPTH, NORMALS = find("depth_z"), find("normals")
LIGHT = partial(DenseHead, layers=3, width=8)


class Square(Head):
    """Half of the features' square: its gradient is the features."""

    def forward(self, features, size):
        return 0.5 * features[0].square()


@pytest.mark.parametrize("rank", [0, 2, 5, 6])
def test_the_matrix_turns_all_but_rank_directions_and_undoes_itself(rank):
    matrix = ConflictingHead([6], [4], DEPTH, head=LIGHT, rank=rank, seed=3).matrix()
    assert torch.allclose(matrix @ matrix, torch.eye(6), atol=1e-6) and torch.allclose(matrix, matrix.mT)
    expected = torch.tensor([-1.0] * (6 - rank) + [1.0] * rank)
    assert torch.allclose(torch.linalg.eigvalsh(matrix), expected, atol=1e-5)
    same, other = (ConflictingHead([6], [4], DEPTH, head=LIGHT, rank=rank, seed=seed).matrix() for seed in (3, 4))
    only = rank in (0, 6)  # there is but one projector to nothing, and to all
    assert torch.equal(matrix, same) and torch.allclose(matrix, other, atol=1e-6) is only


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_predictions_are_the_heads_own_and_each_map_gets_its_turned_gradient(memory_format):
    torch.manual_seed(0)
    head = ConflictingHead([6, 4], [4, 8], NORMALS, head=LIGHT, rank=2).double()
    maps = [torch.randn(2, 6, 8, 8), torch.randn(2, 4, 4, 4)]
    maps = [m.double().contiguous(memory_format=memory_format).requires_grad_() for m in maps]
    weights = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plain, turned = head.head(maps, (32, 32)), head(maps, (32, 32))
    assert torch.equal(plain, turned)
    parameters = list(head.parameters())
    expected = torch.autograd.grad((plain * weights).sum(), [*maps, *parameters])
    gradients = torch.autograd.grad((turned * weights).sum(), [*maps, *parameters])
    for number in range(2):
        by_hand = torch.tensordot(head.matrix(number), expected[number], dims=([1], [1])).movedim(0, 1)
        assert torch.allclose(gradients[number], by_hand, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(gradients[2:], expected[2:], strict=True)), "the head learns as ever"


def test_tangents_pass_and_the_gradient_is_differentiable_again():
    head = ConflictingHead([6], [4], DEPTH, head=Square, rank=2).double()
    feature, tangent, weights = (torch.randn(2, 6, 3, 3, dtype=torch.float64) for _ in range(3))
    with forward_mode.dual_level():
        output = head([forward_mode.make_dual(feature, tangent)], (3, 3))
        assert torch.equal(forward_mode.unpack_dual(output).tangent, feature * tangent)
    feature.requires_grad_()
    (gradient,) = torch.autograd.grad(head([feature], (3, 3)).sum(), feature, create_graph=True)
    by_hand = torch.einsum("oc,bchw->bohw", head.matrix(), feature)
    assert torch.allclose(gradient, by_hand)
    (again,) = torch.autograd.grad((gradient * weights).sum(), feature)  # through M on both ways: M·M = 1
    assert torch.allclose(again, weights)


class Small(Backbone):
    """One convolution to five channels."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)
        self.out_channels, self.reductions = [5], [1]

    def features(self, image):
        return [torch.tanh(self.layer(image))]


@pytest.fixture
def networks():
    """A network without conflict, its twin with it, and a batch."""
    torch.manual_seed(0)
    steps = partial(torch.optim.SGD, lr=1.0)
    plain = MultiTaskModule(["depth_z", "normals"], Small(), {"dense": LIGHT, "normals": LIGHT}, steps).double()
    conflict = copy.deepcopy(plain)
    conflict.heads["normals"] = ConflictingHead([5], [1], NORMALS, head=LIGHT, rank=1).double()
    conflict.heads["normals"].head = copy.deepcopy(plain.heads["normals"])
    batch = {"image": torch.rand(2, 3, 8, 8, dtype=torch.float64)}
    batch |= {"depth_z": torch.rand(2, 1, 8, 8, dtype=torch.float64) + 1}
    batch |= {"normals": nn.functional.normalize(torch.randn(2, 3, 8, 8, dtype=torch.float64), dim=1)}
    return plain, conflict, batch


def turned_gradients(plain, conflict, batch, primary=True):
    """Of the backbone's parameters, by hand: J^T (g_P + M g_A), with or without g_P."""
    (feature,) = plain.encode(batch, "image")
    first, second = (
        torch.autograd.grad(plain.head_loss(task, [feature], batch), feature, retain_graph=True)[0]
        for task in ("depth_z", "normals")
    )
    turned = torch.einsum("oc,bchw->bohw", conflict.heads["normals"].matrix(), second)
    return torch.autograd.grad(feature, list(plain.backbone.parameters()), first + turned if primary else turned)


def test_multi_task_learning_sees_the_turned_gradient_in_the_backbone(networks):
    _, conflict, batch = networks
    expected, features = turned_gradients(*networks), conflict.encode(batch, "image")
    sum(conflict.head_loss(task, features, batch) for task in ("depth_z", "normals")).backward()
    for parameter, gradient in zip(conflict.backbone.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-12)


def test_task_meta_transfer_sees_the_turned_gradient_on_either_kind_of_batch(networks):
    _, conflict, batch = networks
    expected = turned_gradients(*networks, primary=False)
    alone = {name: value for name, value in batch.items() if name != "depth_z"}
    before = [parameter.detach().clone() for parameter in conflict.backbone.parameters()]
    transfer = TaskMetaTransfer(primary="depth_z", auxiliary=["normals"], projection="identity")
    after = []

    class Note(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            after.append([parameter.detach().clone() for parameter in pl_module.backbone.parameters()])

    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, callbacks=[transfer, Note()],
    )  # fmt: skip
    trainer.fit(conflict, DataLoader([alone, batch], batch_size=None), DataLoader([batch], batch_size=None))
    for parameter, start, gradient in zip(after[0], before, expected, strict=True):
        assert torch.allclose(parameter, start - gradient, atol=1e-12)
    assert transfer.taken == {"meta": 1, "auxiliary": 1} and all(p.isfinite().all() for p in after[1])


def test_a_recipe_describes_it_by_task_or_kind():
    light = {"class_path": "DenseHead", "init_args": {"layers": 3, "width": 8}}
    conflict = {"class_path": "ConflictingHead", "init_args": {"head": light, "rank": 2, "seed": 1}}
    backbone = {"class_path": "TaskonomyResNet", "init_args": {"name": "test_resnet"}}
    arguments = {"tasks": ["depth_z", "normals"], "backbone": backbone, "heads": {"dense": light, "normals": conflict}}
    model = instantiate_model({"class_path": "MultiTaskModule", "init_args": arguments})
    head = model.heads["normals"]
    assert isinstance(head, ConflictingHead) and isinstance(head.head, DenseHead) and head.matrix().shape == (8, 8)
    assert isinstance(model.heads["depth_z"], DenseHead) and not any("matrix" in name for name in model.state_dict())


@pytest.mark.parametrize("rank", [-1, 5])
def test_a_rank_out_of_the_range_of_the_narrowest_map_is_refused(rank):
    with pytest.raises(InputError, match=f"rank {rank} for 4 channels; give 0 to that number"):
        ConflictingHead([6, 4], [4, 8], DEPTH, head=LIGHT, rank=rank)
    with pytest.raises(InputError, match="VectorHead does not fit"):
        ConflictingHead([6], [4], DEPTH, head=VectorHead)


def test_a_copy_of_the_primary_head_teaches_the_backbone_m_times_the_primary_gradient_and_nothing_else():
    torch.manual_seed(0)
    heads = {"depth_z": LIGHT, "depth_euclidean": partial(ConflictingHead, copy_of="depth_z", rank=2)}
    tasks = ["depth_euclidean", "depth_z"]
    module = copy.deepcopy(MultiTaskModule(tasks, Small(), heads, partial(torch.optim.SGD, lr=0.1)).double())
    label = torch.rand(2, 1, 8, 8, dtype=torch.float64) + 1
    batch = {"image": torch.rand(2, 3, 8, 8, dtype=torch.float64), "depth_z": label, "depth_euclidean": label}
    state = copy.deepcopy(dict(module.heads["depth_z"].named_buffers()))
    (feature,) = module.encode(batch, "image")
    (turned,) = torch.autograd.grad(module.head_loss("depth_euclidean", [feature], batch), feature, retain_graph=True)
    assert all(torch.equal(value, state[name]) for name, value in module.heads["depth_z"].named_buffers())
    (primary,) = torch.autograd.grad(module.head_loss("depth_z", [feature], batch), feature)
    by_hand = torch.einsum("oc,bchw->bohw", module.heads["depth_euclidean"].matrix(), primary)
    assert torch.allclose(turned, by_hand, atol=1e-12)
    assert not list(module.heads["depth_euclidean"].parameters()), "the copy is the other task's"
    with torch.no_grad():  # it goes on as the other head learns
        for parameter in module.heads["depth_z"].parameters():
            parameter.zero_()
    assert not module.heads["depth_euclidean"]([feature], (8, 8)).any()


@pytest.mark.parametrize(
    "callbacks", [[], [TaskMetaTransfer("depth_z", ["depth_euclidean"], rank=2)]], ids=["mtl", "tmt"]
)
def test_a_copy_leaves_the_primary_head_to_the_primary_loss_in_a_fit(callbacks):
    torch.manual_seed(0)
    heads = {"depth_z": LIGHT, "depth_euclidean": partial(ConflictingHead, copy_of="depth_z", rank=2)}
    module = MultiTaskModule(["depth_z", "depth_euclidean"], Small(), heads, partial(torch.optim.SGD, lr=0.1))
    before = copy.deepcopy(module.state_dict())
    label = torch.rand(2, 1, 8, 8) + 1
    alone, both = (
        {"image": torch.rand(2, 3, 8, 8), "depth_euclidean": label, **more} for more in ({}, {"depth_z": label})
    )
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, callbacks=callbacks,
    )  # fmt: skip
    seen = DataLoader([both], batch_size=None)
    trainer.fit(module, DataLoader([alone], batch_size=None), seen)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("backbone") for name in moved)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, seen, seen)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("heads.depth_z") for name in moved)


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "needs either a head or copy_of"), ({"head": LIGHT, "copy_of": "depth_z"}, "needs either a head or copy_of")],
)
def test_one_of_head_and_copy_is_needed(options, message):
    with pytest.raises(InputError, match=message):
        ConflictingHead([6], [4], DEPTH, **options)


def test_a_copy_of_no_head_is_refused():
    heads = {"normals": partial(ConflictingHead, copy_of="depth_zz")}
    with pytest.raises(
        InputError, match="'depth_zz', which is no other task with a head of its own; did you mean 'depth_z'"
    ):
        MultiTaskModule(["depth_z", "normals"], Small(), heads, partial(torch.optim.SGD, lr=0.1))
