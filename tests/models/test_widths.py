"""Channels times a factor: against what timm itself builds with such channels, and shares of multiply-adds."""

import inspect

import pytest
import timm
import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models import backbones
from lightning_taskonomy.models.backbones import (
    Backbone,
    HRNetV2,
    TaskonomyResNet,
    TimmBackbone,
    Xception,
    multiply_adds,
    shrunk,
)
from lightning_taskonomy.models.backbones.widths import rescale, scaled


class Chain(Backbone):
    """Two convolutions whose multiply-adds are known: at W x W pixels W² (27 width + 9 width²)."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.out_channels, self.reductions = [width], [1]
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1))

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


class Looks(Chain):
    """Looks at its own weights when it is made, which cannot be done on the meta device."""

    def __init__(self, width: int = 10) -> None:
        super().__init__(width)
        assert self.layers[0].weight.abs().sum().item() > 0


class Fixed(Backbone):
    """Has no width."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels, self.reductions = [4], [1]
        self.layer = nn.Conv2d(3, 4, 1)

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.layer(image)]


CLASSES = {name: getattr(backbones, name) for name in backbones.__all__ if inspect.isclass(getattr(backbones, name))}
CLASSES |= {"Chain": Chain, "Looks": Looks, "Fixed": Fixed}


def build(spec):
    arguments = dict(spec.get("init_args") or {})
    if isinstance(arguments.get("backbone"), dict):
        arguments["backbone"] = build(arguments["backbone"])
    return CLASSES[spec["class_path"].rpartition(".")[2]](**arguments)


def cost(spec, size):
    """Multiply-adds and weights."""
    with torch.device("meta"):
        backbone = build(spec).eval()
        products = multiply_adds(backbone, torch.zeros(1, 3, *size))
    return products, sum(parameter.numel() for parameter in backbone.parameters())


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("channels", "width", "multiple", "result"),
    [(512, 0.5, 1, 256), (24, 0.5, 1, 12), (100, 0.707, 1, 72), (48, 0.3, 1, 14), (30, 0.5, 3, 18), (7, 1, 1, 7)],
)
def test_channels_are_the_nearest_multiple(channels, width, multiple, result):
    assert scaled(channels, width, multiple) == result


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10t", {"channels": (32, 64, 128, 256), "stem_width": 16}),
        ("test_resnet", {"channels": (16, 24, 24, 48), "stem_width": 8}),
        ("convnext_atto", {"dims": (20, 40, 80, 160)}),
        ("test_vit", {"embed_dim": 32, "dynamic_img_size": True}),
    ],
)
def test_half_the_width_is_what_timm_builds_with_half_the_channels(name, options):
    expected = timm.create_model(name, features_only=True, **options)
    model = TimmBackbone(name, width=0.5, options={"dynamic_img_size": True} if "embed_dim" in options else None).model
    assert shapes(model) == shapes(expected)
    assert model.feature_info.channels() == expected.feature_info.channels()


def test_swin_scales_by_its_embedding():
    options = {"img_size": 32, "depths": (1,) * 4}
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", width=0.5, options=options)
    assert backbone.out_channels == [48, 96, 192, 384]
    assert [m.shape[1] for m in backbone(torch.rand(1, 3, 32, 32))] == backbone.out_channels


@pytest.mark.parametrize(
    "name", ["resnext50_32x4d", "seresnet50", "efficientnet_b0", "mobilenetv3_small_100", "regnety_002", "repvgg_a0"]
)
@pytest.mark.parametrize("width", [0.4, 1.3])
def test_families_that_have_no_such_option_scale_by_their_layers(name, width):
    with torch.device("meta"):
        full, backbone = TimmBackbone(name), TimmBackbone(name, width=width)
        maps = backbone.eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == backbone.out_channels
    for one, other in zip(full.out_channels, backbone.out_channels, strict=True):
        assert other == pytest.approx(width * one, abs=5 if one * width < 64 else 20)


