"""The paper's Xception and its decoder: figures of the text, layers, sizes, derivatives."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import TimmBackbone, Xception, multiply_adds
from lightning_taskonomy.models.heads import XceptionHead
from lightning_taskonomy.tasks import Task, TaskKind, find

DEPTH, NORMALS, SEGMENTATION = (find(name) for name in ("depth_z", "normals", "semantic_segmentation"))


def weights(network):
    return sum(parameter.numel() for parameter in network.parameters())


def products(network, *inputs):
    """Multiply-adds by hand: for each value that a layer gives, the weights that reach it."""
    total = 0

    def count(layer, arguments, output):
        nonlocal total
        if isinstance(layer, nn.ConvTranspose2d):  # each value that is read reaches a kernel of each of its outputs
            total += arguments[0].numel() * layer.weight[0].numel()
        else:
            total += output.numel() * layer.weight[0].numel()

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    return total


def test_the_encoder_has_the_weights_and_multiply_adds_of_the_paper():
    with torch.device("meta"):
        backbone, image = Xception().eval(), torch.zeros(1, 3, 256, 256)
    assert weights(backbone) == pytest.approx(4e6, rel=0.05)
    assert multiply_adds(backbone, image) == pytest.approx(2.28e9, rel=0.05)


def test_the_encoder_has_the_layers_of_the_paper():
    convolutions = [m for m in Xception().modules() if isinstance(m, nn.Conv2d)]
    kinds = Counter((m.kernel_size[0], m.stride[0], m.groups > 1) for m in convolutions)
    # 2 in the stem and 15 separable make 17 layers; beside them a pooling's stand-in and a shortcut per halving block
    assert kinds == {
        (3, 2, False): 1,
        (3, 1, False): 1,
        (3, 1, True): 15,
        (1, 1, False): 15,
        (2, 2, False): 3,
        (1, 2, False): 3,
    }
    middle = [m for m in convolutions if m.in_channels == m.out_channels == m.groups == 512]
    assert len(middle) == 2 * 4 + 1 + 1  # four blocks, the second of the third halving block, the exit
    assert not [m for m in Xception().modules() if "Pool" in type(m).__name__]


@pytest.mark.parametrize(
    "task",
    [DEPTH, NORMALS, SEGMENTATION, Task("classes", TaskKind.SEGMENTATION, "classes", channels=18)],
    ids=lambda t: str(t.channels),
)
def test_the_decoder_has_the_weights_of_the_paper(task):
    assert weights(XceptionHead([256], [16], task)) == pytest.approx(116_000, rel=0.02)


def test_the_decoder_has_four_transposed_and_four_separable_convolutions_behind_what_reads_the_map():
    head = XceptionHead([256], [16], DEPTH)
    transposed = [m for m in head.modules() if isinstance(m, nn.ConvTranspose2d)]
    separable = [m for m in head.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [m.stride[0] for m in transposed] == [2] * 4
    assert sum(m.in_channels == 256 for m in separable) == 2 and len(separable) == 4 + 2


@pytest.mark.parametrize(
    "build", [Xception, lambda: Xception(0.5), lambda: TimmBackbone("test_convnext"), lambda: TimmBackbone("resnet18")]
)
def test_multiply_adds_are_those_counted_by_hand(build):
    backbone, image = build().eval(), torch.rand(1, 3, 64, 96)
    assert multiply_adds(backbone, image) == products(backbone, image)


def test_multiply_adds_of_a_decoder_are_those_counted_by_hand():
    head = XceptionHead([256], [16], NORMALS).eval()
    inputs = ([torch.rand(1, 256, 4, 6)], (64, 96))
    assert multiply_adds(head, *inputs) == products(head, *inputs)


def test_every_layer_but_the_output_scales():
    full, half = ([m for m in Xception(width).modules() if isinstance(m, nn.Conv2d)] for width in (1.0, 0.5))
    assert full[0].in_channels == half[0].in_channels == 3 and full[-1].out_channels == half[-1].out_channels == 256
    for one, other in zip(full[1:], half[1:], strict=True):
        assert one.in_channels == 2 * other.in_channels
    for one, other in zip(full[:-1], half[:-1], strict=True):
        assert one.out_channels == 2 * other.out_channels


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (57, 75), (1, 1)])
def test_sizes_are_rounded_up(size):
    backbone, head = Xception(0.1), XceptionHead([256], [16], NORMALS)
    (feature,) = features = backbone(torch.rand(2, 3, *size))
    assert feature.shape == (2, 256, *(-(-side // 16) for side in size))
    assert head(features, size).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("reductions", "stride", "doublings"),
    [([16], 1, 4), ([4], 1, 2), ([2, 8], 1, 3), ([16], 4, 2), ([2, 4, 8, 16, 32], 1, 4)],
)
def test_the_decoder_enlarges_as_far_as_its_map_asks(reductions, stride, doublings):
    task, channels = DEPTH.but(stride=stride), [8] * len(reductions)
    head = XceptionHead(channels, reductions, task)
    assert sum(m.stride[0] == 2 for m in head.modules() if isinstance(m, nn.ConvTranspose2d)) == doublings
    size = (64 // stride, 96 // stride)
    output = head([torch.rand(2, 8, 64 // r, 96 // r) for r in reductions], size)
    assert output.shape == (2, 1, *size)
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_forward_mode_is_the_transpose_of_reverse_mode():
    backbone, head = Xception(0.1, channels=8).double(), XceptionHead([8], [16], NORMALS).double()
    image, direction = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with forward_ad.dual_level():
        output = head(backbone(forward_ad.make_dual(image, direction)), (32, 32))
        tangent = forward_ad.unpack_dual(output).tangent
    weighting = torch.randn_like(tangent)
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(head(backbone(image), (32, 32)), image, weighting)
    assert (tangent * weighting).sum().item() == pytest.approx((gradient * direction).sum().item(), rel=1e-9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Xception(0.01), "width=0.01 leaves a layer of 24 channels without any"),
        (lambda: Xception(0.0), "width=0.0 is no factor"),
        (lambda: Xception(float("nan")), "width=nan is no factor"),
        (lambda: Xception(channels=0), "at least 1 channel"),
        (lambda: XceptionHead([8], [16], find("scene_classification")), "does not fit task 'scene_classification'"),
    ],
)
def test_bad_input_is_one_line(build, message):
    with pytest.raises(InputError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
