"""What the network's optimizer remembers of the backbone, apart for meta and for auxiliary steps."""

from collections.abc import Mapping, MutableMapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_taskonomy.callbacks.bifurcation import BatchKind

__all__ = ["SeparateMoments"]


class SeparateMoments:
    """The optimizer's state of the backbone's parameters, kept twice and swapped by the kind of step.

    Primary and projected auxiliary gradients differ in size, and second moments that take in both scale either by the
    other. The state of a step's kind stands in the optimizer while it steps; the other waits here. Both start as what
    the optimizer has before the first step.
    """

    def __init__(self) -> None:
        self._parameters: dict[str, nn.Parameter] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._inside: BatchKind | None = None  # whose state the optimizer has; None before the first step
        self._waiting: dict[nn.Parameter, dict[str, Any]] = {}
        self._restored: Mapping[str, Mapping[str, Any]] | None = None

    def begin_fit(self, optimizer: torch.optim.Optimizer, backbone: nn.Module) -> None:
        """Takes a fit's optimizer; a second fit begins anew with its own.

        Args:
            optimizer: The network's; its state may yet be restored.
            backbone: The backbone.
        """
        if self._restored is None:
            self._inside, self._waiting = None, {}
        self._optimizer, self._parameters = optimizer, dict(backbone.named_parameters())

    def swap(self, kind: BatchKind) -> None:
        """Before a step of the optimizer: gives it the state of such steps.

        Args:
            kind: That of the step.
        """
        self._settle(kind)
        if self._inside == kind:
            return
        state, waiting = self._state, self._waiting
        self._inside, self._waiting = kind, {p: state.pop(p) for p in self._parameters.values() if p in state}
        state.update(waiting)

    def of(self, kind: BatchKind) -> Mapping[Any, Any]:
        """The state that a step of a kind would find, without swapping.

        Args:
            kind: That of the step.
        """
        if self._restored is not None:
            self._settle(kind)
        return self._state if self._inside in (None, kind) else self._waiting

    def state_dict(self) -> dict[str, Any]:
        """What waits here, by the names of the backbone's parameters; tensors and numbers as the optimizer has them."""
        if self._restored is not None:
            return {"inside": self._inside, "waiting": self._restored}
        waiting = {name: self._waiting[p] for name, p in self._parameters.items() if p in self._waiting}
        return {"inside": self._inside, "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, which takes effect at the next step.

        Args:
            state: What :meth:`state_dict` gave.
        """
        self._inside, self._waiting, self._restored = state["inside"], {}, state["waiting"]

    @property
    def _state(self) -> MutableMapping[Any, Any]:
        assert self._optimizer is not None  # from the start of a fit
        return self._optimizer.state

    def _settle(self, kind: BatchKind) -> None:
        """At the first step of a fit: what waits is what the checkpoint has, or a copy of what the optimizer has."""
        if self._restored is not None:
            for name, entries in self._restored.items():
                if name in self._parameters:
                    self._waiting[self._parameters[name]] = self._placed(self._parameters[name], entries)
            self._restored = None
        if self._inside is None:
            state = self._state
            self._waiting = {p: deepcopy(state[p]) for p in self._parameters.values() if p in state}
            self._inside = kind

    def _placed(self, parameter: nn.Parameter, entries: Mapping[str, Any]) -> dict[str, Any]:
        """One parameter's entries of a checkpoint where and as its optimizer wants them (as torch restores its own)."""
        assert self._optimizer is not None
        on_device = any(
            group.get("fused") or group.get("capturable")
            for group in self._optimizer.param_groups
            if any(parameter is other for other in group["params"])
        )
        placed: dict[str, Any] = {}
        for key, value in entries.items():
            if not isinstance(value, Tensor):
                placed[key] = value
            elif key == "step":
                placed[key] = value.to(parameter.device, torch.float32) if on_device else value
            else:
                placed[key] = value.to(parameter)
        return placed
