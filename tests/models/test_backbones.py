"""The contract of every backbone, and how weights get into one."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone, HRNetV2, TaskonomyResNet, TimmBackbone, Xception
from lightning_taskonomy.models.heads import LinearHead
from lightning_taskonomy.models.sources import FrozenSources
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, TaskKind

BACKBONES = {
    "timm resnet": lambda: TimmBackbone("test_resnet"),
    "timm two maps": lambda: TimmBackbone("test_resnet", out_indices=[2, 4]),
    "timm dilated": lambda: TimmBackbone("test_resnet", output_stride=8),
    "timm convnext": lambda: TimmBackbone("test_convnext"),
    "timm transformer": lambda: TimmBackbone("test_vit", options={"dynamic_img_size": True, "dynamic_img_pad": True}),
    "taskonomy": lambda: TaskonomyResNet("test_resnet"),
    "taskonomy wide": lambda: TaskonomyResNet("test_resnet", channels=16, output_stride=8),
    "taskonomy resnet10t": lambda: TaskonomyResNet("resnet10t"),
    "taskonomy narrow": lambda: TaskonomyResNet("test_resnet", width=0.5),
    "taskonomy one stage": lambda: TaskonomyResNet("resnet18", channels=16, width=0.5, stages=1),
    "timm one map, narrow": lambda: TimmBackbone("resnet18", out_indices=[1], width=0.25),
    "timm narrow": lambda: TimmBackbone("test_convnext", width=0.5),
    "timm narrow transformer": lambda: TimmBackbone(
        "test_vit", width=0.5, options={"dynamic_img_size": True, "dynamic_img_pad": True}
    ),
    "xception": lambda: Xception(),
    "xception narrow": lambda: Xception(0.1, channels=16),
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [(64, 64), (57, 75)])
def test_contract(name, size):
    backbone = BACKBONES[name]()
    maps = backbone(torch.rand(2, 3, *size))
    assert len(maps) == len(backbone.out_channels) == len(backbone.reductions)
    assert list(backbone.reductions) == sorted(backbone.reductions)
    for feature, channels, reduction in zip(maps, backbone.out_channels, backbone.reductions, strict=True):
        assert feature.shape[:2] == (2, channels)
        for side, given in zip(feature.shape[2:], size, strict=True):
            assert given // reduction <= side <= -(-given // reduction)
    sum(feature.mean() for feature in maps).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())
    backbone.eval()
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        for one, other in zip(backbone(image), backbone(image), strict=True):
            assert torch.equal(one, other) and one.isfinite().all()


def test_hrnet_gives_the_four_branches_at_a_quarter():
    backbone = HRNetV2(18).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        (feature,) = backbone(image)
        branches = backbone.model(backbone.normalise(image))
    assert backbone.out_channels == [270] and backbone.reductions == [4] and feature.shape == (1, 270, 16, 24)
    assert [b.shape[1] for b in branches] == [18, 36, 72, 144] and torch.equal(feature[:, :18], branches[0])
    assert torch.allclose(feature[:, 18:54, 0, 0], branches[1][:, :, 0, 0])  # bilinear keeps a corner


def test_channels_last_maps_come_channels_first():
    backbone = TimmBackbone(
        "swin_tiny_patch4_window7_224", out_indices=[0, 1], options={"img_size": 32, "depths": (1,) * 4}
    )
    assert [tuple(m.shape) for m in backbone(torch.rand(1, 3, 32, 32))] == [(1, 96, 8, 8), (1, 192, 4, 4)]


def test_taskonomy_pools_nowhere():
    backbone = TaskonomyResNet("resnet18")
    pools = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    assert not any(isinstance(module, pools) for module in backbone.modules())


def test_a_taskonomy_resnet_of_one_stage_is_a_small_network_at_a_quarter():
    backbone = TaskonomyResNet("resnet18", channels=16, width=0.5, stages=1)
    assert backbone.out_channels == [16] and backbone.reductions == [4]
    stem = 3 * 32 * 49 + 2 * 32 + 32 * 32 * 9 + 2 * 32  # 7x7, then the strided 3x3 in place of a pool
    blocks = 4 * (32 * 32 * 9 + 2 * 32)
    assert sum(p.numel() for p in backbone.parameters()) == stem + blocks + 32 * 16 * 9 + 2 * 16
    with pytest.raises(InputError, match=r"stages=5.*1 to 4 stages"):
        TaskonomyResNet("resnet18", stages=5)


def test_images_are_normalised_inside():
    backbone = TimmBackbone("test_resnet")
    given = torch.tensor(backbone.model.pretrained_cfg["mean"]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert backbone.normalise(given).abs().max() < 1e-6
    assert not {"mean", "std"} & set(backbone.state_dict())
    assert TimmBackbone("test_resnet", in_chans=1)(torch.rand(2, 1, 64, 64))[0].shape[0] == 2


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("test_resnet", {}), ("test_convnext", {}), ("test_vit", {"img_size": 64})],
)
def test_weights_of_a_timm_model(tmp_path, name, options, suffix):
    torch.manual_seed(1)
    whole = timm.create_model(name, num_classes=7).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(whole.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in whole.state_dict().items()}}, path)
    # the same image size as the file's model, so that position embeddings need no resampling
    size = timm.create_model(name).pretrained_cfg["input_size"][-1]
    backbone = TimmBackbone(name, weights=path).eval()
    image = torch.rand(1, 3, size, size)
    with torch.no_grad():
        expected = whole.forward_intermediates(backbone.normalise(image), intermediates_only=True)
        assert torch.allclose(backbone(image)[-1], expected[-1], atol=1e-5)
    TimmBackbone(name, weights=path, options=options)


@pytest.mark.parametrize(
    "build", [lambda **k: TimmBackbone("test_resnet", **k), lambda **k: TaskonomyResNet("test_resnet", **k)]
)
def test_weights_of_a_run(tmp_path, build):
    trained, path = build(), tmp_path / "weights.safetensors"
    save_file({f"backbone.{k}": v for k, v in trained.state_dict().items()} | {"heads.a.weight": torch.ones(2)}, path)
    torch.manual_seed(5)
    for again in (build(weights=path), build(weights=path, pretrained=True)):
        for one, other in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(one, other)


def test_taskonomy_takes_an_ordinary_resnet(tmp_path):
    whole, path = timm.create_model("test_resnet"), tmp_path / "resnet.pt"
    torch.save(whole.state_dict(), path)
    backbone = TaskonomyResNet("test_resnet", weights=path)
    assert torch.equal(backbone.model.layer4[0].conv1.weight, whole.layer4[0].conv1.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), r"1 missing \(layer1.0.conv1.weight\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 not in the network \(extra\)"),
        (lambda s: s.update({"bn1.weight": torch.zeros(3)}), r"1 of another shape \(bn1.weight \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    state, path = timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pt"
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError, match=message):
        TimmBackbone("test_resnet", weights=path)


def test_weights_of_another_run_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({f"backbone.{k}": v for k, v in TimmBackbone("test_convnext").state_dict().items()}, path)
    with pytest.raises(InputError, match="do not fit TimmBackbone"):
        TimmBackbone("test_resnet", weights=path)


class _Payload:
    pass


@pytest.mark.parametrize("content", [None, b"", b"not a file of weights", [1, 2], {"a": 1}, {}, _Payload()])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_hold_no_weights_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match="weight file"):
        TimmBackbone("test_resnet", weights=path)


def test_an_unknown_backbone_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"no timm model 'resnet_18'; did you mean 'resnet18'"):
        TimmBackbone("resnet_18")


@pytest.mark.parametrize(
    "build",
    [
        lambda: TimmBackbone("test_resnet", out_indices=[9]),
        lambda: TimmBackbone("test_vit", output_stride=8),
        lambda: TimmBackbone("test_resnet", options={"nonsense": 1}),
        lambda: TaskonomyResNet("test_convnext"),
        lambda: TaskonomyResNet("test_resnet", output_stride=5),
        lambda: TaskonomyResNet("test_resnet", channels=0),
    ],
)
def test_what_a_model_cannot_do_is_said(build):
    with pytest.raises(InputError, match=r"test_resnet|test_vit|test_convnext|channels="):
        build()


def test_pretrained_weights_that_cannot_be_downloaded(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    with pytest.raises(InputError, match=r"'test_resnet' cannot be had .no network.; give a file"):
        TimmBackbone("test_resnet", pretrained=True)


def test_a_backbone_of_ones_own():
    class Own(Backbone):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.out_channels, self.reductions = [4], [2]

        def features(self, image):
            return [self.convolution(image)]

    assert Own()(torch.rand(1, 3, 8, 8))[0].shape == (1, 4, 4, 4)


class Halving(Backbone):
    """Means of 8 x 8 pixels: refuses sides that are no multiples of 8."""

    multiple = 8

    def __init__(self):
        super().__init__(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
        self.out_channels, self.reductions = [3], [8]

    def features(self, image):
        assert image.shape[-1] % 8 == image.shape[-2] % 8 == 0
        return [nn.functional.avg_pool2d(image, 8)]


def test_sides_that_are_no_multiples_are_padded_by_the_mean_colour():
    image = torch.rand(2, 3, 16, 20)
    padded = torch.cat([image, torch.full((2, 3, 16, 4), 0.5)], -1)
    (feature,), (expected,) = Halving()(image), Halving()(padded)
    assert torch.allclose(feature, expected, atol=1e-6) and Halving().padded((16, 20)) == (16, 24)
    assert torch.equal(Halving()(padded)[0], Halving().features(padded - 0.5)[0])


def test_predictions_of_padded_images_are_cut_back():
    """A segmentation of an odd image is that of the padded one, cut: no pixel is moved."""
    task = Task("parts", TaskKind.SEGMENTATION, target="semantic", channels=4)
    module = MultiTaskModule([task], Halving(), heads={"parts": LinearHead}).eval()
    image = torch.rand(1, 3, 16, 20)
    padded = torch.cat([image, torch.full((1, 3, 16, 4), 0.5)], -1)
    with torch.no_grad():
        preds, whole = module({"image": image})["parts"], module({"image": padded})["parts"]
    assert preds.shape == (1, 4, 16, 20) and torch.allclose(preds, whole[..., :20], atol=1e-6)
    batch = {"image": image, "semantic": torch.randint(0, 4, (1, 16, 20))}
    assert module.losses(batch)[0]["parts"].isfinite()


def test_frozen_sources_pad_alike():
    sources = FrozenSources([Halving(), TimmBackbone("test_resnet")])
    assert sources.multiple == 8 and sources.padded((20, 20)) == (24, 24)
    ours, *others = sources(torch.rand(1, 3, 20, 20))
    assert ours.shape[-2:] == (3, 3) and others[0].shape[-1] * sources.reductions[1] == 24


def test_hrnet_takes_any_size():
    backbone = HRNetV2(9).eval()
    with torch.no_grad():
        (feature,) = backbone(torch.rand(1, 3, 40, 57))
    assert feature.shape[-2:] == (16, 16) and backbone.padded((40, 57)) == (64, 64)
