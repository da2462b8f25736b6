"""A meta step of Task Meta-Transfer against a multi-task step of the same network: CPU time and peak memory.

Sides, each the bare function without a trainer: `mtl` (one auxiliary and the primary loss, all gradients), ours exact,
ours approximate (v at Θ), ours by double VJP (the fallback), double backward through the virtual update, and, where
torchopt is installed, its differentiable SGD. `--projection` measures φ instead, dense against low-rank; `--inner` the
optimizer's virtual step against plain descent, beside the state of AdamW.
"""

import importlib.util
import multiprocessing
from collections.abc import Callable
from statistics import median
from typing import Any

import timm
import torch
from _device import exact_memory, peak_bytes, restart_peak, seconds
from _timing import options, show
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lightning_taskonomy.models.backbones.split import SplitVGG
from lightning_taskonomy.models.heads.split import SplitVGGHead
from lightning_taskonomy.optim import Branch, LowRank, MetaBatch, MetaOptions, meta_gradient
from lightning_taskonomy.optim.virtual_step import OptimizerStep, VirtualStep
from lightning_taskonomy.tasks import Task, TaskKind

ALPHA = 1e-3


class Single(nn.Module):
    """A timm network up to one of its feature maps, or, of an HRNet, its branches upsampled and concatenated."""

    def __init__(self, name: str, channels: int, reduction: int, **choice: Any) -> None:
        super().__init__()
        self.network = timm.create_model(name, features_only=True, **choice)
        self.channels, self.reduction = channels, reduction

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, h, w)."""
        first, *others = self.network(image)
        size = first.shape[-2:]
        return torch.cat([first, *(functional.interpolate(x, size, mode="bilinear") for x in others)], 1)


class EncoderDecoder(nn.Module):
    """SplitVGG-3: VGG16 with batch normalization and the first two blocks of its mirror, 128 channels at an eighth."""

    channels, reduction = 128, 8

    def __init__(self) -> None:
        super().__init__()
        self.network = SplitVGG(split=3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 128, H/8, W/8)."""
        features: Tensor = self.network(image)[0]
        return features


class Decoder(nn.Module):
    """SplitVGG's head: the other three blocks and the output layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.network = SplitVGGHead([128], [8], Task("output", TaskKind.DENSE, "output", channels=outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 128, H/8, W/8) to (B, outputs, H, W)."""
        height, width = features.shape[-2:]
        preds: Tensor = self.network([features], (8 * height, 8 * width))
        return preds


