"""Weights in files and on their way into networks."""

import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError

__all__ = ["assign_weights", "backbone_weights", "read_tensors", "read_weights"]

_ZIP, _PICKLE = b"PK", b"\x80"


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


def backbone_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The backbone's weights among those of a run of this library; None if they come from elsewhere."""
    backbone = {
        name.removeprefix("backbone."): value for name, value in weights.items() if name.startswith("backbone.")
    }
    if backbone:
        return backbone
    return dict(weights) if any(name.startswith("model.") for name in weights) else None


def assign_weights(
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
    state = module.state_dict()
    missing = [name for name in state if name not in weights and not name.startswith(tuple(optional))]
    left = [name for name in weights if name not in state]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in state.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems = {"missing": missing, "not in the network": left, "of another shape": shapes}
    if any(problems.values()):
        parts = "; ".join(
            f"{len(names)} {problem} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for problem, names in problems.items()
            if names
        )
        raise InputError(
            f"weights of {origin} do not fit {type(module).__name__}: {parts}; give the weights of this network"
        )
    module.load_state_dict(weights, strict=False)
