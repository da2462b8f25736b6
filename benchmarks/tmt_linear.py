"""A linear problem in which the auxiliary gradient is a transformed copy of the primary one: what TMT learns of it.

Features o = Θ·x regress y: L_P = ½‖o - y‖², so that g_P = o - y. The auxiliary loss ½(o - y)ᵀM(o - y) has the gradient
M·g_P with M = 2·P - 1, P a projector of rank k: the auxiliary task pulls away from the primary in all but k directions.
As M² = 1, the projection φ = M makes each auxiliary gradient the primary one; it is diag(λ) + U·Uᵀ with λ = -1 and U of
rank k. Primary labels are few, auxiliary ones many and noisy. All step lengths fall to 0 along a half cosine.

Writes the figure of docs/: python benchmarks/tmt_linear.py
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_taskonomy.optim import Branch, Identity, LowRank, MetaBatch, meta_gradient, project

CHANNELS, INPUTS, COPIED = 8, 24, 4  # C, dimensions of x, k
PARALLEL, AUXILIARY, BATCH = 32, 512, 12  # examples of X and of X^A, in a batch
STEPS, ALPHA, RATE = 3, 0.05, 0.03  # auxiliary steps, α, learning rate of φ


def curves(method: str, cycles: int = 500, seed: int = 0) -> tuple[list[float], float]:
    """The primary test loss after each cycle of one meta and k auxiliary steps.

    Args:
        method: ``oracle`` (primary gradients of all X^A), ``primary`` (of X alone), ``mtl`` (φ = 1) or ``rank R``.
        cycles: How many cycles.
        seed: Of problem, data and start.

    Returns:
        Mean of ½‖o - y‖² without noise, and the cosine between φ·M and 1: 1 if φ undoes M up to its length.
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
    phi = (LowRank(CHANNELS, rank, scale=0.3) if rank else Identity(CHANNELS)).double()
    optimizer = torch.optim.Adam(phi.parameters(), lr=RATE) if rank else None

    def primary(features: Tensor, rows: Tensor) -> Tensor:
        return 0.5 * (features - targets[rows]).square().sum(1).mean()

    def auxiliary(features: Tensor, rows: Tensor) -> Tensor:
        error = features - targets[rows]
        return 0.5 * (error @ transform * error).sum(1).mean()

    losses = []
    for cycle in range(cycles):
        rate = (1 + math.cos(math.pi * cycle / cycles)) / 2
        rows = torch.randperm(PARALLEL)[:BATCH]
        batch = MetaBatch(
            (inputs[rows],),
            {"auxiliary": Branch(lambda features, rows=rows: auxiliary(features, rows))},
            Branch(lambda features, rows=rows: primary(features, rows)),
        )
        step = meta_gradient(backbone, [batch], {"auxiliary": [phi]}, rate * ALPHA)
        if optimizer is not None:
            for parameter, gradient in step.projections.items():
                parameter.grad = gradient
            optimizer.param_groups[0]["lr"] = rate * RATE
            optimizer.step()
        _descend(backbone, rate, step.network[backbone.weight])
        for _ in range(0 if method == "primary" else STEPS):
            rows = torch.randint(AUXILIARY, (BATCH,))
            features = backbone(inputs[rows])
            loss = (
                primary(features, rows) if method == "oracle" else auxiliary(project(features, phi), rows)
            )  # fmt: skip
            _descend(backbone, rate, torch.autograd.grad(loss, backbone.weight)[0])
        with torch.no_grad():
            losses.append(float(0.5 * (backbone(unseen) - unseen @ true.T).square().sum(1).mean()))
    with torch.no_grad():
        eye = torch.eye(CHANNELS, dtype=torch.float64)
        return losses, float(torch.cosine_similarity(phi(transform).flatten(), eye.flatten(), 0))


def _descend(backbone: nn.Linear, rate: float, gradient: Tensor) -> None:
    with torch.no_grad():
        backbone.weight -= rate * ALPHA * gradient


def main() -> None:
    """Runs all methods, prints where they end and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images/tmt_linear.png"))
    parser.add_argument("--cycles", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)

    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
    styles = {"primary": ":", "mtl": "--", "oracle": "-", "rank 1": "-", "rank 2": "-", "rank 4": "-", "rank 6": "-"}
    names = {"primary": "Primary only", "mtl": "MTL (φ = 1)", "oracle": "Oracle"}
    shades = iter(pyplot.get_cmap("viridis_r")([0.15, 0.4, 0.65, 0.9]))
    others = {"primary": "0.5", "mtl": "tab:red", "oracle": "black"}
    for method, style in styles.items():
        losses, cosine = curves(method, args.cycles)
        print(f"{method:8} test loss {losses[-1]:.3g}, cosine between φM and 1 {cosine:.3g}")
        label = names.get(method, f"TMT, {method}")
        colour = others.get(method) or next(shades)
        axes.semilogy(losses, style, color=colour, label=label, lw=2.5 if method == "oracle" else 1.5)
    axes.set(xlabel="cycles", ylabel="primary loss, unseen inputs", ylim=(1e-3, 1e8), xlim=(0, args.cycles))
    axes.legend(frameon=False, fontsize=8, ncol=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.output, dpi=150)


if __name__ == "__main__":
    main()
