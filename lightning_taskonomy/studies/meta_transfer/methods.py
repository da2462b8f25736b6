"""The methods that are compared (section 4.3 of the paper), each described by what its run has beside the network.

All methods have one network, one choice of the images X with primary labels, one order of batches and one number of
network steps. What differs is which batches they see, which tasks their module has and which callback acts on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.optim.aggregation import AGGREGATORS

__all__ = ["METHODS", "Knob", "Knobs", "Method", "candidates", "in_words", "method"]

Knob = bool | int | float | str | dict[str, Any] | list[dict[str, Any]] | list[Any] | None
"""One setting as a recipe gives it; a parser takes a description where it sees ``Any`` for the object described."""

Knobs = Mapping[str, Any]
"""A method's settings, ``{"auxiliary_steps": 3, "rank": 5}``; a list is a grid to choose from on validation."""

_CALLBACKS = "lightning_taskonomy.callbacks."
_TMT = _CALLBACKS + "TaskMetaTransfer"
_LOADER = {"auxiliary_steps": 3}
_TRANSFER = {"pretrain": 0.5}


@dataclass(frozen=True)
class Method:
    """A way to use few primary and many auxiliary labels.

    Args:
        name: Its key in the settings.
        callback: Dotted path of the callback that makes it more than plain training on its batches.
        arguments: Arguments that the callback always has.
        directed: Whether the callback takes ``primary`` and ``auxiliary`` too.
        streams: The batches it sees; see ``ParallelLabels``.
        knobs: Settings that do not go to the callback, and their values where none are given.
        several: Whether it is a method of its own only where a case has several auxiliary tasks.
        divides: Whether pretraining and training share the budget of steps; else the latter has all of it.
    """

    name: str
    callback: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    directed: bool = True
    streams: Literal["both", "parallel", "oracle"] = "both"
    knobs: Mapping[str, Any] = field(default_factory=lambda: _LOADER)
    several: bool = False
    divides: bool = True

    @property
    def alone(self) -> bool:
        """Whether it uses no auxiliary label, so that one run serves all cases of a primary task."""
        return not self.knobs


METHODS: Mapping[str, Method] = {
    one.name: one
    for one in (
        Method("primary_only", streams="parallel", knobs={}),
        Method("transfer", streams="parallel", knobs=_TRANSFER),
        Method("transfer_full", streams="parallel", knobs={"pretrain": 1.0}, divides=False),
        Method("mtl"),
        Method("kendall", _CALLBACKS + "KendallWeighting"),
        Method("du", _CALLBACKS + "CosineWeighting"),
        Method("lin", _CALLBACKS + "MetaWeighting"),
        *(Method(name, _CALLBACKS + "GradientAggregation", {"aggregator": name}, False) for name in AGGREGATORS),
        Method("tmt", _TMT),
        Method("tmt_identity", _TMT, {"projection": "identity"}),
        Method("tmt_full", _TMT, {"projection": "full"}),
        Method("tmt_mean", _TMT, {"combine": "mean"}, several=True),
        Method("oracle", streams="oracle", knobs={}),
    )
}
"""The paper's columns in its order; torchjd's aggregators before Task Meta-Transfer, its variants behind it."""


def method(name: str, knobs: Knobs) -> Method:
    """The method of that name, or a user's own: any name with ``callback``, the dotted path of a callback.

    Args:
        name: Its key in the settings.
        knobs: Its settings.

    Raises:
        InputError: It is unknown and has no callback, or has settings but takes none.
    """
    callback = knobs.get("callback")
    if callback is None and name not in METHODS:
        raise InputError(
            f"no method {name!r}, and one of your own needs callback=..., its dotted path{hint(name, METHODS)}"
        )
    named = METHODS[name] if callback is None else Method(name, str(callback))
    if named.callback is None:
        for setting in knobs:
            if setting not in named.knobs:
                raise InputError(
                    f"method {name!r} has no setting {setting!r}{hint(setting, named.knobs) or '; leave it out'}"
                )
    return named


def candidates(knobs: Knobs) -> list[dict[str, Any]]:
    """Every combination of a method's settings: lists are grids, all else is fixed.

    Raises:
        InputError: A grid is empty.
    """
    grids = {name: value if isinstance(value, list) else [value] for name, value in knobs.items()}
    for name, values in grids.items():
        if not values:
            raise InputError(f"the grid of {name!r} is empty; give at least one value")
    return [dict(zip(grids, values, strict=True)) for values in product(*grids.values())]


def in_words(knobs: Knobs) -> str:
    """Settings as people read them: ``auxiliary_steps=3 rank=5 optimizer=Adam(lr=0.01)``."""
    return " ".join(f"{name}={_word(value)}" for name, value in knobs.items() if name != "callback")


def _word(value: Any) -> str:
    if not isinstance(value, Mapping) or "class_path" not in value:
        return str(value)
    arguments = ", ".join(f"{name}={_word(entry)}" for name, entry in (value.get("init_args") or {}).items())
    return f"{value['class_path'].rsplit('.', 1)[-1]}({arguments})"