class SeparableBlocks(nn.Module):
    """Xception's entry flow: separable convolutions with residual connections, 728 channels at a sixteenth."""

    channels, reduction = 728, 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
            nn.Conv2d(32, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
        )  # fmt: skip
        sizes = [(64, 128, 2), (128, 256, 2), (256, 728, 2), (728, 728, 1)]
        self.blocks = nn.ModuleList(
            nn.Sequential(*_separable(i, o, 1), *_separable(o, o, 1), *_separable(o, o, stride))
            for i, o, stride in sizes
        )
        self.skips = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) for i, o, stride in sizes
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 728, H/16, W/16)."""
        image = self.stem(image)
        for block, skip in zip(self.blocks, self.skips, strict=True):
            image = block(image) + skip(image)
        return image


def _separable(i: int, o: int, stride: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False)
    return [nn.ReLU(), depthwise, nn.BatchNorm2d(i), nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o)]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # with batch and pixels
    "resnet18": (lambda: Single("resnet18", 512, 32, out_indices=(4,)), 8, 128),
    "resnet50": (lambda: Single("resnet50", 2048, 32, out_indices=(4,)), 4, 128),
    "splitvgg": (EncoderDecoder, 2, 96),
    "hrnet": (
        lambda: Single("hrnet_w18_small", 240, 4, feature_location="", out_indices=(1, 2, 3, 4)), 4, 128,
    ),
    "separable": (SeparableBlocks, 4, 96),
}  # fmt: skip


class Case:
    """One network with two heads, a batch and the sides that step it."""

    def __init__(self, network: str, device: str = "cpu") -> None:
        make, batch, size = NETWORKS[network]
        torch.manual_seed(0)
        torch.set_default_device(device)
        self.backbone = make()
        self.auxiliary, self.primary = self._head(3), self._head(10)
        self.image, self.target = torch.randn(batch, 3, size, size), torch.randn(batch, 3, size, size)
        self.classes = torch.randint(10, (batch, size, size))
        self.projection = LowRank(int(self.backbone.channels))
        self.parameters = list(self.backbone.parameters())

    def _head(self, outputs: int) -> nn.Module:
        if isinstance(self.backbone, EncoderDecoder):
            return Decoder(outputs)
        return nn.Sequential(
            nn.Conv2d(int(self.backbone.channels), 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True),
            nn.Conv2d(64, outputs, 1),
            nn.Upsample(scale_factor=int(self.backbone.reduction), mode="bilinear"),
        )  # fmt: skip

    def auxiliary_loss(self, features: Tensor) -> Tensor:
        """L1."""
        return functional.l1_loss(self.auxiliary(features), self.target)

    def primary_loss(self, features: Tensor) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(self.primary(features), self.classes)

    def mtl(self) -> object:
        """Multi-task learning's gradients."""
        features = self.backbone(self.image)
        loss = self.auxiliary_loss(features) + self.primary_loss(features)
        return torch.autograd.grad(loss, [*self.parameters, *self.auxiliary.parameters(), *self.primary.parameters()])

    def ours(self, step: float | VirtualStep = ALPHA, **options: Any) -> object:
        """The meta step; the auxiliary head's gradients too where MTL has them."""
        batch = MetaBatch(
            (self.image,), {"auxiliary": Branch(self.auxiliary_loss)}, Branch(self.primary_loss, self.primary)
        )
        return meta_gradient(
            self.backbone, [batch], {"auxiliary": [self.projection]}, step, MetaOptions(**options)
        )  # fmt: skip

    def double_backward(self) -> object:
        """Autograd through the virtual update."""
        features = self.backbone(self.image)
        leaf = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.auxiliary_loss(leaf), leaf)
        pulled = torch.autograd.grad(features, self.parameters, self.projection(gradient), create_graph=True)
        ahead = [p.detach() - ALPHA * d for p, d in zip(self.parameters, pulled, strict=True)]
        names = [name for name, _ in self.backbone.named_parameters()]
        buffers = {name: value.clone() for name, value in self.backbone.named_buffers()}
        stand_ins = {**buffers, **dict(zip(names, ahead, strict=True))}
        loss = self.primary_loss(functional_call(self.backbone, stand_ins, (self.image,)))
        return torch.autograd.grad(loss, [*self.projection.parameters(), *self.primary.parameters(), *ahead])

    def torchopt(self) -> object:
        """The same by torchopt's differentiable gradient descent."""
        import torchopt  # only where it is installed; no dependency of the project

        optimizer = torchopt.MetaSGD(self.backbone, lr=ALPHA)
        before = torchopt.extract_state_dict(self.backbone, by="reference")
        features = self.backbone(self.image)
        leaf = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.auxiliary_loss(leaf), leaf)
        optimizer.step((features * self.projection(gradient)).sum())
        ahead = list(self.backbone.parameters())
        loss = self.primary_loss(self.backbone(self.image))
        gradients = torch.autograd.grad(loss, [*self.projection.parameters(), *self.primary.parameters(), *ahead])
        torchopt.recover_state_dict(self.backbone, before)
        return gradients

    def sides(self) -> dict[str, Callable[[], object]]:
        """All sides by name."""
        sides: dict[str, Callable[[], object]] = {
            "mtl": self.mtl,
            "ours": self.ours,
            "approximate": lambda: self.ours(approximate=True),
            "double_vjp": lambda: self.ours(method="double_vjp"),
            "double_backward": self.double_backward,
        }
        if importlib.util.find_spec("torchopt"):
            sides["torchopt"] = self.torchopt
        return sides

    def inner_sides(self) -> dict[str, Callable[[], object]]:
        """Both virtual steps; all sides have the state of AdamW in memory."""
        self.optimizer = torch.optim.AdamW(self.parameters, ALPHA)
        for parameter in self.parameters:
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        step = OptimizerStep(self.optimizer)
        return {"mtl": self.mtl, "gradient": self.ours, "optimizer": lambda: self.ours(step)}


