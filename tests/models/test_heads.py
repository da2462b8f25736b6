"""Heads and the transfer readout, for every task and every kind."""

import pytest
import torch
from torch import nn

from lightning_taskonomy import losses
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TaskonomyResNet
from lightning_taskonomy.models.heads import ClassificationHead, DenseHead, Head, VectorHead, merge_views
from lightning_taskonomy.models.readouts import TransferReadout
from lightning_taskonomy.tasks import Task, TaskKind, catalog, find

TASKS = list(catalog().values())
DENSE, NORMALS, VECTOR, CLASSES = (find(n) for n in ("depth_z", "normals", "room_layout", "scene_classification"))


def _default(task):
    if task.is_dense:
        return DenseHead
    return ClassificationHead if task.kind is TaskKind.CLASSIFICATION else VectorHead


def _features(channels, reductions, size, batch=2):
    return [
        torch.randn(batch, c, -(-size[0] // r), -(-size[1] // r)) for c, r in zip(channels, reductions, strict=True)
    ]


@pytest.mark.parametrize("name", [name for name, task in catalog().items() if task.kind is not TaskKind.SET])
@pytest.mark.parametrize("size", [(64, 64), (57, 75)])
def test_every_task_has_a_head_of_the_right_shape(name, size):
    task = find(name)
    head = _default(task)([8 * task.views], [16], task)
    out = (size[0] // task.stride, size[1] // task.stride)
    preds = head(_features([8 * task.views], [16], size), out)
    assert preds.shape == (2, task.channels, *(out if task.is_dense else ()))
    preds.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("kind", [kind for kind in TaskKind if kind is not TaskKind.SET])
def test_first_predictions_are_near_zero_but_for_directions_and_embeddings(kind):
    task = Task("some", kind, "some", channels=3)
    preds = _default(task)([32], [8], task)([torch.randn(4, 32, 8, 8)], (32, 32))
    typical = preds.norm(dim=1).median().item()
    assert 0.1 < typical < 3 if kind in (TaskKind.NORMALS, TaskKind.GROUPING) else 1e-3 < typical < 0.5


@pytest.mark.parametrize("layers", [2, 3, 4, 6, 9, 15])
@pytest.mark.parametrize(("reductions", "stride"), [([16], 1), ([4], 1), ([16], 4), ([4], 8), ([2, 4, 8, 16, 32], 1)])
def test_a_decoder_has_as_many_layers_as_asked(layers, reductions, stride):
    task, channels = DENSE.but(stride=stride), [8] * len(reductions)
    head = DenseHead(channels, reductions, task, layers=layers, width=32)
    convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) - (len(head.project) - 1) == layers
    out = (32 // stride, 48 // stride)
    assert head(_features(channels, reductions, (32, 48)), out).shape == (2, 1, *out)


def test_full_size_is_reached_by_up_convolutions_alone():
    head = DenseHead([8], [16], DENSE)
    sizes = []
    head.output.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-2:]))
    head([torch.randn(1, 8, 4, 6)], (64, 96))
    assert sizes == [(64, 96)]


def test_every_map_that_is_read_matters():
    channels, reductions = [4, 4, 4, 4], [2, 4, 8, 32]
    head = DenseHead(channels, reductions, DENSE, layers=3).eval()
    features = [f.requires_grad_() for f in _features(channels, reductions, (64, 64))]
    head(features, (64, 64)).sum().backward()
    assert features[0].grad is None  # finer than asked for
    assert all(f.grad.abs().sum() > 0 for f in features[1:])
    assert DenseHead([4], [2], DENSE, layers=3).read == [0]  # but for the only one


