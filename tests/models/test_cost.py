"""What inference costs: counted by hand, and in the form that the files have."""

import json

import pytest
import torch
from torch import nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.inference import InferenceCost, InferenceCosts, Machine
from lightning_taskonomy.models.backbones import TimmBackbone
from lightning_taskonomy.models.cost import (
    activation_peak,
    latencies,
    measure_inference,
    multiply_adds,
    weight_bytes,
)
from lightning_taskonomy.models.heads import DenseHead
from lightning_taskonomy.tasks import Task, TaskKind


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Linear(7, 5), (3, 7), 3 * 7 * 5),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 10, 10), 5 * 5 * 8 * 3 * 9),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (1, 6, 4, 4), 4 * 4 * 6 * 9),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), (1, 4, 5, 5), 5 * 5 * 4 * 2 * 4),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (1, 3, 4, 4), 0),
    ],
    ids=["linear", "convolution", "depthwise", "transposed", "no multiply-add that counts"],
)
def test_multiply_adds_are_those_of_the_formula(layer, shape, expected):
    assert multiply_adds(layer.eval(), torch.zeros(shape)) == expected


def test_multiply_adds_of_a_whole_network_are_those_that_torchvision_publishes():
    from torchvision.models import ResNet18_Weights, resnet18

    published = ResNet18_Weights.IMAGENET1K_V1.meta
    network = resnet18(num_classes=1000).eval()
    assert multiply_adds(network, torch.zeros(1, 3, 224, 224)) == pytest.approx(published["_ops"] * 1e9, rel=1e-3)
    assert sum(weight.numel() for weight in network.parameters()) == published["num_params"]


def test_weights_count_buffers_in_bytes():
    assert weight_bytes(nn.BatchNorm2d(4)) == 4 * 4 * 4 + 8  # scale, shift, mean, variance; a counter of 64 bits
    assert weight_bytes(nn.Linear(7, 5).half()) == 2 * (7 * 5 + 5)


class Branches(nn.Module):
    """Keeps its first result while a larger one comes and goes."""

    def forward(self, image):
        kept = image * 2  # 10
        wide = image.repeat(8)  # 80
        folded = wide.view(8, -1).sum(0)  # 10; the view takes nothing
        del wide
        return [kept + folded, kept.exp()]


@pytest.mark.parametrize(
    ("module", "length", "numbers"),
    [
        (nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 3)), 4, 4 + 100 + 100),
        (nn.Sequential(nn.Linear(4, 100), nn.ReLU(inplace=True), nn.Linear(100, 3)), 4, 4 + 100 + 3),
        (nn.Identity(), 4, 4),
        (Branches(), 10, 10 + 10 + 80 + 10),
    ],
    ids=["a result beside what it is made from", "in place", "only the input", "branches"],
)
def test_the_peak_of_activations_is_what_lives_at_once(module, length, numbers):
    assert activation_peak(module.eval(), torch.zeros(length)) == 4 * numbers


def test_what_several_inputs_share_counts_once():
    image = torch.zeros(2, 50)

    class Sum(nn.Module):
        def forward(self, parts):
            return parts[0] + parts[1]

    assert activation_peak(Sum(), [image[0], image[1]]) == 4 * (100 + 50)


def test_calls_are_timed_in_turn_and_threads_come_back():
    made, threads = [], torch.get_num_threads()
    taken = latencies([lambda: made.append("a"), lambda: made.append("b")], repeats=2, warm_up=1, threads=threads + 1)
    assert made == ["a", "b"] * 3 and torch.get_num_threads() == threads
    assert len(taken) == 2 and min(taken) > 0
    with pytest.raises(InputError, match="repeats 0, threads 1 and warm_up 3"):
        latencies([], repeats=0)


TASKS = {"depth": Task("depth", TaskKind.DENSE, "depth"), "edges": Task("edges", TaskKind.DENSE, "edges", stride=4)}


@pytest.fixture
def networks():
    def network(width):
        torch.manual_seed(0)
        backbone = TimmBackbone("test_resnet")
        heads = {
            name: DenseHead(backbone.out_channels, backbone.reductions, task, layers=3, width=width)
            for name, task in TASKS.items()
        }
        return backbone, heads

    return {1: network(16), 0.5: network(8)}


