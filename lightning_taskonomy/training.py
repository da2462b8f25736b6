"""One run from a configuration: the LightningCLI part, called by the command line and, warm, by studies.

A run is a folder: ``config.yaml`` (a recipe that repeats it), ``weights.safetensors``, ``metrics.json`` and, once
tested, ``scores.npz``. ``metrics.json`` is written last: a folder that has it is finished and is never repeated.
"""

import json
import logging
import time
import warnings
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Never, cast

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from lightning_taskonomy import data, modules  # importing them lets YAML name their classes without the path
from lightning_taskonomy.arguments import explained, stop
from lightning_taskonomy.callbacks import BestWeights, PredictionWriter, ResumeCheckpoint, ScoreWriter
from lightning_taskonomy.errors import InputError, input_error
from lightning_taskonomy.files import write_bytes, write_json, write_text

__all__ = [
    "TaskCLI",
    "check",
    "evaluate",
    "execute",
    "instantiate_callback",
    "instantiate_data",
    "instantiate_model",
    "is_finished",
    "load_run",
    "load_weights",
    "save_weights",
]

METRICS, WEIGHTS, CONFIG = "metrics.json", "weights.safetensors", "config.yaml"
TESTED = "test.json"
_WEIGHTS_OF = "Load only weights whose names begin so: 'backbone.' leaves every head as it starts."
_PACKAGES = (data, modules)


class Parser(LightningArgumentParser):
    """Says what is wrong on one line, with "did you mean"."""

    def error(self, message: str, ex: Exception | None = None) -> Never:
        """Exits with status 2 after one line."""
        stop(self, message, ex)
        super().error(explained(message, self), ex)


class SaveRunConfig(SaveConfigCallback):
    """Saves the configuration into the run's own folder and gives it to the loggers."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """At the start of a fit, on one process; a test of a finished run leaves its configuration as it is."""
        if self.already_saved or stage != "fit":
            return
        if trainer.is_global_zero:
            text = self.parser.dump(self.config, skip_unset=False)
            write_text(Path(trainer.default_root_dir) / CONFIG, text)
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(text))
        self.already_saved = True


class TaskCLI(LightningCLI):
    """LightningCLI with a run folder (``--out``) and starting weights (``--weights``)."""

    def __init__(self, args: list[str] | dict[str, Any] | None = None, run: bool = True) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveRunConfig,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"default_env": True, "env_prefix": "LT", "prog": "lightning-taskonomy"},
            args=args,
            run=run,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """No abbreviated options; ``--config`` may be given again to add to the earlier ones."""
        kwargs.setdefault("allow_abbrev", False)
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action="config", help="A recipe; give it again to add to it.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """``--out`` and ``--weights``."""
        parser.add_argument("--out", type=str, default="runs/fit", help="The run's folder.")
        parser.add_argument(
            "--weights",
            type=str | None,
            default=None,
            help="Weights to start from: a run folder or a safetensors file (``--ckpt_path`` resumes instead).",
        )
        parser.add_argument("--weights_of", type=str, default="", help=_WEIGHTS_OF)

    def before_instantiate_classes(self) -> None:
        """The run's folder is the trainer's root, and that of loggers and checkpoints unless they name their own."""
        config = self._own()
        callbacks = config.trainer.callbacks or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            init_args: Any = getattr(callback, "init_args", {})
            if "dirpath" in init_args and init_args.dirpath is None:
                init_args.dirpath = str(Path(config.out) / "checkpoints")
        config.trainer.default_root_dir = config.out
        loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else [config.trainer.logger]
        for logger in loggers:
            init_args = getattr(logger, "init_args", None)
            if init_args is not None and init_args.get("save_dir", "") in (None, "."):
                init_args.save_dir = config.out
                Path(config.out).mkdir(parents=True, exist_ok=True)

    def _own(self) -> Namespace:
        own: Namespace = self.config[self.subcommand] if self.subcommand else self.config
        return own

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the writers of per-image scores and of predictions."""
        try:
            trainer: Any = super().instantiate_trainer(**kwargs)  # callbacks are set by a connector, unseen by mypy
        except (MisconfigurationException, ValueError) as error:
            raise input_error(error) or InputError(f"the trainer cannot be made so: {error}") from error
        given = {type(callback) for callback in trainer.callbacks}
        trainer.callbacks += [callback() for callback in (ScoreWriter, PredictionWriter) if callback not in given]
        return cast(Trainer, trainer)

    def instantiate_classes(self) -> None:
        """Also loads the starting weights."""
        super().instantiate_classes()
        weights = self._own().weights
        if weights is not None:
            load_weights(self.model, weights, self._own().weights_of)

    def after_fit(self) -> None:
        """The best checkpoint's weights, or the last, as safetensors; the metrics beside them."""
        kept: Any = self.trainer.checkpoint_callback
        if getattr(kept, "monitor", None) and kept.best_model_path:
            state = torch.load(kept.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
            self.model.load_state_dict(state)
            if self.datamodule is not None:  # the metrics are those of the weights that are kept
                self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            out = Path(self.trainer.default_root_dir)
            save_weights(self.model, out / WEIGHTS)
            self._write_metrics(out)

    def after_test(self) -> None:
        """Adds the test's metrics."""
        if self.trainer.is_global_zero:
            self._write_metrics(Path(self.trainer.default_root_dir))

    def _write_metrics(self, out: Path) -> None:
        path = out / METRICS
        held = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, {**held, **_metrics(self.trainer)})


