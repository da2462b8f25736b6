"""Deployed networks outside this library: torch.export and ONNX give what the module gives."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from lightning_taskonomy.cli import main
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.modules import GroupedModule, MultiTaskModule
from lightning_taskonomy.modules.exporting import export_networks
from lightning_taskonomy.tasks import Task, TaskKind
from lightning_taskonomy.training import execute

DEPTH = Task("depth", TaskKind.DENSE, "depth", shift=3.0, scale=2.0)
CLASSES = Task("classes", TaskKind.SEGMENTATION, "classes", 4)
NORMALS = Task("normals", TaskKind.NORMALS, "normals", 3)
POSE = Task("pose", TaskKind.VECTOR, "pose", 6, input="pair_fixated")
SIZE = (16, 24)


class Convolving(Backbone):
    """A convolution with batch normalisation."""

    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [4], [2]
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())

    def features(self, image):
        return [self.layers(image)]


class Looking(Backbone):
    """Goes by what it sees, which no exporter can follow."""

    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [3], [1]

    def features(self, image):
        return [image if image.mean() > 0 else -image]


class Decomposing(Backbone):
    """Uses an operation that torch.export knows and ONNX does not."""

    def __init__(self):
        super().__init__()
        self.out_channels, self.reductions = [3], [1]

    def features(self, image):
        return [torch.linalg.qr(image)[1]]


class Counting(Convolving):
    """Counts in Python, for one number of images alone."""

    def features(self, image):
        return [feature * len(list(image)) for feature in super().features(image)]


def network(backbone, *tasks):
    torch.manual_seed(0)
    model = MultiTaskModule(list(tasks), backbone)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):  # as if trained: statistics other than 0 and 1
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return model


def grouping():
    return GroupedModule([network(Convolving(), DEPTH, NORMALS), network(Convolving(), CLASSES, POSE)])


def run_onnx(file, *inputs):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert all(node.shape[0] == "batch" for node in session.get_inputs())
    named = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs, strict=True)}
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, named)), strict=True))


def expected(model, image, pair):
    with torch.no_grad():
        return model.eval()({"image": image, "pair_fixated": pair})


def test_onnx_gives_what_the_module_gives_for_any_number_of_images(tmp_path):
    model, file = grouping(), tmp_path / "choice.onnx"
    assert export_networks(model, file, "onnx", SIZE) < 1e-4
    for count in (1, 5):
        image, pair = torch.rand(count, 3, *SIZE), torch.rand(count, 2, 3, *SIZE)
        outputs = run_onnx(file, image, pair)
        answers = expected(model, image, pair)
        assert list(outputs) == ["depth", "normals", "classes", "pose"]
        for name, output in outputs.items():
            torch.testing.assert_close(output, answers[name], rtol=0, atol=1e-4)


def test_a_program_of_torch_gives_what_the_module_gives(tmp_path):
    model, file = grouping(), tmp_path / "choice.pt2"
    export_networks(model, file, "torch", SIZE)
    image, pair = torch.rand(4, 3, *SIZE), torch.rand(4, 2, 3, *SIZE)
    outputs = torch.export.load(file).module()(image, pair)
    for output, answer in zip(outputs, expected(model, image, pair).values(), strict=True):
        torch.testing.assert_close(output, answer)


@pytest.mark.slow
def test_decoded_outputs_are_what_a_person_wants(tmp_path):
    model, file = GroupedModule([network(Convolving(), NORMALS, CLASSES)]), tmp_path / "choice.pt2"
    export_networks(model, file, "torch", SIZE, decode=True, batch=1)
    image = torch.rand(1, 3, *SIZE)
    normals, classes = torch.export.load(file).module()(image)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(1, *SIZE))
    assert torch.equal(classes, model.eval()(image)["classes"].argmax(1))


@pytest.mark.parametrize(
    ("form", "suffix", "backbone"),
    [("torch", "pt2", Looking), pytest.param("onnx", "onnx", Decomposing, marks=pytest.mark.slow)],
)
def test_a_network_that_cannot_be_exported_is_named_and_the_others_are_written(form, suffix, backbone, tmp_path):
    model = GroupedModule([network(Convolving(), DEPTH), network(backbone(), CLASSES)])
    with pytest.raises(InputError) as refused:
        export_networks(model, tmp_path / f"choice.{suffix}", form, SIZE)
    message = str(refused.value)
    assert message.startswith(f"network 1 (classes, {backbone.__name__}) cannot be exported as {form} (")
    assert message.endswith(f"the others are in choice_network_0.{suffix}; --format safetensors takes any network")
    assert "\n" not in message and [file.name for file in tmp_path.iterdir()] == [f"choice_network_0.{suffix}"]


def test_a_lone_network_that_cannot_be_exported_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"network 0 \(classes, Looking\) cannot be exported as torch"):
        export_networks(GroupedModule([network(Looking(), CLASSES)]), tmp_path / "choice.pt2", "torch", SIZE)
    assert not list(tmp_path.iterdir())


def test_a_network_of_one_number_of_images_says_so(tmp_path):
    model, file = GroupedModule([network(Counting(), CLASSES)]), tmp_path / "choice.pt2"
    with pytest.raises(InputError, match="it takes one number of images alone; give it as --batch"):
        export_networks(model, file, "torch", SIZE)
    assert export_networks(model, file, "torch", SIZE, batch=3) < 1e-5


@pytest.fixture(scope="module")
def runs(tiny_fit, tmp_path_factory):
    """Two run folders of one network each."""
    root = tmp_path_factory.mktemp("runs")
    for name, tasks in (("first", ("depth_z", "normals")), ("second", ("normals",))):
        execute(tiny_fit(*tasks), root / name)
    return root


@pytest.mark.slow
@pytest.mark.recipe
def test_runs_are_exported_by_a_command(runs, tmp_path, capsys):
    folders, serves = f"[{runs / 'first'}, {runs / 'second'}]", "[[depth_z], [normals]]"
    weights = tmp_path / "choice.safetensors"
    assert main(["export", folders, "--serves", serves, "--format", "safetensors", "--out", str(weights)]) == 0
    again = GroupedModule.from_runs([runs / "first", runs / "second"], [["depth_z"], ["normals"]])
    assert (
        main(["export", str(weights), "--format", "torch", "--out", str(tmp_path / "choice.pt2"), "--size", "32"]) == 0
    )
    assert "depth_z, normals; largest difference" in capsys.readouterr().out
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "black.png")
    data = json.dumps({"class_path": "ImageFiles", "init_args": {"paths": [str(tmp_path / "black.png")], "size": 32}})
    predict = ["predict", "--config", str(tmp_path / "choice.yaml"), "--weights", str(weights), "--data", data]
    assert main([*predict, "--out", str(tmp_path), "--trainer.accelerator", "cpu", "--trainer.logger", "false"]) == 0
    pictures = sorted(file.name for file in (tmp_path / "predictions").iterdir())
    assert pictures == ["black-depth_z.png", "black-normals.png"]
    image = torch.rand(3, 3, 32, 32)
    outputs = torch.export.load(tmp_path / "choice.pt2").module()(image)
    for output, answer in zip(outputs, again(image).values(), strict=True):
        torch.testing.assert_close(output, answer)
    size = sum(value.numel() for value in again.deployed().state_dict().values())
    assert size < sum(value.numel() for value in again.state_dict().values()), "the unused head is left out"
    assert abs(weights.stat().st_size - 4 * size) < 0.1 * weights.stat().st_size


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "32", "--format", "onnx"], "must end in .onnx for format onnx"),
        (["--size", "0"], "size 0: give one number, or height and width"),
        ([], "format torch is for images of one size: give --size 256"),
        (["--size", "32", "--batch", "0"], "batch 0: give at least 1"),
        (["--size", "32", "--serves", "[[normals]]"], "serves is for a list of runs"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(options, message, runs, tmp_path, capsys):
    assert main(["export", str(runs / "second"), "--out", str(tmp_path / "x.pt2"), "--format", "torch", *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.pt2").exists()
