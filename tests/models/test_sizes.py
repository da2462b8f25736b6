"""Sizes that backbones refuse: is the size why, what would be taken, which options help."""

import pytest
import torch
from torch import nn

from lightning_taskonomy.models.backbones import Backbone, TimmBackbone
from lightning_taskonomy.models.backbones.sizes import dry_pass, taken_size

SWIN = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}


class Picky(Backbone):
    """Takes sides that a number divides, and no others."""

    def __init__(self, step, least=1):
        super().__init__()
        self.out_channels, self.reductions, self.step, self.least = [3], [1], step, least
        self.layer = nn.BatchNorm2d(3)

    def features(self, image):
        height, width = image.shape[-2:]
        if height % self.step or width % self.step or min(height, width) < self.least:
            raise RuntimeError(f"{height}x{width}?")
        return [self.layer(image)]


def refused(backbone, size):
    """What is told of images of this size."""
    image = torch.rand(2, 3, *size)
    try:
        backbone(image)
    except Exception as error:
        return backbone.refused(image, error)
    raise AssertionError("they were taken")


@pytest.mark.parametrize(("step", "least", "size", "taken"), [
    (16, 1, (40, 50), (48, 64)), (14, 1, (32, 32), (42, 42)), (8, 64, (9, 9), (64, 64)), (32, 1, (31, 64), (32, 64)),
])  # fmt: skip
def test_the_size_that_is_told_is_taken_and_is_near(step, least, size, taken):
    backbone = Picky(step, least)
    came, fits = (f"{height}x{width}" for height, width in (size, taken))
    assert str(refused(backbone, size)) == f"Picky refuses images of {came} pixels ({came}?); give images of {fits}"
    assert taken_size(backbone, 3, size) == taken
    backbone(torch.rand(2, 3, *taken))


def test_what_fails_at_any_size_is_not_the_sizes_fault():
    assert refused(Picky(10**6), (32, 32)) is None


def test_what_failed_once_and_passes_now_is_not_the_sizes_fault():
    assert Picky(8).refused(torch.zeros(1, 3, 32, 32), RuntimeError("something else")) is None
    assert Picky(8).refused(torch.zeros(1, 3, 30, 30), torch.OutOfMemoryError("full")) is None


def test_images_of_other_channels_are_told_from_other_sizes():
    message = str(refused(TimmBackbone("test_resnet", in_chans=1), (64, 64)))
    assert message.startswith("TimmBackbone takes images of 1 channels, not 3; ")


def test_a_pass_leaves_a_network_as_it_was():
    backbone = TimmBackbone("test_resnet").train()
    backbone.model.layer1.eval()
    modes = [part.training for part in backbone.modules()]
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    random = torch.get_rng_state()
    dry_pass(backbone, 3, (32, 32))
    assert modes == [part.training for part in backbone.modules()]
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in backbone.parameters())


@pytest.mark.parametrize(
    ("name", "given", "size", "options"),
    [
        ("vit_tiny_patch16_224", {"depth": 3}, (32, 48), [{"img_size": [32, 48]}, {"dynamic_img_size": True}]),
        ("vit_tiny_patch16_224", {"depth": 3, "dynamic_img_size": True}, (40, 40), [{"dynamic_img_pad": True}]),
        ("swin_tiny_patch4_window7_224", SWIN, (64, 64), [{"img_size": [64, 64]}, {"strict_img_size": False}]),
    ],
)
def test_the_options_that_are_told_help(name, given, size, options):
    message = str(refused(TimmBackbone(name, options=given), size))
    assert message.startswith(f"TimmBackbone refuses images of {size[0]}x{size[1]} pixels (Input height")
    for option in options:
        ((key, value),) = option.items()
        assert f"{key}: {str(value).lower()}" in message
        backbone = TimmBackbone(name, options={**given, **option})
        maps = backbone(torch.rand(1, 3, *size))
        expected = [
            (c, round(size[0] / r), round(size[1] / r))
            for c, r in zip(backbone.out_channels, backbone.reductions, strict=True)
        ]
        if "pad" not in key:  # padding rounds up
            assert [tuple(m.shape[1:]) for m in maps] == expected


def test_a_convolutional_network_that_halves_five_times_is_told_a_multiple_of_32():
    assert str(refused(TimmBackbone("hrnet_w18_small"), (40, 40))).endswith("; give images of 64x64")
