"""Fused tangents against torch's own forward mode."""

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn
from torch.func import functional_call

from lightning_taskonomy.optim.fused_tangents import FusedTangents


def tangents(layer, images, moving):
    """The output and its tangent, along random directions of the images and the parameters named."""
    torch.manual_seed(1)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(images, torch.randn_like(images)) if "images" in moving else images
        directions = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
        points = {
            name: forward_ad.make_dual(p.detach(), directions[name]) if name in moving else p.detach()
            for name, p in layer.named_parameters()
        }
        buffers = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        output = forward_ad.unpack_dual(functional_call(layer, {**points, **buffers}, (dual,)))
        return output.primal, output.tangent, buffers


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(5),
        nn.BatchNorm2d(5, affine=False),
        nn.BatchNorm2d(5, track_running_stats=False),
        nn.BatchNorm2d(5, momentum=None, eps=0.1),
        nn.BatchNorm2d(5).eval(),
        nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(5)),
        nn.Sequential(nn.Flatten(0, 1), nn.Flatten(1), nn.BatchNorm1d(12)),
    ],
    ids=["affine", "bare", "no statistics", "cumulative", "frozen", "columns", "rows"],
)
@pytest.mark.parametrize("moving", ["images weight bias", "images", "images weight", "images bias", "weight bias"])
def test_batch_normalization_has_torchs_output_and_tangent(layer, moving):
    torch.manual_seed(0)
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    images = (3 * torch.randn(4, 5, 3, 4, dtype=torch.float64) + 1).to(memory_format=torch.channels_last)
    moving = [name if name == "images" else next((p for p, _ in layer.named_parameters() if p.endswith(name)), "")
              for name in moving.split()]  # fmt: skip
    output, expected, statistics = tangents(layer, images, moving)
    with FusedTangents():
        fused, tangent, same = tangents(layer, images, moving)
    torch.testing.assert_close(fused, output, rtol=1e-12, atol=1e-12)
    assert (tangent is None) == (expected is None)
    if expected is not None:
        torch.testing.assert_close(tangent, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(same, statistics, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moving", ["weight bias", "weight", "bias", "images weight bias", ""])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions_have_torchs_output_and_tangent(moving, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias).double()
    images, names = torch.randn(2, 4, 7, 7, dtype=torch.float64), moving.split()
    output, expected, _ = tangents(layer, images, names)
    with FusedTangents():
        fused, tangent, _ = tangents(layer, images, names)
    torch.testing.assert_close(fused, output, rtol=1e-12, atol=1e-12)
    assert (tangent is None) == (expected is None)
    if expected is not None:
        torch.testing.assert_close(tangent, expected, rtol=1e-12, atol=1e-12)


def test_half_precision_within_its_rounding():
    torch.manual_seed(0)
    layer, images, moving = nn.BatchNorm2d(5), torch.randn(8, 5, 6, 6).bfloat16(), ["images", "weight", "bias"]
    output, expected, _ = tangents(layer, images, moving)
    with FusedTangents():
        fused, tangent, _ = tangents(layer, images, moving)
    assert fused.dtype == tangent.dtype == torch.bfloat16
    torch.testing.assert_close(fused, output)
    torch.testing.assert_close(tangent, expected.to(tangent.dtype), rtol=0.02, atol=0.02)