def test_a_vector_head_sees_where_things_are():
    head = VectorHead([3], [16], VECTOR).eval()
    image = torch.zeros(1, 3, 8, 8)
    image[..., 0, 0] = 10.0
    assert not torch.allclose(head([image], (8, 8)), head([image.flip(-1)], (8, 8)), atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_vector_head_has_as_many_layers_as_asked(layers):
    head = VectorHead([300, 600], [16, 32], VECTOR, layers=layers)
    assert sum(isinstance(m, nn.Linear) for m in head.modules()) == layers
    assert head(_features([300, 600], [16, 32], (32, 32)), (32, 32)).shape == (2, 9)


@pytest.mark.parametrize("head", [DenseHead, TransferReadout])
def test_one_image_with_one_value_per_channel_trains(head):
    build = head if head is DenseHead else lambda *args: TransferReadout(*args, head=DenseHead)
    built = build([8], [16], DENSE).train()
    built([torch.randn(1, 8, 1, 1)], (16, 16)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize(
    ("head", "task"), [(DenseHead, VECTOR), (DenseHead, CLASSES), (VectorHead, NORMALS), (ClassificationHead, VECTOR)]
)
def test_a_head_that_does_not_fit_is_refused(head, task):
    with pytest.raises(InputError, match=f"{head.__name__} does not fit task '{task.name}' of kind {task.kind.value}"):
        head([8], [16], task)
    with pytest.raises(InputError, match="does not fit"):
        TransferReadout([8], [16], task, head=head)


def test_bad_sizes_are_refused():
    for build in (
        lambda: DenseHead([8], [16], DENSE, layers=1),
        lambda: DenseHead([8], [16], DENSE, width=0),
        lambda: VectorHead([8], [16], VECTOR, layers=0),
    ):
        with pytest.raises(InputError, match="at least"):
            build()
    with pytest.raises(InputError, match="one of each"):
        DenseHead([], [], DENSE)


@pytest.mark.parametrize("sources", [1, 2, 4])
@pytest.mark.parametrize("task", [DENSE, NORMALS, VECTOR, CLASSES, find("pose_fixated"), find("segmentation_25d")])
def test_a_readout_joins_any_number_of_sources(sources, task):
    channels = [8 * task.views] * sources
    readout = TransferReadout(channels, [16] * sources, task, head=_default(task), width=16)
    features = [f.requires_grad_() for f in _features(channels, [16] * sources, (32, 48))]
    preds = readout(features, (32, 48))
    assert preds.shape == (2, task.channels, *((32, 48) if task.is_dense else ()))
    preds.square().sum().backward()
    assert all(f.grad.abs().sum() > 0 for f in features)
    assert sum(isinstance(m, nn.Conv2d) for m in readout.transfer) == 2


def test_a_readout_resamples_maps_of_another_size():
    readout = TransferReadout([8, 4, 6], [16, 8, 32], DENSE, head=DenseHead, width=16)
    assert readout(_features([8, 4, 6], [16, 8, 32], (50, 70)), (50, 70)).shape == (2, 1, 50, 70)


def test_views_keep_their_order():
    batch, views = torch.randn(3, 2, 5, 4, 6), 2
    (merged,) = merge_views([batch.flatten(0, 1)], views)
    assert merged.shape == (3, 10, 4, 6)
    assert torch.equal(merged[:, :5], batch[:, 0]) and torch.equal(merged[:, 5:], batch[:, 1])


def test_siamese_towers_share_their_weights():
    backbone = TaskonomyResNet("test_resnet").eval()
    pair = torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        (merged,) = merge_views(backbone(pair.flatten(0, 1)), 2)
        (swapped,) = merge_views(backbone(pair.flip(1).flatten(0, 1)), 2)
        (equal,) = merge_views(backbone(pair[:, :1].repeat(1, 2, 1, 1, 1).flatten(0, 1)), 2)
    assert torch.allclose(merged.roll(8, dims=1), swapped, atol=1e-5)
    assert torch.allclose(equal[:, :8], equal[:, 8:], atol=1e-5)


def test_a_small_decoder_learns_a_plane():
    head = DenseHead([2], [4], NORMALS, layers=6, width=16)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    features, target = [torch.stack([y, x]).repeat(2, 1, 1, 1)], torch.zeros(2, 3, 32, 32)
    target[:, 0, :, :16], target[:, 2, :, 16:] = 1.0, -1.0
    target[0, :, 5:9] = float("nan")
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = losses.mean(*losses.angular(head(features, (32, 32)), target))
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("task", [DENSE, NORMALS, VECTOR, CLASSES, find("segmentation_25d")])
def test_mixed_precision_trains(task):
    errors = {TaskKind.NORMALS: losses.angular, TaskKind.CLASSIFICATION: losses.cross_entropy}
    errors[TaskKind.GROUPING] = losses.grouping
    backbone = TaskonomyResNet("test_resnet")
    readout = TransferReadout([8], [16], task, head=_default(task), width=16)
    shape = (2, *(() if task.is_classes else (task.channels,)), *((32, 32) if task.is_dense else ()))
    target = torch.randint(task.channels, shape) if task.is_classes else torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16):
        preds = readout(backbone(torch.rand(2, 3, 32, 32)), (32, 32))
        loss = losses.mean(*errors.get(task.kind, losses.l1)(preds, target))
    assert preds.dtype == torch.bfloat16 and loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in [*backbone.parameters(), *readout.parameters()])


def test_a_head_of_ones_own():
    class Own(Head):
        fits = frozenset({TaskKind.VECTOR})

        def __init__(self, in_channels, reductions, task):
            super().__init__(in_channels, reductions, task)
            self.output = nn.Linear(in_channels[-1], task.channels)

        def forward(self, features, size):
            return self.output(features[-1].mean((2, 3)))

    assert Own([8], [16], VECTOR)([torch.randn(2, 8, 4, 4)], (64, 64)).shape == (2, 9)
    with pytest.raises(InputError, match="it serves vector"):
        Own([8], [16], DENSE)
