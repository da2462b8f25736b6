"""What describes a run: its options, declared once for the command line and for the runs of studies."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Never

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lightning_taskonomy import data, modules
from lightning_taskonomy.arguments import explained, stop
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.refusals import refusing

__all__ = [
    "Parser",
    "add_run_options",
    "check",
    "instantiate_backbone",
    "instantiate_callback",
    "instantiate_data",
    "instantiate_model",
    "place",
    "run_parser",
]

_PACKAGES = (data, modules)  # once they are imported, YAML may name their classes without the path


class Parser(LightningArgumentParser):
    """Says what is wrong on one line, with "did you mean"."""

    def error(self, message: str, ex: Exception | None = None) -> Never:
        """Exits with status 2 after one line."""
        stop(self, message, ex)
        super().error(explained(message, self), ex)


def add_run_options(parser: LightningArgumentParser) -> None:
    """Declares what a run is made of: seed, trainer, model, data, its folder and the weights it starts from.

    Args:
        parser: That of a Trainer command, or of a run in a study.
    """
    parser.add_argument(
        "--seed_everything",
        type=bool | int,
        default=0,
        help="The seed of all random numbers; true draws one, false leaves them unseeded.",
    )
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_argument("--out", type=str, default="runs/fit", help="The run's folder.")
    parser.add_argument(
        "--weights",
        type=str | None,
        default=None,
        help="Weights to start from: a run folder or a safetensors file (``--ckpt_path`` resumes instead).",
    )
    parser.add_argument(
        "--weights_of",
        type=str,
        default="",
        help="Load only weights whose names begin with this: 'backbone.' leaves all heads as they start.",
    )


@cache
def run_parser() -> Parser:
    """The parser of one run, built once per process: it takes longer to build than a small fit to run."""
    parser = Parser(allow_abbrev=False, exit_on_error=False)
    add_run_options(parser)
    return parser


def place(config: Namespace) -> None:
    """Makes the run's folder the trainer's root, and that of loggers and checkpoints that do not name their own.

    Args:
        config: The run's options, parsed; changed in place.

    Raises:
        InputError: The trainer is to divide by zero.
    """
    trainer = config.trainer
    trainer.default_root_dir = config.out
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning divides by them
        if trainer[name] is not None and trainer[name] < 1:
            raise InputError(f"trainer: {name} is {trainer[name]}, must be at least 1")
    for callback in _listed(trainer.callbacks):
        init_args: Any = getattr(callback, "init_args", {})
        if "dirpath" in init_args and init_args.dirpath is None:
            init_args.dirpath = str(Path(config.out) / "checkpoints")
    for logger in _listed(trainer.logger):
        init_args = getattr(logger, "init_args", None)
        if init_args is not None and init_args.get("save_dir", "") in (None, "."):
            init_args.save_dir = config.out
            Path(config.out).mkdir(parents=True, exist_ok=True)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def check(config: dict[str, Any]) -> None:
    """Refuses a configuration that names what does not exist; nothing is made of it.

    Args:
        config: What :func:`~lightning_taskonomy.training.execute` takes.

    Raises:
        InputError: Unknown class or argument.
    """
    with refusing():
        run_parser().parse_object(deepcopy(config))  # the parser changes its argument


def check_arguments(kind: type, arguments: dict[str, Any]) -> None:
    """Refuses arguments of another type than a class takes; nothing is made of them.

    Args:
        kind: The class.
        arguments: As a recipe gives them.

    Raises:
        InputError: An argument is unknown or of another type; one line.
    """
    parser = Parser(allow_abbrev=False, exit_on_error=False)
    parser.add_class_arguments(kind, fail_untyped=False)
    try:
        with refusing():
            parser.parse_object(deepcopy(arguments))
    except InputError as error:
        raise InputError(" ".join(str(error).split())) from error


def instantiate_backbone(spec: dict[str, Any]) -> Backbone:
    """A backbone from its ``class_path`` and ``init_args``.

    Raises:
        InputError: Unknown class or argument, or what its constructor refuses.
    """
    backbone: Backbone = _instantiate(Backbone, spec)
    return backbone


def instantiate_callback(spec: dict[str, Any]) -> Callback:
    """A callback from its ``class_path`` and ``init_args``.

    Raises:
        InputError: Unknown class or argument, or what its constructor refuses.
    """
    callback: Callback = _instantiate(Callback, spec)
    return callback


def instantiate_data(spec: dict[str, Any]) -> data.TaskDataModule:
    """A data module from its ``class_path`` and ``init_args``.

    Raises:
        InputError: Unknown class or argument.
    """
    module: data.TaskDataModule = _instantiate(data.TaskDataModule, spec)
    return module


def instantiate_model(spec: dict[str, Any]) -> LightningModule:
    """A module from its ``class_path`` and ``init_args``.

    Raises:
        InputError: Unknown class or argument.
    """
    model: LightningModule = _instantiate(LightningModule, spec)
    return model


def _instantiate(base: type, spec: dict[str, Any]) -> Any:
    parser = Parser(allow_abbrev=False, exit_on_error=False)
    if base is Backbone:
        parser.add_subclass_arguments(base, "made", fail_untyped=False)
    else:
        parser.add_lightning_class_args(base, "made", subclass_mode=True)
    with refusing():
        return parser.instantiate(parser.parse_object({"made": deepcopy(spec)})).made
