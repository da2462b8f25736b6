"""Trained networks from where they lie: a run's folder, or what was written to deploy them."""

from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser

from lightning_taskonomy.arguments import read_recipe
from lightning_taskonomy.configurations import Spec, untrained
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.weights import assign_weights, read_weights
from lightning_taskonomy.modules.base import BaseModule
from lightning_taskonomy.refusals import refusing

__all__ = ["described", "trained"]

M = TypeVar("M", bound=BaseModule)


def described(path: str | Path) -> tuple[Spec, Path]:
    """The module of a run as its recipe has it, with backbones that start without weights, and its weights' file.

    Args:
        path: A finished run's folder; or a file of weights with its recipe beside it, as ``export`` writes them.

    Raises:
        InputError: There is no such run.
    """
    path = Path(path)
    config, weights = path.with_suffix(".yaml"), path
    if path.is_dir() or not path.is_file():
        config, weights = path / "config.yaml", path / "weights.safetensors"
    if not config.is_file() or not weights.is_file():
        raise InputError(f"{path} holds no finished run ({config.name} and {weights.name}); train it first")
    recipe = read_recipe(config)
    if not isinstance(recipe, dict) or not isinstance(recipe.get("model"), dict):
        raise InputError(f"{config} describes no model; name a run's folder")
    return untrained(recipe["model"]), weights


def trained(path: str | Path, kind: type[M]) -> M:
    """A trained module, in eval mode.

    Args:
        path: As of :func:`described`.
        kind: What it must be.

    Raises:
        InputError: There is no such run, it is of another kind, or weights and recipe do not fit.
    """
    spec, weights = described(path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=kind)
    with refusing():
        model: M = parser.instantiate(parser.parse_object({"model": spec})).model
    assign_weights(model, read_weights(weights), origin=str(path))
    return model.eval()
