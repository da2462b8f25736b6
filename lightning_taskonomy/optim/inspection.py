"""Looks for operations whose forward mode is silently wrong, by one watched pass of dual numbers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_taskonomy.optim.features import entries, graft, learnable

__all__ = ["lost_tangents"]


def lost_tangents(module: nn.Module, run: Callable[[], object]) -> str | None:
    """The first operation whose forward mode is silently wrong: it drops a tangent, or keeps one that ends there.

    A tangent is dropped where one goes in, none comes out, and the operation's own reverse mode reaches what went in:
    not by a dead ReLU, a detached tensor or an index. It is kept by what runs under the network's own
    ``torch.no_grad``, which the reverse mode alone respects.

    Args:
        module: The network.
        run: Makes a pass through it, with dual numbers as its parameters.

    Returns:
        Its name and the path and class of the module that it is in, or None. Functions and custom operators of torch
        are seen wherever they are called; other code, an ``autograd.Function`` for one, where a module is all of it.
    """
    watch = _Watch()
    with torch.enable_grad(), forward_ad.dual_level(), watch.hooked(module), watch:  # no tape: no dual needs a gradient
        run()
    return watch.faults[0] if watch.faults else None


class _Watch(TorchFunctionMode):
    """Looks at each call of torch's functions and of modules within a pass of dual numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._path: list[str] = []
        self._stopped: list[Tensor] = []  # computed under no_grad
        self._looking = False

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the function and looks at what came out."""
        kwargs = kwargs or {}
        if self._looking:
            return function(*args, **kwargs)
        moving = [entry for entry in entries((args, kwargs)) if _moves(entry)]  # now, as it may work in place
        output = function(*args, **kwargs)
        where = f"{getattr(function, '__name__', function)} of {self._path[-1] if self._path else 'the backbone'}"
        if moving:
            self._look(where, function, args, kwargs, output)
        if not torch.is_grad_enabled():
            self._stopped += filter(_moves, entries(output))
        elif any(entry is other for entry in moving for other in self._stopped) and any(map(_moves, entries(output))):
            self.faults.append(f"{where}, which reads what torch.no_grad has computed")
        return output

    @contextmanager
    def hooked(self, module: nn.Module) -> Iterator[None]:
        """Looks at the modules inside, and knows in which one the pass is."""
        names = {inner: f"{name or 'the backbone'} ({type(inner).__name__})" for name, inner in module.named_modules()}

        def before(inner: nn.Module, inputs: Any) -> None:
            self._path.append(names[inner])

        def after(inner: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            label = self._path.pop()
            if not self._looking:
                self._looking = True
                if any(map(_moves, entries((args, kwargs)))):
                    self._look(label, inner.forward, args, kwargs, output)
                self._looking = False

        handles = [inner.register_forward_pre_hook(before) for inner in names]
        handles += [inner.register_forward_hook(after, with_kwargs=True) for inner in names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _look(self, where: str, call: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        """Notes a call that has dropped its tangents."""
        outputs = [entry for entry in entries(output) if isinstance(entry, Tensor) and entry.is_floating_point()]
        if outputs and not any(map(_moves, outputs)) and _passes(call, args, kwargs):
            self.faults.append(where)


def _passes(call: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether the call's reverse mode reaches those arguments, and entries of them, that have a tangent."""
    points: list[tuple[Tensor, Tensor]] = []

    def point(entry: Any) -> Any:
        if not _moves(entry):
            return entry
        primal, tangent = forward_ad.unpack_dual(entry)
        points.append((primal.detach().requires_grad_(), tangent))
        return points[-1][0].clone()  # no leaf: it may be written to

    args, kwargs = graft((tuple(args), dict(kwargs)), point)
    maps = [entry for entry in entries(call(*args, **kwargs)) if learnable(entry)]
    if not maps:
        return False
    pulled = torch.autograd.grad(
        maps, [p for p, _ in points], [torch.randn_like(o) for o in maps], materialize_grads=True
    )  # fmt: skip
    return any(bool((g * t).any()) for g, (_, t) in zip(pulled, points, strict=True))


def _moves(entry: Any) -> bool:
    if not isinstance(entry, Tensor) or not entry.is_floating_point():
        return False
    tangent = forward_ad.unpack_dual(entry).tangent
    return tangent is not None and bool(tangent.any())
