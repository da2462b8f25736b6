"""A linear problem in which the auxiliary gradient is a transformed copy of the primary one: what TMT learns of it.

Features o = Θ·x regress y: L_P = ½‖o - y‖², so that g_P = o - y. The auxiliary loss ½(o - y)ᵀM(o - y) has the gradient
M·g_P with M = 2·P - 1, P a projector of rank k: the auxiliary task pulls away from the primary in all but k directions.
As M² = 1, the projection φ = M makes each auxiliary gradient the primary one; it is diag(λ) + U·Uᵀ with λ = -1 and U of
rank k. Primary labels are few, auxiliary ones many and noisy. All step lengths fall to 0 along a half cosine.

The network learns by SGD or by Adam, and the virtual step is the optimizer's or plain descent at its learning rate. A
factor on all losses changes nothing under Adam but the length of plain descent.

Writes the figure of docs/: python benchmarks/tmt_linear.py
"""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_taskonomy.optim import Branch, Identity, LowRank, MetaBatch, meta_gradient, project
from lightning_taskonomy.optim.virtual_step import GradientStep, OptimizerStep

CHANNELS, INPUTS, COPIED = 8, 24, 4  # C, dimensions of x, k
PARALLEL, AUXILIARY, BATCH = 32, 512, 12  # examples of X and of X^A, in a batch
STEPS, PHI_RATE = 3, 0.03  # auxiliary steps, learning rate of φ
RATES = {"sgd": 0.05, "adam": 0.02}  # of the network; chosen on this problem
CYCLES = 500
METHODS = ("primary", "mtl", "oracle", "rank 1", "rank 2", "rank 4", "rank 6")


@dataclass
class Run:
    """What comes of a run.

    Attributes:
        losses: After each cycle of one meta and k auxiliary steps the mean of ½‖o - y‖², without noise, on unseen
            inputs.
        eigenvalues: After each cycle the largest eigenvalue of U·Uᵀ; empty without U.
        cosine: Between φ·M and 1: 1 if φ undoes M up to its length.
    """

    losses: list[float] = field(default_factory=list)
    eigenvalues: list[float] = field(default_factory=list)
    cosine: float = 0.0


def run(
    method: str,
    *,
    optimizer: Literal["sgd", "adam"] = "sgd",
    inner: Literal["optimizer", "gradient"] = "optimizer",
    factor: float = 1.0,
    cycles: int = CYCLES,
    seed: int = 0,
) -> Run:
    """Trains by one method.

    Args:
        method: ``oracle`` (primary gradients of all X^A), ``primary`` (of X alone), ``mtl`` (φ = 1) or ``rank R``.
        optimizer: Of the network.
        inner: The virtual step.
        factor: On both losses as the methods see them.
        cycles: How many cycles.
        seed: Of problem, data and start.
    """
    torch.manual_seed(seed)
    true = torch.randn(CHANNELS, INPUTS, dtype=torch.float64) / INPUTS**0.5
    basis = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, dtype=torch.float64)).Q[:, :COPIED]
    transform = 2 * basis @ basis.T - torch.eye(CHANNELS, dtype=torch.float64)
    inputs = torch.randn(AUXILIARY, INPUTS, dtype=torch.float64)
    targets = inputs @ true.T + 0.1 * torch.randn(AUXILIARY, CHANNELS, dtype=torch.float64)
    unseen = torch.randn(256, INPUTS, dtype=torch.float64)
    backbone = nn.Linear(INPUTS, CHANNELS, bias=False).double()
    rank = int(method.split()[1]) if method.startswith("rank") else 0
    phi = LowRank(CHANNELS, rank, scale=0.3).double() if rank else Identity(CHANNELS)
    networks = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)(backbone.parameters(), RATES[optimizer])
    projections = torch.optim.Adam(phi.parameters(), PHI_RATE) if rank else None
    ahead = OptimizerStep(networks)

    def primary(features: Tensor, rows: Tensor) -> Tensor:
        return factor * 0.5 * (features - targets[rows]).square().sum(1).mean()

    def auxiliary(features: Tensor, rows: Tensor) -> Tensor:
        error = features - targets[rows]
        return factor * 0.5 * (error @ transform * error).sum(1).mean()

    def descend(gradient: Tensor) -> None:
        backbone.weight.grad = gradient
        networks.step()

    result = Run()
    for cycle in range(cycles):
        share = (1 + math.cos(math.pi * cycle / cycles)) / 2
        rate = networks.param_groups[0]["lr"] = share * RATES[optimizer]
        rows = torch.randperm(PARALLEL)[:BATCH]
        batch = MetaBatch(
            (inputs[rows],),
            {"auxiliary": Branch(lambda features, rows=rows: auxiliary(features, rows))},
            Branch(lambda features, rows=rows: primary(features, rows)),
        )
        step = meta_gradient(
            backbone, [batch], {"auxiliary": [phi]}, ahead if inner == "optimizer" else GradientStep(rate)
        )  # fmt: skip
        if projections is not None:
            for parameter, gradient in step.projections.items():
                parameter.grad = gradient
            projections.param_groups[0]["lr"] = share * PHI_RATE
            projections.step()
        descend(step.network[backbone.weight])
        for _ in range(0 if method == "primary" else STEPS):
            rows = torch.randint(AUXILIARY, (BATCH,))
            features = backbone(inputs[rows])
            loss = primary(features, rows) if method == "oracle" else auxiliary(project(features, phi), rows)
            descend(torch.autograd.grad(loss, backbone.weight)[0])
        with torch.no_grad():
            result.losses.append(float(0.5 * (backbone(unseen) - unseen @ true.T).square().sum(1).mean()))
        if isinstance(phi, LowRank):
            result.eigenvalues.append(float(phi.spectrum()[0]))
    with torch.no_grad():
        eye = torch.eye(CHANNELS, dtype=torch.float64)
        result.cosine = float(torch.cosine_similarity(phi(transform).flatten(), eye.flatten(), 0))
    return result