def test_encoders_and_decoders_are_measured_apart_and_stay_as_they_are(networks, tmp_path):
    backbone, heads = networks[1]
    backbone.train()
    heads["depth"].eval()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    state = torch.get_rng_state()
    costs = measure_inference(networks, (32, 64), tasks=TASKS, repeats=1, warm_up=0)
    assert backbone.training and not heads["depth"].training and heads["edges"].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)

    keys = [(row.size, row.part, row.task) for row in costs.rows]
    assert keys == [(size, part, task) for size in (1.0, 0.5)
                    for part, task in (("encoder", ""), ("decoder", "depth"), ("decoder", "edges"))]  # fmt: skip
    encoder, depth, edges = costs.rows[:3]
    assert encoder.snt == 1 and encoder.weights == sum(weight.numel() for weight in backbone.parameters())
    maps = [(2048 // r**2, c) for r, c in zip(backbone.reductions, backbone.out_channels, strict=True) if r >= 4]
    assert edges.multiply_adds == sum(9 * pixels * channels * 16 for pixels, channels in maps) + 9 * 128 * 16 * (16 + 1)
    assert depth.snt == depth.multiply_adds / encoder.multiply_adds
    assert min(row.latency_1 for row in costs.rows) > 0 and min(row.latency_32 for row in costs.rows) > 0
    features = sum(4 * 2048 // r**2 * c for r, c in zip(backbone.reductions, backbone.out_channels, strict=True))
    assert depth.memory > features and encoder.memory >= features
    assert costs.machine == Machine.here(threads=1)

    costs.write(tmp_path)
    assert InferenceCosts.read(tmp_path / "inference.csv") == costs


def test_without_the_full_size_there_is_no_unit(networks):
    with pytest.raises(InputError, match=r"sizes 0.5: add 1, the full size"):
        measure_inference({0.5: networks[0.5]}, (32, 32))


ROW = InferenceCost(
    size=1.0,
    part="encoder",
    weights=2,
    weight_bytes=8,
    multiply_adds=10,
    latency_1=1.0,
    latency_32=2.0,
    memory=4,
    snt=1,
)


@pytest.fixture
def folder(tmp_path):
    InferenceCosts((ROW,), Machine.here()).write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("encoder,,2", r"inference.csv line 2: .*; measure inference again"),
        ("weights,", r"inference.csv line 2: no column 'weights'; measure"),
        ("1.0,encoder", r"line 2: size -1.0 is not a finite number above 0"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(folder, change, message):
    new = {"encoder,,2": "coder,,2", "weights,": "heights,", "1.0,encoder": "-1.0,encoder"}[change]
    file = folder / "inference.csv"
    file.write_text(file.read_text().replace(change, new, 1))
    with pytest.raises(InputError, match=message) as error:
        InferenceCosts.read(file)
    assert "\n" not in str(error.value)


def test_a_missing_machine_and_parts_not_measured_are_named(folder):
    (folder / "machine.json").unlink()
    with pytest.raises(InputError, match=r"machine\.json: No such file or directory; measure inference again"):
        InferenceCosts.read(folder / "inference.csv")
    costs = InferenceCosts((ROW,), Machine.here())
    with pytest.raises(InputError, match=r"no encoder of size 0.5 was measured, only of sizes 1"):
        costs.encoder(0.5)
    with pytest.raises(InputError, match="no decoder of depth at size 1 was measured"):
        costs.decoders(1, ["depth"])
    with pytest.raises(InputError, match="two costs of the same size"):
        InferenceCosts((ROW, ROW), Machine.here())


def test_times_of_another_machine_are_refused(folder):
    Machine.here(threads=7).refuse_elsewhere()
    plain = json.loads((folder / "machine.json").read_text())
    for change, words in (
        ({"processor": "Z80"}, "processor 'Z80' there"),
        ({"torch": "0.1"}, "torch '0.1' there"),
        ({"gpu": "Voodoo 2"}, "GPU 'Voodoo 2' there, "),
    ):
        with pytest.raises(InputError, match=rf"another machine \({words}.*\): measure inference here, or set other_"):
            Machine(**{**plain, **change}).refuse_elsewhere()


@pytest.mark.gpu
def test_a_gpu_is_measured_by_its_events_and_its_allocator(networks):
    costs = measure_inference(networks, (32, 32), device="cuda", repeats=2)
    costs.machine.refuse_elsewhere()
    assert costs.machine.gpu == torch.cuda.get_device_name(0)
    alone = activation_peak(nn.ReLU().cuda(), torch.zeros(1 << 20, device="cuda"))
    assert alone == 2 * 4 * (1 << 20)
