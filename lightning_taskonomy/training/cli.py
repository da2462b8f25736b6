"""LightningCLI with a run's folder and starting weights."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_taskonomy.callbacks import PredictionWriter
from lightning_taskonomy.checkpoints import check_checkpoint, check_last, load_weights
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_text
from lightning_taskonomy.training.parser import Parser, add_run_options, place
from lightning_taskonomy.training.run import CONFIG, Run, is_finished

__all__ = ["SaveRunConfig", "TaskCLI"]


class SaveRunConfig(SaveConfigCallback):
    """Saves the configuration into the run's own folder and gives it to the loggers."""

    @property
    def recipe(self) -> str:
        """A recipe that repeats the run, as YAML: from its start, and into another folder."""
        config = self.config.clone()
        if config.get("ckpt_path") == "last":  # resumed, it ends as if it had not been stopped
            config.ckpt_path = None
        if "overwrite" in config:
            config.overwrite = False
        text: str = self.parser.dump(config, skip_unset=False)
        return text

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: a fit that is refused at its start leaves the folder of an earlier one as it is."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once training begins; a test of a finished run leaves its configuration as it is.

        Over a finished run the file waits for the new weights: until then the folder is of the earlier ones.
        """
        if trainer.is_global_zero and not is_finished(trainer.default_root_dir):
            write_text(Path(trainer.default_root_dir) / CONFIG, self.recipe)
        self._save_once(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where there was nothing to train."""
        self._save_once(trainer, pl_module)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives it to the loggers."""
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(self.recipe))

    def _save_once(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and not self.already_saved:
            self.save_config(trainer, pl_module, "fit")
        self.already_saved = True


class TaskCLI(LightningCLI):
    """LightningCLI with a run's folder (``--out``) and starting weights (``--weights``)."""

    def __init__(self, args: list[str] | dict[str, Any] | None = None, run: bool = True) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveRunConfig,
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

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """None: the seed is one of a run's options."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """A run's options, as studies have them."""
        add_run_options(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """``--overwrite``."""
        parser.add_argument(
            "--overwrite", action="store_true", help="fit: replace the finished run in ``--out``, once this one ends."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Also refuses what a folder or a checkpoint does not allow, before anything is made."""
        super().parse_arguments(parser, args)
        self.subcommand = self.config.get("subcommand")
        options, fits = self.options, self.subcommand == "fit"
        if options.get("ckpt_path") is not None:
            if not fits and options.get("weights") is not None:
                raise InputError(
                    f"both --weights {options.weights} and --ckpt_path {options.ckpt_path} are given, here or in a "
                    "recipe, and one would replace the other; set one of them to null"
                )
            check_checkpoint(options.ckpt_path, Path(options.out), resumes=fits)
        elif fits and is_finished(options.out) and not options.overwrite and not options.trainer.fast_dev_run:
            raise InputError(
                f"{options.out} holds a finished run; give --out another folder, --ckpt_path last to go on with that "
                "run, or --overwrite to replace it"
            )

    @property
    def options(self) -> Namespace:
        """The options of the command that was called."""
        options: Namespace = self.config[self.subcommand] if self.subcommand else self.config
        return options

    def before_instantiate_classes(self) -> None:
        """The run's folder is the trainer's root, and that of loggers and checkpoints unless they name their own."""
        place(self.options)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds the writer of predictions."""
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets them
        if not any(type(callback) is PredictionWriter for callback in callbacks):
            callbacks.append(PredictionWriter())
        return trainer

    def instantiate_classes(self) -> None:
        """Also loads the starting weights."""
        super().instantiate_classes()
        self.run = Run(self.trainer, self.model, self.datamodule)
        if self.options.weights is not None:
            load_weights(self.model, self.options.weights, self.options.weights_of)

    def after_instantiate_classes(self) -> None:
        """``--ckpt_path last`` needs the trainer's callbacks to be looked for."""
        if self.options.get("ckpt_path") == "last":
            check_last(self.trainer, resumes=self.subcommand == "fit")

    def fit(self, model: LightningModule, datamodule: LightningDataModule | None = None, **options: Any) -> None:
        """Trains, and leaves weights and metrics in the run's folder.

        Args:
            model: The module.
            datamodule: The data module.
            **options: Further arguments of ``Trainer.fit``.
        """
        savers = [callback for callback in self.trainer.callbacks if isinstance(callback, SaveRunConfig)]  # type: ignore[attr-defined]  # a connector sets them
        self.run.record(self.run.fit(savers[0].recipe if savers else None, **options))

    def validate(self, model: LightningModule, datamodule: LightningDataModule | None = None, **options: Any) -> None:
        """Prints the metrics on validation images.

        Args:
            model: The module.
            datamodule: The data module.
            **options: Further arguments of ``Trainer.validate``.
        """
        self.run.validate(**options)

    def test(self, model: LightningModule, datamodule: LightningDataModule | None = None, **options: Any) -> None:
        """Prints the metrics on test images, adds them to the run's and writes the scores per image.

        Args:
            model: The module.
            datamodule: The data module.
            **options: Further arguments of ``Trainer.test``.
        """
        self.run.record(self.run.test(**options))
