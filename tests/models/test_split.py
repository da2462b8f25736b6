"""SplitVGG and SplitRes: shapes, shares, unpooling, gradients, the table in the documentation."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.split import SplitRes, SplitVGG
from lightning_taskonomy.models.heads import DenseHead
from lightning_taskonomy.models.heads.split import SplitResHead, SplitVGGHead
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import Task, find

torch.set_num_threads(1)
PAGE = Path(__file__).parents[2] / "docs" / "meta_transfer.md"
TASKS = [find("depth_z"), find("nyuv2.semantic_segmentation")]
NETWORKS: dict[str, tuple[Any, Any, dict[str, bool]]] = {
    "SplitVGG": (SplitVGG, SplitVGGHead, {}),
    "SplitVGG, unpooling": (SplitVGG, SplitVGGHead, {"unpooling": True}),
    "SplitRes": (SplitRes, SplitResHead, {}),
}
each_network = pytest.mark.parametrize("name", NETWORKS)
splits = pytest.mark.parametrize("split", range(1, 6))


def network(name: str, split: int, width: int = 2) -> tuple[Any, list[Any]]:
    make, head, options = NETWORKS[name]
    backbone = make(split, width=width, **options)
    return backbone, [head(backbone.out_channels, backbone.reductions, task, **options) for task in TASKS]


def weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@each_network
@splits
def test_shapes_and_gradients(name: str, split: int) -> None:
    backbone, heads = network(name, split)
    images = torch.rand(2, 3, 32, 64)
    features = backbone(images)
    height, width = 32 // 2**split, 64 // 2**split
    assert features[0].shape == (2, backbone.out_channels[0], height, width)
    assert backbone.reductions == [2**split]
    outputs = [head(features, (32, 64)) for head in heads]
    assert [o.shape for o in outputs] == [(2, 1, 32, 64), (2, 13, 32, 64)]
    sum(o.square().mean() for o in outputs).backward()  # type: ignore[union-attr]
    silent = [n for m in (backbone, *heads) for n, p in m.named_parameters() if p.grad is None]
    assert silent == []


@each_network
def test_sizes_that_do_not_halve(name: str) -> None:
    backbone, heads = network(name, 2)
    assert heads[0](backbone(torch.rand(1, 3, 45, 70)), (45, 70)).shape == (1, 1, 45, 70)
    with pytest.raises(InputError, match="at least 32x32"):
        backbone(torch.rand(1, 3, 31, 64))


@each_network
def test_the_last_split_cuts_where_the_first_one_joins(name: str) -> None:
    """The same weights, parted elsewhere, are the same network."""
    low, (low_head, _) = network(name, 2)
    high, (high_head, _) = network(name, 5)
    for low_block, high_block in zip([*low.decoder, *low_head.blocks], high_head.blocks, strict=True):
        high_block.load_state_dict(low_block.state_dict())
    high.model.load_state_dict(low.model.state_dict())
    high_head.output.load_state_dict(low_head.output.state_dict())
    images = torch.rand(1, 3, 37, 48)
    for module in (low, low_head, high, high_head):
        module.eval()
    torch.testing.assert_close(high_head(high(images), (37, 48)), low_head(low(images), (37, 48)))


@splits
def test_unpooling_puts_values_where_the_maxima_were(split: int) -> None:
    backbone, (head, _) = network("SplitVGG, unpooling", split)
    features = backbone(torch.rand(2, 3, 32, 32))
    assert len(features) == 1 + split
    assert all(indices.dtype == torch.int64 for indices in features[1:])
    shapes = [tuple(indices.shape[-2:]) for indices in features[1:]]
    assert shapes == [(32 // 2**level,) * 2 for level in range(split, 0, -1)]
    caught: list[Tensor] = []
    head.blocks[0].layers.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    head(features, (32, 32))
    rows = caught[0].flatten(2)
    torch.testing.assert_close(rows.gather(2, features[1].flatten(2)), features[0].flatten(2))
    assert (rows != 0).sum() <= features[0].numel()


def test_indices_pass_other_heads() -> None:
    """A head that is not the split's own reads the map and leaves the indices."""
    backbone = SplitVGG(3, unpooling=True, width=2)
    head = DenseHead(backbone.out_channels, backbone.reductions, TASKS[0], layers=2, width=4)
    assert head(backbone(torch.rand(1, 3, 32, 32)), (32, 32)).shape == (1, 1, 32, 32)