@pytest.mark.parametrize(
    ("plain", "one"),
    [
        (lambda: TimmBackbone("test_resnet"), lambda: TimmBackbone("test_resnet", width=1)),
        (lambda: TaskonomyResNet("test_resnet"), lambda: TaskonomyResNet("test_resnet", width=1.0)),
    ],
)
def test_width_one_is_the_backbone_as_it_was(plain, one):
    states = []
    for make in (plain, one):
        torch.manual_seed(3)
        states.append(make().state_dict())
    torch.manual_seed(3)
    reference = timm.create_model("test_resnet", features_only=True).state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    if isinstance(plain(), TimmBackbone):
        assert all(torch.equal(value, states[1][f"model.{name}"]) for name, value in reference.items())


def test_weights_are_drawn_like_those_they_replace():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 256, 3), nn.Conv2d(256, 256, 1, groups=256)
    )
    nn.init.constant_(network[1].weight, 0.25)
    before = [layer.weight.std().item() for layer in network]
    assert rescale(network, 0.5, 3) == {3: 3, 1: 1, 64: 32, 256: 128}
    assert network[0].weight.shape == (32, 3, 3, 3) and network[3].weight.shape == (128, 1, 1, 1)
    assert network[0].weight.std().item() == pytest.approx(before[0], rel=0.1)  # the image has as many channels
    assert network[2].weight.std().item() == pytest.approx(before[2] * 2**0.5, rel=0.05)
    assert (network[1].weight == 0.25).all() and (network[1].running_var == 1).all()
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 128, 4, 4)


def test_groups_keep_their_number_or_their_size():
    network = nn.Sequential(nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, groups=3), nn.Conv2d(24, 48, 3, groups=2))
    rescale(network, 2, 3)
    assert [(m.in_channels, m.out_channels, m.groups) for m in network] == [(3, 48, 1), (48, 48, 6), (48, 96, 2)]
    assert network(torch.rand(1, 3, 8, 8)).shape[1] == 96


SHARES = [0.8, 0.6, 0.5, 0.4, 1 / 3, 0.25, 0.2, 0.1, 1.5, 2]


@pytest.mark.parametrize("share", SHARES)
def test_the_papers_sizes(share):
    spec = {"class_path": "lightning_taskonomy.Xception"}
    result = shrunk(spec, share, (256, 256), build)
    for full, part in zip(cost(spec, (256, 256)), cost(result, (256, 256)), strict=True):
        assert part == pytest.approx(share * full, rel=0.03)
    assert spec == {"class_path": "lightning_taskonomy.Xception"} and result["init_args"].keys() == {"width"}


@pytest.mark.parametrize(
    ("spec", "rel"),
    [
        ({"class_path": "TaskonomyResNet", "init_args": {"name": "resnet18", "channels": 8}}, 0.03),
        ({"class_path": "TaskonomyResNet", "init_args": {"name": "test_resnet"}}, 0.03),
        ({"class_path": "TimmBackbone", "init_args": {"name": "resnet10t"}}, 0.03),
        ({"class_path": "TimmBackbone", "init_args": {"name": "test_resnet", "width": 2}}, 0.05),
        ({"class_path": "SplitRes", "init_args": {"split": 3}}, 0.03),
        ({"class_path": "GaussianBackbone", "init_args": {"backbone": {"class_path": "SplitVGG"}}}, 0.03),
    ],
)
def test_half_of_other_backbones(spec, rel):
    result = shrunk(spec, 0.5, (32, 32), build)
    assert cost(result, (32, 32))[0] == pytest.approx(0.5 * cost(spec, (32, 32))[0], rel=rel)
    assert result == shrunk(spec, 0.5, (32, 32), build)


@pytest.mark.slow
def test_half_of_a_high_resolution_network():
    spec = {"class_path": "HRNetV2"}
    result = shrunk(spec, 0.5, (64, 64), build)
    assert cost(result, (64, 64))[0] == pytest.approx(0.5 * cost(spec, (64, 64))[0], rel=0.03)


