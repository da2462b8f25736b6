"""The heads of "Factors of Influence": their weights, as its Table 2 counts them, shapes and what they compute."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.heads import (
    CenterHead,
    HRNetClassificationHead,
    KeypointHead,
    LinearDepthHead,
    LinearHead,
)
from lightning_taskonomy.models.resize import resize
from lightning_taskonomy.tasks import Task, TaskKind, find
from lightning_taskonomy.tasks.catalog.objects import detection, keypoints

DEPTH, SEMANTIC, SCENE = (find(name) for name in ("depth_z", "semantic_segmentation", "scene_classification"))
BOXES = detection("things", [str(i) for i in range(20)])
PEOPLE = keypoints("people", [str(i) for i in range(17)], range(17), [0.1] * 17)
HEADS = {
    "depth": (LinearDepthHead, DEPTH), "segmentation": (LinearHead, SEMANTIC.but(channels=20, class_names=None)),
    "detection": (CenterHead, BOXES), "keypoints": (KeypointHead, PEOPLE),
}  # fmt: skip


def weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_heads_have_the_weights_of_table_2_on_720_channels():
    """721, 14 K, 2.4 M and 10 M: the first two by the formulas of the paper, the others as far as it prints them."""
    counts = {name: weights(head([720], [4], task)) for name, (head, task) in HEADS.items()}
    assert counts["depth"] == 721
    assert counts["segmentation"] == 721 * 20 and round(counts["segmentation"] / 1000) == 14
    assert round(counts["detection"] / 1e6, 1) == 2.4 and round(counts["keypoints"] / 1e6) == 10
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    assert all(f"| {count:,} |" in text for count in counts.values()), "the table in the docs"


@pytest.mark.slow
def test_the_backbone_has_69_million_weights_without_timms_classifier():
    """The published HRNetV2-W48 for segmentation has 65.8 M, of which 0.5 M are its head; the paper prints 69 M."""
    from lightning_taskonomy.models.backbones import HRNetV2

    backbone = HRNetV2(48)
    assert backbone.out_channels == [720] and backbone.reductions == [4]
    assert weights(backbone) / 1e6 == pytest.approx(65.3, abs=0.3)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize(("channels", "reductions"), [([12], [4]), ([6, 8, 10, 12, 14], [2, 4, 8, 16, 32]), ([9], [2])])
@pytest.mark.parametrize("size", [(64, 64), (57, 75)])
def test_heads_read_any_backbone(name, channels, reductions, size):
    head, task = HEADS[name]
    built = head(channels, reductions, task)
    features = [
        torch.randn(2, c, -(-size[0] // r), -(-size[1] // r)) for c, r in zip(channels, reductions, strict=True)
    ]
    out = (size[0] // task.stride, size[1] // task.stride)
    preds = built(features, out)
    wide = {"detection": 24, "keypoints": 58}.get(name, task.channels)
    assert preds.shape == (2, wide, *out)
    preds.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


def test_one_convolution_per_map_is_one_convolution_of_all_maps_side_by_side():
    head = LinearHead([3, 5], [4, 8], Task("some", TaskKind.DENSE, "some", 2))
    features = [torch.randn(1, 3, 8, 8), torch.randn(1, 5, 4, 4)]
    whole = torch.cat([head.output.weight, head.others[0].weight], 1)
    wanted = F.conv2d(torch.cat([features[0], resize(features[1], (8, 8))], 1), whole, head.output.bias)
    torch.testing.assert_close(head(features, (8, 8)), wanted)


def test_class_probabilities_are_enlarged_and_sum_to_one():
    head = LinearHead([6], [4], SEMANTIC)
    nn.init.normal_(head.output.weight, std=30.0)
    features = [torch.randn(2, 6, 8, 8)]
    preds = head(features, (32, 32))
    chances = F.interpolate(head.linear(features).softmax(1), size=(32, 32), mode="bilinear")
    torch.testing.assert_close(preds.softmax(1), chances)
    loss = F.cross_entropy(preds, torch.randint(21, (2, 32, 32)))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in head.parameters()), "certain and wrong"


def test_depths_are_the_softplus_of_the_convolution_whatever_shift_and_scale():
    head, features = LinearDepthHead([6], [4], DEPTH), [torch.randn(2, 6, 8, 8)]
    depths = DEPTH.shift + DEPTH.scale * head(features, (32, 32))
    wanted = F.interpolate(F.softplus(head.linear(features)), size=(32, 32), mode="bilinear")
    torch.testing.assert_close(depths, wanted)
    assert abs(depths.median() - DEPTH.shift) < 0.5, "near the mean depth at the start"
    nn.init.normal_(head.output.weight, std=30.0)
    assert (DEPTH.shift + DEPTH.scale * head(features, (32, 32))).min() >= -1e-6
    with pytest.raises(InputError, match="LinearDepthHead does not fit task 'curvature' of 2 channels"):
        LinearDepthHead([6], [4], find("curvature"))


def test_the_classification_head_on_an_hrnets_branches_is_timms():
    """Weight by weight: the same shapes, and the same output once they are copied."""
    torch.manual_seed(0)
    theirs = timm.create_model("hrnet_w18_small", num_classes=6).eval()
    branches = [torch.randn(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate((16, 32, 64, 128))]
    ours = HRNetClassificationHead([16, 32, 64, 128], [4, 8, 16, 32], SCENE).eval()
    parts = [theirs.incre_modules, theirs.downsamp_modules, theirs.final_layer, theirs.classifier]
    state = {}
    for name, part in zip(["increase", "halve", "final", "output"], parts, strict=True):
        for key, value in part.state_dict().items():
            inner = key.replace(".0.", ".", 1) if name == "increase" else key
            state[f"{name}.{inner}"] = value
    ours.load_state_dict(state)
    wanted = theirs.incre_modules[0](branches[0])
    for i, halve in enumerate(theirs.downsamp_modules):
        wanted = theirs.incre_modules[i + 1](branches[i + 1]) + halve(wanted)
    wanted = theirs.classifier(theirs.final_layer(wanted).mean((2, 3)))
    torch.testing.assert_close(ours(branches, (64, 64)), wanted)


@pytest.mark.parametrize(("channels", "reductions", "halvings"), [([45], [4], 3), ([8], [16], 1), ([8, 8], [2, 32], 0),
                                                                  ([8, 9], [8, 64], 2)])  # fmt: skip
def test_the_classification_head_ends_at_a_thirty_second(channels, reductions, halvings):
    head = HRNetClassificationHead(channels, reductions, SCENE, width=8, features=32)
    features = [torch.randn(2, c, -(-96 // r), -(-70 // r)) for c, r in zip(channels, reductions, strict=True)]
    assert len(head.halve) == halvings and head(features, (96, 70)).shape == (2, 6)


def test_heads_refuse_what_they_cannot_read():
    with pytest.raises(InputError, match="CenterHead does not fit task 'depth_z' of kind dense"):
        CenterHead([8], [4], DEPTH)
    with pytest.raises(InputError, match="CenterHead with neck=0, hidden=256: both at least 1"):
        CenterHead([8], [4], BOXES, neck=0)
    with pytest.raises(InputError, match=r"KeypointHead with hidden=256 for task 'things' with labels \['boxes', 'obj"):
        KeypointHead([8], [4], BOXES)
    with pytest.raises(InputError, match=r"got maps at reductions \[12\]; it reads maps at powers of two"):
        HRNetClassificationHead([8], [12], SCENE)
