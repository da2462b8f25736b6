"""A run's weights and checkpoints in files: written, read, and refused before anything is done with them."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from safetensors.torch import save

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes
from lightning_taskonomy.models.weights import read_tensors, read_weights

__all__ = ["WEIGHTS", "check_checkpoint", "check_last", "load_weights", "save_weights"]

WEIGHTS = "weights.safetensors"
_OF_A_RUN = ("config.yaml", "metrics.json", WEIGHTS)
_RESUMED = ("loops", "optimizer_states", "lr_schedulers")


def save_weights(model: LightningModule, path: Path, measured: Iterable[Path] = ()) -> None:
    """Writes a module's state as safetensors, atomically.

    Args:
        model: The module.
        path: The file.
        measured: Files about the weights that are there; removed first if others replace those.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    content = save({name: value.clone() for name, value in state.items()})
    if not path.is_file() or path.read_bytes() != content:
        for file in measured:
            file.unlink(missing_ok=True)
    write_bytes(path, content)


def load_weights(model: LightningModule, path: str | Path, part: str = "") -> None:
    """Loads a run's weights into a module; the backbones and heads that both have must fit.

    Args:
        model: The module.
        path: A run folder, a safetensors file, a checkpoint of Lightning, or a torch file of a ``state_dict``.
        part: Load only entries whose names begin so, such as ``backbone.``.

    Raises:
        InputError: No such file, a damaged one, or weights of another shape.
    """
    path = Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no weights at {file}; name a finished run's folder, a safetensors file or a checkpoint")
    state = {name: value for name, value in read_weights(file).items() if name.startswith(part)}
    entries = model.state_dict()
    misshapen = [name for name, value in state.items() if name in entries and entries[name].shape != value.shape]
    absent = [name for name in entries if name.startswith(part) and name not in state]
    if misshapen or len(absent) == len(entries):
        name = (misshapen or absent)[0]
        raise InputError(f"{file} does not fit the model: {name!r} is absent or has another shape; use its config.yaml")
    if absent:
        warnings.warn(
            f"{len(absent)} of {len(entries)} entries are not in {file} and start anew: {absent[0]} ...", stacklevel=2
        )
    model.load_state_dict(state, strict=False)


def check_checkpoint(path: str, out: Path, *, resumes: bool) -> None:
    """Refuses what ``--ckpt_path`` cannot mean, before a fit touches its folder.

    ``last`` is left to :func:`check_last`, addresses (``s3://...``) and ``hpc`` to Lightning.

    Args:
        path: A file, or a word of Lightning.
        out: The run's folder, where checkpoints are looked for to name them.
        resumes: Whether a fit is to go on from it; else its weights alone are read.

    Raises:
        InputError: There is no such checkpoint, it is damaged, or it is something else.
    """
    if path in ("last", "hpc") or "://" in path:
        return
    if path == "best":
        raise InputError(
            f"--ckpt_path best: which checkpoint was best is known only during its fit; name the file{_instead(out)}, "
            f"or the run by --weights {out}, which keeps the best weights"
        )
    if path == "registry" or path.startswith("registry:"):
        if find_spec("litmodels") is None:
            raise InputError(
                f"--ckpt_path {path} asks Lightning's registry of models; pip install litmodels, or name a file"
            )
        return
    file = Path(path)
    if file.is_dir():
        if any(file.glob("*.metadata")) or (file / "meta.pt").is_file() or (file / "checkpoint").is_dir():
            return  # written by several processes, a part each
        raise InputError(
            f"--ckpt_path {path} is a folder; name a checkpoint{_instead(file)}, or start from a run's weights by "
            f"--weights {path}"
        )
    if not file.is_file():
        raise InputError(
            f"--ckpt_path: no checkpoint at {path}; name one that exists{_instead(out)}"
            + (", or leave --ckpt_path out to start anew" if resumes else f", or a run by --weights {out}")
        )
    _check_content(file, resumes)


def check_last(trainer: Trainer, *, resumes: bool) -> None:
    """Refuses ``--ckpt_path last`` where there is none but an earlier run is: Lightning would train over that.

    A fit in a folder without a run begins, so that one command serves for the first start and each one after a stop.

    Args:
        trainer: The trainer, whose callbacks say where checkpoints lie.
        resumes: As in :func:`check_checkpoint`.

    Raises:
        InputError: There is no last checkpoint, or it is damaged.
    """
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    files = {Path(file) for callback in savers for file in callback._find_last_checkpoints(trainer)}
    files |= {Path(c.ckpt_path) for c in trainer.callbacks if isinstance(c, OnExceptionCheckpoint)}  # type: ignore[attr-defined]  # a connector sets callbacks
    checkpoints = [file for file in files if file.is_file()]
    if checkpoints:
        return _check_content(max(checkpoints, key=lambda file: file.stat().st_mtime), resumes)
    if any(file.exists() for file in files):
        return None
    root = Path(trainer.default_root_dir)
    if resumes and not any((root / name).exists() for name in _OF_A_RUN):
        return None
    folders = ", ".join(dict.fromkeys(str(c.dirpath) for c in savers if c.dirpath)) or trainer.default_root_dir
    raise InputError(
        f"--ckpt_path last: no last checkpoint in {folders} (a ModelCheckpoint with save_last: true writes it); leave "
        "--ckpt_path out to start anew, or name a file"
    )


def _check_content(file: Path, resumes: bool) -> None:
    """Whether a file is a checkpoint of Lightning that can be resumed; its tensors are not read."""
    if file.suffix == ".safetensors":
        raise InputError(
            f"--ckpt_path: {file} holds weights, not the state of a fit; start from it by --weights {file}"
        )
    content = read_tensors(file)
    if not isinstance(content, dict) or "state_dict" not in content or "pytorch-lightning_version" not in content:
        raise InputError(
            f"--ckpt_path: {file} is not a checkpoint of Lightning; start from its weights by --weights {file}"
        )
    absent = [name for name in _RESUMED if name not in content]
    if resumes and absent:
        raise InputError(
            f"--ckpt_path: {file} holds weights alone (no {', '.join(absent)}: save_weights_only) and no fit can be "
            f"resumed from them; start from them by --weights {file}"
        )


def _instead(folder: Path) -> str:
    """The checkpoints that lie below a folder, to be named instead."""
    files: Iterable[Path] = sorted(folder.rglob("*.ckpt"), key=lambda file: -file.stat().st_mtime)
    names = [str(file) for file in files]
    return f" ({' or '.join(names[:2])})" if names else ""
