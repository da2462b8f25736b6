"""Jacobian-vector products of a network in its parameters: how its features change along a direction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import get_total_norm

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.optim.features import entries
from lightning_taskonomy.optim.fused_tangents import FusedTangents
from lightning_taskonomy.optim.inspection import lost_tangents
from lightning_taskonomy.optim.state import PassState

__all__ = [
    "Method",
    "Overlap",
    "Product",
    "Recorded",
    "double_vjp",
    "finite_difference",
    "forward_mode",
    "length",
    "product",
    "rerun",
]

Method = Literal["forward", "double_vjp", "finite_difference"]
Direction = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recorded:
    """A pass through a network that can be made again.

    Attributes:
        args: Positional inputs.
        kwargs: Keyword inputs.
        state: Taken before the pass.
        positions: The learnable maps among the entries of the output.
        projected: Per map the projected gradient G with the graph of φ alone.
        cotangents: Per map a cotangent whose pull-back to the parameters has been taken.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    state: PassState
    positions: list[int]
    projected: list[Tensor]
    cotangents: list[Tensor]


@dataclass(frozen=True)
class Overlap:
    """How far two lists of tensors point the same way.

    Attributes:
        dot: Their inner product, in float32 at least.
        size: The product of their lengths.
    """

    dot: Tensor
    size: Tensor

    @classmethod
    def of(cls, left: Sequence[Tensor], right: Sequence[Tensor]) -> Self:
        """Measures two lists.

        Args:
            left: Any tensors.
            right: As many, of the same shapes.
        """
        dots = [torch.linalg.vecdot(_row(a), _row(b)) for a, b in zip(left, right, strict=True)]
        return cls(torch.stack(dots).sum(), length(left) * length(right))

    def cosine(self) -> Tensor:
        """A scalar in [-1, 1]; 0 where either list vanishes."""
        return torch.where(self.size != 0, self.dot / self.size, 0.0)


@dataclass(frozen=True)
class Product:
    """J·v over several passes.

    Attributes:
        tangents: Per pass and map J·v times ``stretch``.
        stretch: 1, but where the network computes in fp16 the length of the parameters over that of v: tangents then
            have the features' own scale, in the middle of that type's range.
        method: How they were taken.
        reason: Why not by forward mode, where that was tried.
        consistency: |⟨J·v, c⟩ - ⟨v, Jᵀc⟩| over the product of norms, for the recorded cotangents c.
        consistent: Whether that is rounding.
    """

    tangents: list[Tensor]
    stretch: Tensor
    method: Method
    reason: str
    consistency: Tensor
    consistent: Tensor


def product(
    module: nn.Module,
    passes: Sequence[Recorded],
    direction: Direction,
    reverse: Overlap,
    method: Literal["auto", "forward", "double_vjp", "finite_difference"] = "auto",
    inspect: bool = False,
    wait: bool = True,
) -> Product:
    """J·v of recorded passes, checked against the reverse mode.

    Args:
        module: The network.
        passes: The passes.
        direction: v, by the parameters' names.
        reverse: Of v and Jᵀc, the latter summed over the passes.
        method: ``auto`` tries the forward mode and falls back to the double VJP where an operation has none or where it
            disagrees with the reverse mode.
        inspect: With ``auto``: looks for operations with a wrong forward mode also where the check passes, as it does
            where their share is small. Costs one more pass over the first of ``passes``.
        wait: With ``auto``: whether the check decides here and now, for which it waits for the device; else the
            product is taken as it comes, and ``consistent`` is the caller's to read.

    Raises:
        InputError: Neither can differentiate the network.
    """
    dtype = _dtype(passes)
    stretch = torch.ones_like(reverse.dot)
    if dtype == torch.float16:
        stretch = _stretch(module, direction)
        direction = {name: stretch.to(v) * v for name, v in direction.items()}
    cotangents = [entry for recorded in passes for entry in recorded.cotangents]

    def again() -> object:
        return rerun(module, passes[0], _duals(module, direction))

    order: list[Method] = ["forward", "double_vjp"] if method == "auto" else [method]
    reason = ""
    for last, way in ((name == order[-1], name) for name in order):
        try:
            tangents = [tangent for recorded in passes for tangent in _JVPS[way](module, recorded, direction)]
            consistency = _inconsistency(Overlap.of(tangents, cotangents), reverse, stretch)
            consistent = ~(consistency > _TOLERANCE.get(dtype, 3e-2))  # NaN is an overflow, no fault of the method
            search = not last and (inspect or (wait and not consistent))
            culprit = lost_tangents(module, again) if search else None
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError) as error:
            message = str(error).strip().splitlines()[0]
            if last and method == "auto":
                raise InputError(
                    f"the backbone can be differentiated neither forward ({reason}) nor twice ({message}); replace the "
                    "operation or take method 'finite_difference', which is not exact"
                ) from error
            if last:
                raise
            reason = f"an operation has no forward mode: {message}"
            continue
        if last and reason and not consistent:
            reason += (
                f"; {way} disagrees too, by {float(consistency):.1e}: take method 'finite_difference', which is not "
                "exact"
            )
        if last or (culprit is None and (not wait or consistent)):
            return Product(
                tangents=tangents,
                stretch=stretch,
                method=way,
                reason=reason,
                consistency=consistency,
                consistent=consistent,
            )
        fault = "is wrong" if consistent else f"disagrees with reverse mode by {float(consistency):.1e}"
        reason = f"forward mode {fault} in {culprit or 'some operation'}"
    raise AssertionError("unreachable: the last method returns or raises")


