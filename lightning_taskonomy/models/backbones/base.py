"""What a backbone is, and how weights get into one."""

import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones.sizes import taken_size, takes

__all__ = ["Backbone", "load_weights", "own_weights", "read_tensors", "read_weights"]

_ZIP, _PICKLE = b"PK", b"\x80"


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

    def refused(self, image: Tensor, error: BaseException) -> InputError | None:
        """What to tell of images that the backbone refuses.

        Args:
            image: The images, (B, C, H, W).
            error: What was raised when they came.

        Returns:
            The channels; or the size, another that is taken, and the options that help. None where neither is why:
            images of that size pass after all, or no others do.
        """
        channels, size = self.mean.shape[1], (image.shape[-2], image.shape[-1])
        if image.shape[1] != channels:
            return InputError(
                f"{type(self).__name__} takes images of {channels} channels, not {image.shape[1]}; give the backbone "
                "as many (in_chans), or the data"
            )
        if isinstance(error, InputError | torch.OutOfMemoryError) or takes(self, channels, size):
            return None
        other, options = taken_size(self, channels, size), self.size_options(size)
        if other is None and not options:
            return None
        advice = [f"add {' or '.join(options)} to the backbone's options"] if options else []
        advice += [f"give images of {other[0]}x{other[1]}"] if other else []
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return InputError(
            f"{type(self).__name__} refuses images of {size[0]}x{size[1]} pixels ({reason}); {', or '.join(advice)}"
        )

    def size_options(self, size: tuple[int, int]) -> list[str]:
        """Options of a recipe with which the backbone takes images of this height and width; none in general."""
        return []

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
        InputError: There is no such file, it is damaged, or it holds something else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no weight file {str(path)!r}; give a .safetensors file or a torch file of weights")
    content = read_tensors(path)
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


def read_tensors(path: Path) -> Any:
    """What a file of tensors holds.

    Args:
        path: A safetensors file, as its first bytes say; or a torch file (``torch.save``, a checkpoint), which is
            compared with its checksums and read with ``weights_only=True``.

    Raises:
        InputError: It is damaged, of neither kind, or holds Python objects that are not loaded for safety.
    """
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head[8:] == b"{":
            return load_file(path)
        if not head.startswith((_ZIP, _PICKLE)):
            raise ValueError(f"it begins with {head!r}" if head else "it is empty")
        if head.startswith(_ZIP) and (record := _damaged_record(path)):  # torch.load does not look at the checksums
            raise ValueError(f"{record} does not have its checksum")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=head.startswith(_ZIP))
    except MemoryError:
        raise
    except Exception as error:  # of the unpickler and of both libraries: whatever damaged bytes lead to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        if asked := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
            raise InputError(
                f"weight file {path} holds Python objects ({asked[1].rstrip('.')}), not loaded for safety; save the "
                "state_dict() alone"
            ) from error
        raise InputError(
            f"weight file {path} is damaged or holds no weights ({reason}); copy it again, or train that run again"
        ) from error


def _damaged_record(path: Path) -> str | None:
    """The first part of a torch file that is not as it was written; none where it was written without checksums."""
    with zipfile.ZipFile(path) as file:
        version = next((name for name in file.namelist() if name.endswith("/version")), None)
        try:
            if version is not None:
                file.read(version)
        except zipfile.BadZipFile:
            return None
        return file.testzip()


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
