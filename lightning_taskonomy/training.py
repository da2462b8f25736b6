"""One run from a configuration: the LightningCLI part, called by the command line and, warm, by studies.

A run is a folder: ``config.yaml`` (a recipe that repeats it), ``weights.safetensors``, ``metrics.json`` and, once
tested, ``scores.npz``. ``metrics.json`` is written last: a folder that has it is finished and is never repeated.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Never, cast

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_taskonomy import data, modules  # importing them lets YAML name their classes without the path
from lightning_taskonomy.arguments import explained, read_recipe, stop
from lightning_taskonomy.callbacks import BestWeights, DryPass, PredictionWriter, ResumeCheckpoint, ScoreWriter
from lightning_taskonomy.checkpoints import WEIGHTS, check_checkpoint, check_last, load_weights, save_weights
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json, write_text
from lightning_taskonomy.models.backbones import read_weights
from lightning_taskonomy.refusals import refusing

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
]

METRICS, CONFIG = "metrics.json", "config.yaml"
TESTED, SCORES = "test.json", "scores.npz"
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
        """Nothing yet: a fit that is refused at its start leaves the folder of an earlier one as it is."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once training begins, on one process; a test of a finished run leaves its configuration as it is.

        Over a finished run it waits for the end: until then weights and metrics there are those of its configuration.
        """
        self._save(trainer, file=not is_finished(trainer.default_root_dir))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where there was nothing to train, or a finished run is replaced."""
        self._save(trainer, file=True)

    def _save(self, trainer: Trainer, *, file: bool) -> None:
        if trainer.is_global_zero and (file or not self.already_saved):
            config = self.config.clone()
            if config.get("ckpt_path") == "last":  # resumed, it ends as if it had not been stopped
                config.ckpt_path = None
            text = self.parser.dump(config, skip_unset=False)
            if file:
                write_text(Path(trainer.default_root_dir) / CONFIG, text)
            for logger in () if self.already_saved else trainer.loggers:
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

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Also refuses a checkpoint that is not there or holds something else, before anything is made."""
        super().parse_arguments(parser, args)
        self.subcommand = self.config.get("subcommand")
        own = self._own()
        if own.get("ckpt_path") is not None:
            if self.subcommand != "fit" and own.get("weights") is not None:
                raise InputError(
                    f"both --weights {own.weights} and --ckpt_path {own.ckpt_path} are given, here or in a recipe, and "
                    "one would replace the other; set one of them to null"
                )
            check_checkpoint(own.ckpt_path, Path(own.out), resumes=self.subcommand == "fit")

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
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):  # Lightning divides by them
            if config.trainer[name] is not None and config.trainer[name] < 1:
                raise InputError(f"trainer: {name} is {config.trainer[name]}, must be at least 1")
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
        """Adds the dry pass, first of all, and the writers of per-image scores and of predictions."""
        trainer: Any = super().instantiate_trainer(**kwargs)  # callbacks are set by a connector, unseen by mypy
        given = {type(callback) for callback in trainer.callbacks}

        def absent(*kinds: type[Callback]) -> list[Callback]:
            return [kind() for kind in kinds if kind not in given]

        trainer.callbacks = [*absent(DryPass), *trainer.callbacks, *absent(ScoreWriter, PredictionWriter)]
        return cast(Trainer, trainer)

    def instantiate_classes(self) -> None:
        """Also loads the starting weights."""
        super().instantiate_classes()
        weights = self._own().weights
        if weights is not None:
            load_weights(self.model, weights, self._own().weights_of)

    def after_instantiate_classes(self) -> None:
        """``--ckpt_path last`` needs the trainer's callbacks to be looked for."""
        if self._own().get("ckpt_path") == "last":
            check_last(self.trainer, resumes=self.subcommand == "fit")

    def after_fit(self) -> None:
        """The best checkpoint's weights, or the last, as safetensors; the metrics beside them."""
        kept: Any = self.trainer.checkpoint_callback
        if getattr(kept, "monitor", None) and kept.best_model_path:
            self.model.load_state_dict(read_weights(kept.best_model_path))
            if self.datamodule is not None:  # the metrics are those of the weights that are kept
                self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            out = Path(self.trainer.default_root_dir)
            earlier = (out / WEIGHTS).read_bytes() if (out / WEIGHTS).is_file() else None
            save_weights(self.model, out / WEIGHTS)
            if (out / WEIGHTS).read_bytes() != earlier:  # what was measured of other weights is not true of these
                for name in (METRICS, TESTED, SCORES):
                    (out / name).unlink(missing_ok=True)
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
    with refusing(), _quiet():
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
        if resume.found:
            try:
                check_checkpoint(resume.found, folder, resumes=True)
            except InputError as error:
                raise InputError(f"{error}; remove it and the run starts anew") from error
        trainer = Trainer(**{**vars(built.trainer), "callbacks": [DryPass(), *given, resume, scores]})
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
        with refusing(), _quiet():
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
    with refusing():
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
    with refusing():
        return parser.instantiate(parser.parse_object({"made": deepcopy(spec)})).made


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
    return dict(read_recipe(Path(folder) / CONFIG))


def _built(config: dict[str, Any]) -> Namespace:
    """The objects that a configuration describes."""
    parser = _run_parser()
    built: Namespace = parser.instantiate(parser.parse_object(config))
    return built