def rerun(module: nn.Module, recorded: Recorded, parameters: Mapping[str, Tensor]) -> Any:
    """The output of a recorded pass at other parameters: same buffers, same random numbers.

    Batch normalization takes its batch's statistics as then; its running statistics stay as they are now.

    Args:
        module: The network.
        recorded: The pass.
        parameters: Stand-ins by name; the others are the module's own.
    """
    with recorded.state.replayed(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
        return functional_call(
            module, {**recorded.state.fresh_buffers(), **parameters}, recorded.args, dict(recorded.kwargs)
        )


def forward_mode(module: nn.Module, recorded: Recorded, direction: Direction) -> list[Tensor]:
    """J·v of a pass by dual numbers: one pass, no tape.

    Args:
        module: The network.
        recorded: The pass.
        direction: v, by the parameters' names; those without one do not move.

    Returns:
        The tangent of each learnable map.

    Raises:
        NotImplementedError: An operation has no forward mode; RuntimeError, as some say it.
    """
    with torch.no_grad(), forward_ad.dual_level(), FusedTangents():
        leaves = entries(rerun(module, recorded, _duals(module, direction)))
        return [_tangent(leaves[position]) for position in recorded.positions]


def double_vjp(module: nn.Module, recorded: Recorded, direction: Direction) -> list[Tensor]:
    """J·v by differentiating Jᵀu, which is linear in u, in u; arguments and result as :func:`forward_mode`."""
    parameters = dict(module.named_parameters())
    with torch.enable_grad():
        points = {name: parameters[name].detach().requires_grad_() for name in direction}
        leaves = entries(rerun(module, recorded, points))
        maps = [leaves[position] for position in recorded.positions]
        dummies = [torch.zeros_like(entry, requires_grad=True) for entry in maps]
        pulled = torch.autograd.grad(maps, list(points.values()), dummies, create_graph=True, allow_unused=True)
        candidates: list[tuple[Tensor | None, Tensor]] = list(zip(pulled, direction.values(), strict=True))
        pairs = [(p, v) for p, v in candidates if p is not None]
    return list(
        torch.autograd.grad([p for p, _ in pairs], dummies, [v for _, v in pairs], materialize_grads=True)
    )  # fmt: skip


def finite_difference(module: nn.Module, recorded: Recorded, direction: Direction) -> list[Tensor]:
    """J·v by a central difference, not exact, for what nothing else can do; as :func:`forward_mode`.

    Args:
        module: The network.
        recorded: The pass.
        direction: v, by the parameters' names.
    """
    parameters = dict(module.named_parameters())
    sides = []
    with torch.no_grad():
        step = float(torch.finfo(recorded.cotangents[0].dtype).eps ** (1 / 3) * _stretch(module, direction))
        for signed in (step, -step):
            moved = {name: parameters[name] + signed * v for name, v in direction.items()}
            leaves = entries(rerun(module, recorded, moved))
            sides.append([leaves[position] for position in recorded.positions])
        return [(ahead - behind) / (2 * step) for ahead, behind in zip(*sides, strict=True)]


_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # what rounding may do to the check; 3e-2 in half precision
_JVPS: dict[Method, Callable[[nn.Module, Recorded, Direction], list[Tensor]]] = {
    "forward": forward_mode,
    "double_vjp": double_vjp,
    "finite_difference": finite_difference,
}


def _inconsistency(ahead: Overlap, behind: Overlap, stretch: Tensor) -> Tensor:
    """|⟨J·v, c⟩ - ⟨v, Jᵀc⟩| over ‖J·v‖·‖c‖ + ‖v‖·‖Jᵀc‖, where the former has a stretched v."""
    size = ahead.size + stretch * behind.size
    return (ahead.dot - stretch * behind.dot).abs() / size.clamp(min=torch.finfo(size.dtype).tiny)


def length(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean length of all of them together, a scalar in float32 at least.

    Args:
        tensors: At least one.
    """
    if any(tensor.dtype.itemsize < 4 for tensor in tensors):  # the length of a tensor alone may exceed what float16 has
        tensors = [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]
    return get_total_norm(tensors)


def _row(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).to(torch.promote_types(tensor.dtype, torch.float32))


def _stretch(module: nn.Module, direction: Direction) -> Tensor:
    """Length of the parameters over that of v."""
    parameters = dict(module.named_parameters())
    length = get_total_norm(list(direction.values()))
    return torch.where(length > 0, get_total_norm([parameters[name].detach() for name in direction]) / length, 1.0)


def _dtype(passes: Sequence[Recorded]) -> torch.dtype:
    """What the network computes in."""
    entry = passes[0].cotangents[0]
    device = entry.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else entry.dtype


def _duals(module: nn.Module, direction: Direction) -> dict[str, Tensor]:
    parameters = dict(module.named_parameters())
    return {name: forward_ad.make_dual(parameters[name].detach(), tangent) for name, tangent in direction.items()}


def _tangent(entry: Tensor) -> Tensor:
    primal, tangent = forward_ad.unpack_dual(entry)
    return torch.zeros_like(primal) if tangent is None else tangent
