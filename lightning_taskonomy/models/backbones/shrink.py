"""Backbones of a share of a full-size one's multiply-adds, by their width."""

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_taskonomy.errors import InputError, input_error
from lightning_taskonomy.models.backbones.base import Backbone
from lightning_taskonomy.models.backbones.widths import FixedWidthError

__all__ = ["multiply_adds", "shrunk"]

_DIGITS = 3  # behind the first one of a width that is no whole number
_WIDEST = 64  # times the width of the full-size backbone
_TOLERANCE = 0.03  # more of the share than this is refused where no thinner network is left
_CLOSE = 0.005  # the search ends within this of the share
_GUESSES = 4  # widths tried where multiply-adds of the square of the width would be enough, before bisection
_PRETRAINED = ("pretrained", "weights")


def multiply_adds(module: Callable[..., Any], *inputs: Any) -> int:
    """Multiply-adds of one call, by torch's ``FlopCounterMode``.

    It counts convolutions, matrix products and attention, two operations per multiply-add; biases, normalisations and
    activations are not counted.

    Args:
        module: What is called; in evaluation mode. On the meta device nothing is computed.
        inputs: With what.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def shrunk(
    spec: Mapping[str, Any], share: float, size: tuple[int, int], build: Callable[[dict[str, Any]], Backbone]
) -> dict[str, Any]:
    """Describes a backbone of about a share of another's multiply-adds.

    Its ``width`` is searched, to a thousandth where it is a factor, in channels where it is a whole number, until the
    multiply-adds are within 0.5 % of the share or no width lies between two; then the nearer of the two is taken.
    Weights shrink by about the same share. How near it comes depends on how finely the channels scale: the networks
    of ``docs/networks.md`` stay within 3 %, a transformer's heads may allow less.

    Args:
        spec: The full-size backbone: ``class_path`` and ``init_args``.
        share: Multiply-adds wanted, as a share of the full-size backbone's; above 1 makes a wider one.
        size: Height and width of the images.
        build: Builds a backbone from its description.

    Returns:
        The description with another ``width``; as it was for a share of 1.

    Raises:
        InputError: The share is not a number above 0, no width comes near it, weights to start from are of the full
            size alone, or the backbone has no width.
    """
    if not (math.isfinite(share) and share > 0):
        raise InputError(f"a network of size {share:g}; give a share of the full size above 0, such as 0.5")
    spec = {**spec, "init_args": dict(spec.get("init_args") or {})}
    if share == 1:
        return spec
    arguments, name = spec["init_args"], str(spec["class_path"]).rpartition(".")[2]
    if "width" not in arguments and isinstance(inner := arguments.get("backbone"), Mapping):
        return {**spec, "init_args": {**arguments, "backbone": shrunk(inner, share, size, build)}}
    if loaded := [key for key in _PRETRAINED if arguments.get(key)]:
        raise InputError(
            f"{name} at {share:g} of its size has no weights to start from; leave {loaded[0]} out, or give "
            f"this size a network of its own: {{{share:g}: {{class_path: ..., init_args: ...}}}}"
        )
    parameter, full = _measured(spec, size, build)
    if parameter is None:
        raise InputError(
            f"{name} has no width to make a network of {share:g} of its size; give this size a network of its own: "
            f"{{{share:g}: {{class_path: ..., init_args: ...}}}}"
        )
    width = arguments.get("width", parameter.default)
    whole = isinstance(width, int) and not isinstance(parameter.default, float)
    steps = 1 if whole else 10 ** max(0, _DIGITS - math.floor(math.log10(width)))
    start, target = round(width * steps), share * full

    def described(step: int) -> dict[str, Any]:
        return {**spec, "init_args": {**arguments, "width": step if whole else step / steps}}

    refusals: dict[int, InputError] = {}

    @cache
    def cost(step: int) -> int:
        """Multiply-adds at a width; none where a layer would be without channels."""
        try:
            return _measured(described(step), size, build)[1]
        except Exception as error:  # whatever a parser makes of what the constructor refuses
            refused = input_error(error)
            if refused is None or isinstance(refused, FixedWidthError) or step >= start:
                raise
            refusals[step] = refused
            return 0

    def close(step: int) -> bool:
        return abs(cost(step) - target) <= _CLOSE * target if step else False

    thin, wide = 0, start  # the first costs less than the target, the second does not
    while cost(wide) < target:
        thin, wide = wide, 2 * wide
        if wide > _WIDEST * start:
            raise InputError(f"{name} at {_WIDEST} times its width is still below {share:g} of its size; give less")
    for guesses in itertools.count():
        if wide - thin <= 1 or close(thin) or close(wide):
            break
        middle = (thin + wide) // 2
        if guesses < _GUESSES:
            middle = max(thin + 1, min(wide - 1, round(wide * math.sqrt(target / cost(wide)))))
        thin, wide = (thin, middle) if cost(middle) >= target else (middle, wide)
    below, above = cost(thin) if thin else 0, cost(wide)
    if not below and above > (1 + _TOLERANCE) * target:
        reason = f"; {refusals[thin]}" if thin in refusals else ""
        raise InputError(f"no network of {share:g} of {name}'s size: the smallest has {above / full:.2g}{reason}")
    return described(thin if below and target - below < above - target else wide)


def _measured(
    spec: dict[str, Any], size: tuple[int, int], build: Callable[[dict[str, Any]], Backbone]
) -> tuple[inspect.Parameter | None, int]:
    """The ``width`` that a backbone's constructor takes, if any, and its multiply-adds; draws no random numbers."""

    def measured() -> tuple[inspect.Parameter | None, int]:
        backbone = build(spec).eval()
        width = inspect.signature(type(backbone)).parameters.get("width")
        return width, multiply_adds(backbone, torch.zeros(1, backbone.mean.shape[1], *size))

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):  # nothing is allocated, drawn or computed
                return measured()
        except Exception:  # a network that looks at values; what else is wrong comes again
            return measured()
