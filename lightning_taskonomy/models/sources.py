"""Frozen sources of a transfer: trained backbones, or stand-ins for representations that come with the batch."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.models.backbones import Backbone

__all__ = ["CachedSource", "FrozenSources", "describe_representation", "load_backbone", "representation_key"]

_DESCRIPTION = "representation.json"


def representation_key(index: int) -> str:
    """The batch key of the cached representation of source number ``index``."""
    return f"representation_{index}"


def load_backbone(folder: str | Path) -> Backbone:
    """The trained backbone of a finished run.

    Args:
        folder: The run's folder, with ``config.yaml`` and ``weights.safetensors``.

    Raises:
        InputError: The folder holds no finished run.
    """
    folder = Path(folder)
    config, weights = folder / "config.yaml", folder / "weights.safetensors"
    if not config.is_file() or not weights.is_file():
        raise InputError(f"{folder} holds no finished run (config.yaml and weights.safetensors); train it first")
    spec = yaml.safe_load(config.read_text())["model"]["init_args"]["backbone"]
    # The trained weights replace whatever the backbone started from.
    init_args = {k: v for k, v in spec.get("init_args", {}).items() if k not in ("pretrained", "weights")}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=Backbone)
    parsed = parser.parse_object({"backbone": {**spec, "init_args": init_args}})
    backbone: Backbone = parser.instantiate(parsed).backbone
    prefix = "backbone."
    state = {name[len(prefix) :]: value for name, value in load_file(weights).items() if name.startswith(prefix)}
    if not state:
        raise InputError(f"{weights} holds no backbone (a transfer's sources are frozen); name the run of a source task")
    backbone.load_state_dict(state)
    return backbone


def describe_representation(folder: str | Path, backbone: Backbone) -> None:
    """Writes what a :class:`CachedSource` of that folder needs to know of the backbone."""
    content = {"out_channels": list(backbone.out_channels), "reductions": list(backbone.reductions)}
    write_json(Path(folder) / _DESCRIPTION, content)


class CachedSource(Backbone):
    """Stands for a source whose representations come with the batch; its network is not even loaded.

    Args:
        folder: A folder of cached representations, with ``representation.json``.

    Raises:
        InputError: The folder holds none.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        described = self.folder / _DESCRIPTION
        if not described.is_file():
            raise InputError(f"{self.folder} holds no representation.json; let the study encode that source first")
        content = json.loads(described.read_text())
        self.out_channels, self.reductions = list(content["out_channels"]), list(content["reductions"])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Always refused: a cached source sees no image.

        Raises:
            InputError: The batch lacks the cached representation.
        """
        raise InputError(f"{self.folder} is a cache, but the batch holds no representation of it; use its data module")


class FrozenSources(Backbone):
    """The representations of k frozen sources side by side: in eval mode always, never trained.

    Args:
        sources: Backbones, run folders, or folders of cached representations.

    Raises:
        InputError: No source, or a folder that holds neither.
    """

    def __init__(self, sources: Sequence[str | Path | Backbone]) -> None:
        super().__init__()
        if not sources:
            raise InputError("a transfer needs at least one source; name run folders or backbones")
        self.sources = nn.ModuleList([_source(source) for source in sources]).requires_grad_(False).eval()
        self.out_channels = [c for source in self.sources for c in source.out_channels]
        self.reductions = [r for source in self.sources for r in source.reductions]

    def train(self, mode: bool = True) -> "FrozenSources":
        """Stays in eval mode whatever the mode of the module around it."""
        self.training = False
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[Tensor]:
        """All maps of all sources, in order."""
        return [feature for source in self.sources for feature in source(image)]


def _source(source: str | Path | Backbone) -> Backbone:
    if isinstance(source, Backbone):
        return source
    return CachedSource(source) if (Path(source) / _DESCRIPTION).is_file() else load_backbone(source)