def test_a_high_resolution_network_between_the_published_widths():
    backbone = HRNetV2(9).eval()
    assert backbone.out_channels == [10 + 18 + 36 + 72]  # 9 is rounded to a multiple of 2
    assert backbone(torch.rand(1, 3, 32, 32))[0].shape == (1, 136, 8, 8)


@pytest.mark.parametrize("name", ["Chain", "Looks"])
@pytest.mark.parametrize("share", [0.04, 0.1, 0.3, 0.5, 0.9, 2, 7])
def test_the_nearest_whole_width_by_brute_force(name, share):
    def products(width):
        return 27 * width + 9 * width**2

    widths = sorted(range(1, 100), key=lambda width: abs(products(width) - share * products(10)))
    result = shrunk({"class_path": name, "init_args": None}, share, (8, 8), build)["init_args"]["width"]
    assert result == widths[0] or abs(products(result) / products(10) - share) <= 0.005 * share


def test_random_numbers_are_not_used_up():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    shrunk({"class_path": "Looks"}, 0.5, (8, 8), build)
    assert torch.equal(torch.rand(3), expected)


def test_the_full_size_is_the_network_itself():
    for spec in (
        {"class_path": "Fixed", "init_args": {}},
        {"class_path": "TimmBackbone", "init_args": {"name": "resnet18", "pretrained": True}},
    ):
        assert shrunk(spec, 1, (8, 8), build) == spec


@pytest.mark.parametrize(
    ("spec", "share", "message"),
    [
        ({"class_path": "Chain"}, 0, "size 0; give a share"),
        ({"class_path": "Chain"}, -1, "size -1; give a share"),
        ({"class_path": "Chain"}, float("nan"), "size nan; give a share"),
        ({"class_path": "Chain"}, float("inf"), "size inf; give a share"),
        ({"class_path": "Chain"}, 1e5, "Chain at 64 times its width is still below 100000"),
        ({"class_path": "Chain"}, 0.001, "no network of 0.001 of Chain's size: the smallest has 0.031"),
        ({"class_path": "my.Fixed"}, 0.5, "Fixed has no width .*: {0.5: {class_path"),
        ({"class_path": "Xception"}, 0.0001, "the smallest has .*leaves a layer of 24 channels without any"),
        ({"class_path": "TimmBackbone", "init_args": {"name": "densenet121"}}, 0.5, "densenet121. do not fit together"),
        (
            {"class_path": "TimmBackbone", "init_args": {"name": "resnet18", "pretrained": True}},
            0.5,
            "leave pretrained out",
        ),
        ({"class_path": "TimmBackbone", "init_args": {"name": "resnet81"}}, 0.5, "no timm model 'resnet81'"),
    ],
)
def test_bad_shares_are_one_line(spec, share, message):
    with pytest.raises(InputError, match=message) as caught:
        shrunk(spec, share, (32, 32), build)
    assert "\n" not in str(caught.value)


def test_weights_of_the_full_size_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"weights of timm's 'test_resnet' do not fit width=0\.5"):
        TimmBackbone("test_resnet", pretrained=True, width=0.5)
    path = tmp_path / "resnet.pt"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(InputError, match=r"weights of timm's 'test_resnet' do not fit width=0\.5"):
        TaskonomyResNet("test_resnet", weights=path, width=0.5)


def test_weights_of_a_run_of_the_same_width_are_loaded(tmp_path):
    for make in (lambda **k: TimmBackbone("test_resnet", width=0.5, **k), lambda **k: Xception(0.1, **k)):
        trained, path = make(), tmp_path / "weights.pt"
        torch.save({f"backbone.{name}": value for name, value in trained.state_dict().items()}, path)
        again = make(weights=path)
        assert all(
            torch.equal(a, b) for a, b in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
        )