def report(label: str, result: Run) -> None:
    """Prints where a run ends."""
    text = f"{label:32} test loss {result.losses[-1]:8.3g}, cosine between φM and 1 {result.cosine:6.3f}"
    if result.eigenvalues:
        text += f", largest eigenvalue {max(result.eigenvalues):.3g}, at the end {result.eigenvalues[-1]:.3g}"
    print(text, flush=True)


def main() -> None:
    """Runs all methods, prints where they end and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images/tmt_linear.png"))
    parser.add_argument("--cycles", type=int, default=CYCLES)
    args = parser.parse_args()
    torch.set_num_threads(1)

    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    names = {"primary": "Primary only", "mtl": "MTL (φ = 1)", "oracle": "Oracle"}
    shades = iter(pyplot.get_cmap("viridis_r")([0.15, 0.4, 0.65, 0.9]))
    others = {"primary": "0.5", "mtl": "tab:red", "oracle": "black"}
    ends: dict[str, Run] = {}
    for method in METHODS:
        ends[method] = result = run(method, cycles=args.cycles)
        report(f"SGD, {method}", result)
        left.semilogy(
            result.losses, {"primary": ":", "mtl": "--"}.get(method, "-"), label=names.get(method, f"TMT, {method}"),
            color=others.get(method) or next(shades), lw=2.5 if method == "oracle" else 1.5,
        )  # fmt: skip
    for method in METHODS:
        result = run(method, optimizer="adam", cycles=args.cycles)
        report(f"Adam, {method}", result)
        ends[f"adam {method}"] = result
    right.semilogy(ends["rank 4"].eigenvalues, color="black", label="SGD")
    right.semilogy(ends["adam rank 4"].eigenvalues, color="tab:blue", label="Adam, its own step")
    for factor, colour in ((1.0, "tab:orange"), (0.01, "tab:red")):
        for inner, style in (("optimizer", ":"), ("gradient", "-")):
            if (factor, inner) == (1.0, "optimizer"):
                continue
            result = run("rank 4", optimizer="adam", inner=inner, factor=factor, cycles=args.cycles)
            report(f"Adam, rank 4, {inner}, losses × {factor:g}", result)
            step = "its own step" if inner == "optimizer" else "plain descent"
            label = f"Adam, {step}" + ("" if factor == 1 else f", losses × {factor:g}")
            right.semilogy(result.eigenvalues, style, color=colour, label=label, lw=2.5 if style == ":" else 1.5)
    left.set(title="SGD", ylabel="primary loss, unseen inputs", ylim=(1e-3, 1e8))
    right.set(title="TMT of rank 4", ylabel="largest eigenvalue of U·Uᵀ")
    for axes in (left, right):
        axes.set(xlabel="cycles", xlim=(0, args.cycles))
        axes.legend(frameon=False, fontsize=8, ncol=2 if axes is left else 1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.output, dpi=150)


if __name__ == "__main__":
    main()
