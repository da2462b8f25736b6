"""Ways to take J·v of a backbone alone, as a meta step of Task Meta-Transfer does once: time, error, what they keep.

Beside a pass forward without a tape: our forward mode, the same with the outputs of all convolutions kept from an
earlier pass, and differences.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from _device import exact_memory
from _timing import options, show
from meta_gradient import NETWORKS, Case, median_seconds
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from lightning_taskonomy.optim import PassState
from lightning_taskonomy.optim.fused_tangents import FusedTangents
from lightning_taskonomy.optim.tangents import Recorded, finite_difference, forward_mode


class Keeping(TorchFunctionMode):
    """Holds what convolutions give."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the function."""
        output = function(*args, **kwargs or {})
        if function is torch.conv2d:
            self.outputs.append(output)
        return output


class Kept(FusedTangents):
    """Convolutions of dual numbers whose outputs are there already.

    Args:
        outputs: Of one convolution after the other.
    """

    def __init__(self, outputs: list[Tensor]) -> None:
        super().__init__()
        self._outputs = iter(outputs)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The tangent alone of a convolution."""
        if function is not torch.conv2d:
            return super().__torch_function__(function, types, args, kwargs)
        image, weight, bias, *rest = args
        (x, dx), (w, dw) = forward_ad.unpack_dual(image), forward_ad.unpack_dual(weight)
        tangent = torch.conv2d(x, dw, None if bias is None else forward_ad.unpack_dual(bias).tangent, *rest)
        if dx is not None:
            tangent += torch.conv2d(dx, w, None, *rest)
        return forward_ad.make_dual(next(self._outputs), tangent)


def tangent_sides(case: Case) -> dict[str, Callable[[], Tensor]]:
    """J·v of one pass in several ways, and a pass forward without a tape."""
    named = dict(case.backbone.named_parameters())
    direction = {name: 1e-3 * torch.randn_like(p) for name, p in named.items()}
    state = PassState.of(case.backbone)
    with torch.no_grad(), Keeping() as keeping:
        features = case.backbone(case.image)
    recorded = Recorded((case.image,), {}, state, [0], [features], [features])

    def kept() -> Tensor:
        duals = {name: forward_ad.make_dual(named[name].detach(), v) for name, v in direction.items()}
        buffers = recorded.state.fresh_buffers()
        with Kept(keeping.outputs):
            return forward_ad.unpack_dual(functional_call(case.backbone, {**buffers, **duals}, (case.image,))).tangent

    def one_sided() -> Tensor:
        step = 1e-2
        moved = {name: named[name].detach() + step * v for name, v in direction.items()}
        buffers = recorded.state.fresh_buffers()
        return (functional_call(case.backbone, {**buffers, **moved}, (case.image,)) - features) / step

    def dual(way: Callable[[], Tensor]) -> Tensor:
        with torch.no_grad(), forward_ad.dual_level():
            return way()

    return {
        "forward": lambda: dual(lambda: case.backbone(case.image)),
        "forward mode": lambda: forward_mode(case.backbone, recorded, direction)[0],
        "outputs kept": lambda: dual(kept),
        "central difference": lambda: finite_difference(case.backbone, recorded, direction)[0],
        "one-sided difference": lambda: dual(one_sided),
    }


def tangent_rows(networks: list[str], rounds: int, device: str) -> list[dict[str, Any]]:
    """Ways to take J·v, against a pass forward, with what keeping the outputs of all convolutions takes."""
    rows = []
    for network in networks:
        case = Case(network, device)
        sides = tangent_sides(case)
        exact = sides["forward mode"]()
        errors = {side: float((way() - exact).norm() / exact.norm()) for side, way in sides.items()}
        taken = median_seconds(dict(sides), rounds, device)
        with torch.no_grad(), Keeping() as keeping:
            case.backbone(case.image)
        size = sum(output.nbytes for output in keeping.outputs) / 1e6
        rows += [
            {
                "network": network, "side": side, "s": taken[side], "x forward": taken[side] / taken["forward"],
                "error": 0.0 if side == "forward" else errors[side], "kept MB": size if side == "outputs kept" else 0.0,
            }
            for side in sides
        ]  # fmt: skip
    return rows


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--device", default="cpu", help="cpu by default; cuda measures wall time")
    args = parser.parse_args()
    exact_memory()
    torch.set_num_threads(args.threads)
    rows = tangent_rows(args.networks, args.rounds, args.device)
    show(rows, args.json, device=args.device, threads=args.threads, rounds=args.rounds, torch=torch.__version__)


if __name__ == "__main__":
    main()
