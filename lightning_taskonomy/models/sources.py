"""Frozen sources of a transfer: trained backbones, or stand-ins for representations that come with the batch."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from lightning_taskonomy.arguments import read_recipe
from lightning_taskonomy.configurations import untrained_backbone
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.models.readouts import shared_convolutions, side_by_side
from lightning_taskonomy.models.weights import read_weights
from lightning_taskonomy.tasks import CONVENTION

__all__ = ["CachedSource", "FrozenSources", "describe_representation", "load_backbone", "representation_key"]

_DESCRIPTION = "representation.json"


def representation_key(index: int) -> str:
    """The batch key of the cached representation of source number ``index``."""
    return f"representation_{index}"


def load_backbone(folder: str | Path) -> Backbone:
    """The trained backbone of a finished run; of a transfer, its sources with the readout's convolutions on top.

    Args:
        folder: The run's folder, with ``config.yaml`` and ``weights.safetensors``.

    Raises:
        InputError: The folder holds no finished run.
    """
    folder = Path(folder)
    config, weights = folder / "config.yaml", folder / "weights.safetensors"
    if not config.is_file() or not weights.is_file():
        raise InputError(f"{folder} holds no finished run (config.yaml and weights.safetensors); train it first")
    init_args = read_recipe(config)["model"]["init_args"]
    state = read_weights(weights)
    if "sources" in init_args:
        return _transferred(init_args["sources"], state)
    backbone = _built(init_args["backbone"])
    backbone.load_state_dict(_under("backbone.", state))
    return backbone


def _built(spec: dict[str, Any]) -> Backbone:
    """An untrained backbone."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=Backbone)
    built: Backbone = parser.instantiate(parser.parse_object({"backbone": untrained_backbone(spec)})).backbone
    return built


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _transferred(sources: list[str], state: dict[str, Tensor]) -> Backbone:
    """The representation that a transfer learned: the first half of s -> t1 -> t2 (Taskonomy, section 3.2)."""
    runs = [json.loads((Path(source) / _DESCRIPTION).read_text())["run"] for source in sources]
    (prefix,) = {name.split(".transfer.")[0] + ".transfer." for name in state if ".transfer." in name}
    return _Transferred(FrozenSources(runs), _under(prefix, state))


class _Transferred(Backbone):
    def __init__(self, sources: "FrozenSources", state: dict[str, Tensor]) -> None:
        super().__init__()
        width, channels = state["0.weight"].shape[:2]
        if channels != sum(sources.out_channels):
            raise InputError("a transfer that reads several views has no representation of one image")
        self.sources, self.transfer = sources, shared_convolutions(channels, width)
        self.transfer.load_state_dict(state)
        self.out_channels, self.reductions, self.multiple = [width], sources.reductions[:1], sources.multiple

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.transfer(side_by_side(self.sources(image)))]


def describe_representation(folder: str | Path, backbone: Backbone, run: str | Path) -> None:
    """Writes what a :class:`CachedSource` of that folder needs to know of the backbone, and whose it is."""
    content = {
        "out_channels": list(backbone.out_channels), "reductions": list(backbone.reductions), "run": str(run),
        "convention": CONVENTION,
    }  # fmt: skip
    write_json(Path(folder) / _DESCRIPTION, content)


class CachedSource(Backbone):
    """Stands for a source whose representations come with the batch; its network is not even loaded.

    Args:
        folder: A folder of cached representations, with ``representation.json``.

    Raises:
        InputError: The folder holds none, or one beside labels of an older convention.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        described = self.folder / _DESCRIPTION
        if not described.is_file():
            raise InputError(f"{self.folder} holds no representation.json; let the study encode that source first")
        content = json.loads(described.read_text())
        if content.get("convention", 1) != CONVENTION:
            raise InputError(
                f"{self.folder} was cached by labels' convention {content.get('convention', 1)}, this release reads "
                f"convention {CONVENTION}; remove that folder and run the study again"
            )
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

    sources: nn.ModuleList

    def __init__(self, sources: Sequence[str | Path | Backbone]) -> None:
        super().__init__()
        if not sources:
            raise InputError("a transfer needs at least one source; name run folders or backbones")
        built = [_source(source) for source in sources]
        self.sources = nn.ModuleList(built).requires_grad_(False).eval()
        self.are_cached = all(isinstance(source, CachedSource) for source in built)
        self.out_channels = [c for source in built for c in source.out_channels]
        self.reductions = [r for source in built for r in source.reductions]
        self.multiple = math.lcm(*(source.multiple for source in built))
        for source in built:
            source.multiple = self.multiple  # so that the maps of all are of one image

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