def _metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}


def save_weights(model: LightningModule, path: Path) -> None:
    """Writes a module's state as safetensors, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, save({name: value.clone() for name, value in state.items()}))


def load_weights(model: LightningModule, path: str | Path, part: str = "") -> None:
    """Loads a run's weights into a module; every backbone and head that both have must fit.

    Args:
        model: The module.
        path: A run folder or a safetensors file.
        part: Load only entries whose names begin so, such as ``backbone.``.

    Raises:
        InputError: No such file, a damaged one, or weights of another shape.
    """
    path = Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"no weights at {file}; name a finished run's folder or a safetensors file")
    try:
        state = {name: value for name, value in load_file(file).items() if name.startswith(part)}
    except SafetensorError as error:
        raise InputError(f"{file} is damaged ({error}); train that run again") from error
    own = model.state_dict()
    wrong = [name for name, value in state.items() if name in own and own[name].shape != value.shape]
    absent = [name for name in own if name.startswith(part) and name not in state]
    if wrong or len(absent) == len(own):
        name = (wrong or absent)[0]
        raise InputError(f"{file} does not fit the model: {name!r} is absent or has another shape; use its config.yaml")
    if absent:
        warnings.warn(
            f"{len(absent)} of {len(own)} entries are not in {file} and start anew: {absent[0]} ...", stacklevel=2
        )
    model.load_state_dict(state, strict=False)


def is_finished(folder: str | Path) -> bool:
    """Whether a run folder holds a finished run."""
    return (Path(folder) / METRICS).is_file()


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's greetings and hints are for interactive fits."""
    names = ["lightning.pytorch", "lightning.fabric", "lightning"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        warnings.filterwarnings(
            "ignore", message=r".*(does not have many workers|log_every_n_steps|`isinstance\(treespec).*"
        )
        try:
            yield
        finally:
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


_parser: list[Parser] = []


def _run_parser() -> Parser:
    """The parser of one run, built once per process: it takes longer to build than a small fit to run."""
    if not _parser:
        parser = Parser(allow_abbrev=False, exit_on_error=False)
        parser.add_argument("--seed_everything", type=int, default=0)
        parser.add_argument("--out", type=str, default="runs/fit")
        parser.add_argument("--weights", type=str | None, default=None)
        parser.add_argument("--weights_of", type=str, default="")
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        _parser.append(parser)
    return _parser[0]


def execute(
    config: dict[str, Any], folder: str | Path, *, checkpoint_seconds: float = 60.0, test: bool = True
) -> dict[str, float]:
    """Fits and tests one run in this process, unless it is finished; resumes it where a kill left it.

    Args:
        config: What ``fit --config`` takes: ``seed_everything``, ``model``, ``data``, ``trainer``, ``weights``.
        folder: The run's folder.
        checkpoint_seconds: The shortest time between two checkpoints to resume from.
        test: Whether it ends with a test; else with a validation, and :func:`evaluate` tests it if it is chosen.

    Returns:
        Its metrics, and ``seconds``.

    Raises:
        InputError: The configuration is wrong, or the loss is no number.
    """
    folder = Path(folder)
    if is_finished(folder):
        return dict(json.loads((folder / METRICS).read_text()))
    start = time.monotonic()
    parser = _run_parser()
    with _quiet():
        parsed = parser.parse_object(deepcopy({**config, "out": str(folder)}))  # the parser changes what it is given
        parsed.trainer.default_root_dir = str(folder)
        seed_everything(parsed.seed_everything, workers=True, verbose=False)
        built = parser.instantiate(parsed)
        write_text(folder / CONFIG, parser.dump(parsed, skip_unset=False))
        model, datamodule = built.model, built.data
        if parsed.weights is not None:
            load_weights(model, parsed.weights, parsed.weights_of)
        resume = ResumeCheckpoint(folder, checkpoint_seconds, parsed.seed_everything)
        scores = ScoreWriter(folder)
        given = built.trainer.pop("callbacks", None) or []
        trainer = Trainer(**{**vars(built.trainer), "callbacks": [*given, resume, scores]})
        if trainer.max_epochs != 0 and trainer.max_steps != 0:
            trainer.fit(model, datamodule=datamodule, ckpt_path=resume.found, weights_only=True)
        save_weights(model, folder / WEIGHTS)
        metrics = _metrics(trainer)
        if not test or any(isinstance(callback, BestWeights) for callback in given):  # the weights that are kept
            trainer.validate(model, datamodule=datamodule, verbose=False)
            metrics |= _metrics(trainer)
        if test:
            trainer.test(model, datamodule=datamodule, verbose=False)
            metrics |= _metrics(trainer)
        metrics["seconds"] = round(time.monotonic() - start, 3)
        write_json(folder / METRICS, metrics)
        resume.remove()
    return metrics


def evaluate(folder: str | Path) -> dict[str, float]:
    """Tests a run that was fitted without a test, unless that was done: ``test.json`` and ``scores.npz`` in its folder.

    Args:
        folder: The folder of the finished run.

    Returns:
        The test's metrics.

    Raises:
        InputError: The folder holds no finished run.
    """
    folder = Path(folder)
    if not (folder / TESTED).is_file():
        held = _held(folder)
        with _quiet():
            built = _built({**held, "trainer": {**held["trainer"], "callbacks": None}})
            load_weights(built.model, folder)
            trainer = Trainer(**{**vars(built.trainer), "callbacks": [ScoreWriter(folder)]})
            trainer.test(built.model, datamodule=built.data, verbose=False)
        write_json(folder / TESTED, _metrics(trainer))
    return dict(json.loads((folder / TESTED).read_text()))


def check(config: dict[str, Any]) -> None:
    """Refuses a configuration that names what does not exist; nothing is made of it.

    Args:
        config: What :func:`execute` takes.

    Raises:
        InputError: Unknown class or argument.
    """
    with _refusing():
        _run_parser().parse_object(deepcopy(config))


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
    parser.add_lightning_class_args(base, "made", subclass_mode=True)
    with _refusing():
        return parser.instantiate(parser.parse_object({"made": deepcopy(spec)})).made


@contextmanager
def _refusing() -> Iterator[None]:
    """What a parser or a constructor inside it refuses is bad input."""
    try:
        yield
    except (ArgumentError, ValueError) as error:
        bad = input_error(error)
        if bad is None and isinstance(error, ArgumentError):
            bad = InputError(error.message.removeprefix('Parser key "made": '))
        if bad is None:
            raise
        raise bad from error


def load_run(folder: str | Path) -> tuple[LightningModule, LightningDataModule]:
    """A finished run's module, with its weights, and its data module.

    Raises:
        InputError: The folder holds no finished run.
    """
    held = _held(folder)
    with _quiet():
        built = _built({name: held[name] for name in ("model", "data")})
    load_weights(built.model, folder)
    return built.model, built.data


def _held(folder: str | Path) -> dict[str, Any]:
    """The configuration in a run's folder."""
    if not (Path(folder) / CONFIG).is_file():
        raise InputError(f"{folder} holds no {CONFIG}; name a run's folder")
    return dict(yaml.safe_load((Path(folder) / CONFIG).read_text()))


def _built(config: dict[str, Any]) -> Namespace:
    """The objects that a configuration describes."""
    parser = _run_parser()
    built: Namespace = parser.instantiate(parser.parse_object(config))
    return built