def test_forward_mode_agrees_with_reverse_mode() -> None:
    """What the meta-gradient needs of a backbone: <J u, w> = <u, J' w>, batch statistics included."""
    for name in NETWORKS:
        backbone, _ = network(name, 3)
        backbone.double()
        images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
        parameters = {n: p.detach() for n, p in backbone.named_parameters()}

        def run(values: dict[str, Tensor], backbone: nn.Module = backbone, images: Tensor = images) -> Tensor:
            output: Tensor = torch.func.functional_call(backbone, values, (images,))[0]
            return output

        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
        tangents = {n: torch.randn_like(p) for n, p in parameters.items()}
        output, forward = torch.func.jvp(run, (parameters,), (tangents,))
        cotangent = torch.randn_like(output)
        (back,) = torch.func.vjp(run, parameters)[1](cotangent)
        reverse = sum((back[n] * tangents[n]).sum() for n in parameters)
        torch.testing.assert_close((forward * cotangent).sum(), reverse)


def test_a_module_of_three_tasks_trains() -> None:
    tasks: list[str | Task] = ["nyuv2.semantic_segmentation", "depth_z", "normals"]
    heads: Any = dict.fromkeys(("dense", "normals", "segmentation"), SplitVGGHead)
    module = MultiTaskModule(tasks, SplitVGG(width=2), heads)
    batch = {
        "image": torch.rand(2, 3, 32, 32), "semantic": torch.randint(13, (2, 32, 32)),
        "depth_z": torch.rand(2, 1, 32, 32), "normals": nn.functional.normalize(torch.randn(2, 3, 32, 32), dim=1),
    }  # fmt: skip
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = module.combine(module.losses(batch)[0])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("make", "name"), [(SplitVGG, "vgg16_bn"), (SplitRes, "resnet18")])
def test_weights_of_timm_and_of_a_run(make: Any, name: str, tmp_path: Path) -> None:
    import timm

    original = timm.create_model(name, features_only=True).eval()  # the whole VGG16 has 100 M weights more
    whole = {n.replace("features_", "features."): v for n, v in original.state_dict().items()}
    torch.save({**whole, "head.fc.weight": torch.zeros(3)}, tmp_path / "timm.pt")
    backbone = make(5, weights=tmp_path / "timm.pt").eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        ours, expected = backbone(images)[0], original(backbone.normalise(images))[-1]
    torch.testing.assert_close(ours, expected)

    small = make(3, width=2)
    torch.save({f"backbone.{n}": v for n, v in small.state_dict().items()}, tmp_path / "run.pt")
    again = make(3, width=2, weights=tmp_path / "run.pt")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), small.state_dict().values(), strict=True))


def test_bad_input_is_said_on_one_line() -> None:
    for call, message in (
        (lambda: SplitVGG(6), "split=6"),
        (lambda: SplitRes(3, width=0), "width=0"),
        (lambda: SplitVGGHead([17], [16], TASKS[0]), "reads the one map"),
        (lambda: SplitVGGHead([16], [24], TASKS[0]), "reads the one map"),
        (lambda: SplitVGGHead([8, 8], [4, 8], TASKS[0]), "reads the one map"),
        (lambda: SplitVGGHead([8], [4], find("colorization"), unpooling=True), "stride 4"),
        (lambda: SplitResHead([8], [4], find("jigsaw")), "does not fit task 'jigsaw'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    backbone = SplitVGG(2, unpooling=True, width=2)
    head = SplitVGGHead(backbone.out_channels, backbone.reductions, TASKS[0])
    with pytest.raises(InputError, match="the same unpooling"):
        head(backbone(torch.rand(1, 3, 32, 32)), (32, 32))


def told_shares() -> list[list[str]]:
    text = PAGE.read_text().split("## Networks")[1].split("\n## ")[0]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| Split.*$", text, re.M)]


def test_the_table_of_the_page_has_every_split() -> None:
    assert [(row[0], row[1]) for row in told_shares()] == [(name, str(x)) for name in NETWORKS for x in range(5, 0, -1)]


@pytest.mark.parametrize("row", told_shares(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_row_of_the_page_is_the_code(row: list[str]) -> None:
    name, split = row[0], int(row[1])
    with torch.device("meta"):
        backbone, heads = network(name, split, width=64)
    shared, (first, second) = weights(backbone), (weights(head) for head in heads)
    assert row[2:] == [
        str(backbone.out_channels[0]),
        f"/{backbone.reductions[0]}",
        f"{shared / 1e6:.2f}",
        f"{100 * shared / (shared + first + second):.1f} %",
        f"{100 * shared / (shared + first):.1f} %",
    ]


def test_the_three_facts_of_the_paper() -> None:
    """128 channels at x = 3, two blocks of the decoder before it; about 98 % at x = 2 and about 50 % at x = 5."""
    shares = {}
    for split in (2, 3, 5):
        with torch.device("meta"):
            backbone, heads = network("SplitVGG", split, width=64)
        shares[split] = weights(backbone) / (weights(backbone) + sum(map(weights, heads)))
        if split == 3:
            assert backbone.out_channels == [128] and len(backbone.decoder) == 2
    assert round(shares[2], 2) == 0.98 and abs(shares[5] - 0.5) < 0.03
