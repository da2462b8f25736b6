"""What a backbone is, and how weights get into one."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError

__all__ = ["Backbone", "load_weights", "own_weights", "read_weights"]


class Backbone(nn.Module):
    """Image to feature maps.

    A subclass sets ``out_channels`` and ``reductions``, overrides ``features`` and may call ``normalise``.

    Args:
        mean: Subtracted from the image, one value per channel; the image is in [0, 1].
        std: What the image is then divided by.
    """

    out_channels: list[int]
    """Channels of each feature map."""
    reductions: list[int]
    """Image pixels per pixel of each feature map, along each axis; maps go from fine to coarse."""
    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = (0.485, 0.456, 0.406), std: Sequence[float] = (0.229, 0.224, 0.225)
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps of images.

        Args:
            image: RGB in [0, 1], (B, 3, H, W).

        Returns:
            One map (B, C, about H/r, about W/r) per entry of ``out_channels`` and ``reductions``.
        """
        return self.features(self.normalise(image))

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of normalised images (B, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define features(image) -> list[Tensor]")

    def normalise(self, image: Tensor) -> Tensor:
        """Images in [0, 1] to about zero mean and unit variance."""
        return (image - self.mean) / self.std

    def load_own(self, path: str | Path) -> None:
        """Loads the weights of a run of this library; leaves a file of other weights alone.

        Args:
            path: Weights of a whole module (those of its backbone are taken) or of a backbone.

        Raises:
            InputError: They are of another backbone.
        """
        own = own_weights(read_weights(path))
        if own is not None:
            load_weights(self, own, origin=str(path))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of a file: safetensors, or a torch file read with ``weights_only=True``.

    Args:
        path: The file. In a torch file the weights may lie under ``state_dict`` or ``model``.

    Returns:
        Tensors by name, without the ``module.`` that DistributedDataParallel adds; on the CPU.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no weight file {str(path)!r}; give a .safetensors file or a torch file of weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"weight file {str(path)!r} cannot be read ({reason}); it must hold tensors by name only"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not all(isinstance(value, Tensor) for value in content.values())
        or not content
    ):
        raise InputError(f"weight file {str(path)!r} does not hold tensors by name; save a model's state_dict()")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def own_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The backbone's weights among those of a run of this library; None if they come from elsewhere."""
    backbone = {
        name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")
    }
    if backbone:
        return backbone
    return dict(weights) if any(name.startswith("model.") for name in weights) else None


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, origin: str, optional: Collection[str] = ()
) -> None:
    """Loads weights into a module; every name and shape must fit, but for the parts named.

    Args:
        module: Where the weights go.
        weights: Tensors by name.
        origin: Where they come from, for the message.
        optional: Beginnings of names that the weights may lack.

    Raises:
        InputError: Something is missing or left over, or of another shape; nothing has been loaded then.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(tuple(optional))]
    left = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems = {"missing": missing, "not in the network": left, "of another shape": shapes}
    if any(problems.values()):
        told = "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in problems.items()
            if names
        )
        raise InputError(
            f"weights of {origin} do not fit {type(module).__name__}: {told}; give the weights of this network"
        )
    module.load_state_dict(weights, strict=False)