def median_seconds(
    sides: dict[str, Callable[[], object]], rounds: int, device: str = "cpu", warmup: int = 1
) -> dict[str, float]:  # fmt: skip
    """Median seconds of each side, the sides taking turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + rounds):
        for name, side in sides.items():
            start = seconds(device)
            side()
            taken = seconds(device) - start
            if turn >= warmup:
                times[name].append(taken)
    return {name: median(values) for name, values in times.items()}


def peak(network: str, side: str, threads: int, device: str, inner: bool = False) -> float:
    """Peak memory of a step in a fresh process, network and data included, the libraries not."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_peak, args=(network, side, threads, device, inner, sender))
    child.start()
    sender.close()  # so that a child that fails ends the wait
    memory = float(receiver.recv())
    child.join()
    return memory


def _peak(network: str, side: str, threads: int, device: str, inner: bool, sender: Any) -> None:
    import torch._decomp.decompositions_for_jvp  # a library too, which torch loads at the first dual number: 14 MB

    torch.set_num_threads(threads)
    before = peak_bytes(device, now=True)
    case = Case(network, device)
    step = (case.inner_sides() if inner else case.sides())[side]
    step()
    restart_peak(device)
    step()
    sender.send(peak_bytes(device) - before)


def projection_rows(rounds: int) -> list[dict[str, Any]]:
    """φ forward and backward, milliseconds of CPU time, dense against low-rank."""
    rows = []
    for channels, shape in ((128, (8, 32, 32)), (720, (4, 32, 32)), (2048, (8, 8, 8))):
        for rank in (5, 25, 100):
            gradient, tangent = (torch.randn(shape[0], channels, *shape[1:]) for _ in range(2))
            products = {name: LowRank(channels, rank, product=name) for name in ("dense", "low_rank")}

            def step(phi: LowRank, gradient: Tensor = gradient, tangent: Tensor = tangent) -> object:
                return torch.autograd.grad(phi(gradient), list(phi.parameters()), tangent)

            sides: dict[str, Callable[[], object]] = {
                name: lambda phi=phi, step=step: step(phi) for name, phi in products.items()
            }
            taken = {name: 1e3 * value for name, value in median_seconds(sides, rounds).items()}
            auto = "dense" if LowRank(channels, rank).dense else "low_rank"
            rows.append({"channels": channels, "rank": rank, **taken, "auto": auto})
    return rows


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--sides", nargs="+", help="only these, beside mtl")
    parser.add_argument("--projection", action="store_true", help="measure the projection instead, on the processor")
    parser.add_argument("--inner", action="store_true", help="compare virtual steps instead")
    parser.add_argument("--device", default="cpu", help="cpu by default; cuda measures wall time and device memory")
    args = parser.parse_args()
    exact_memory()
    rows: list[dict[str, Any]] = []
    if args.projection:
        torch.set_num_threads(args.threads)
        rows = projection_rows(args.rounds)
    else:
        named = ["mtl", "ours", "approximate", "double_vjp", "double_backward"]
        named += ["torchopt"] if importlib.util.find_spec("torchopt") else []
        named = [name for name in named if args.sides is None or name in ("mtl", *args.sides)]
        named = ["mtl", "gradient", "optimizer"] if args.inner else named
        peaks = {
            (net, side): peak(net, side, args.threads, args.device, args.inner)
            for net in args.networks
            for side in named
        }
        torch.set_num_threads(args.threads)
        for network in args.networks:
            case = Case(network, args.device)
            sides = case.inner_sides() if args.inner else case.sides()
            taken = median_seconds({side: sides[side] for side in named}, args.rounds, args.device)
            for side in named:
                rows.append({
                    "network": network, "side": side, "s": taken[side], "x mtl": taken[side] / taken["mtl"],
                    "peak MB": peaks[network, side] / 1e6, "memory x mtl": peaks[network, side] / peaks[network, "mtl"],
                })  # fmt: skip
    show(rows, args.json, device=args.device, threads=args.threads, rounds=args.rounds, torch=torch.__version__)


if __name__ == "__main__":
    main()
