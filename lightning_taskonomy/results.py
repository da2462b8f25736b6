"""What a study or a solver hands to the loggers, and how each logger takes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

__all__ = ["Results", "log_results"]


@dataclass
class Results:
    """Numbers, tables and pictures.

    Args:
        scalars: Numbers by key.
        tables: Columns and rows by key.
        figures: Picture files by key.
        report: The page, if there is one.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)
    report: Path | None = None


def log_results(results: Results, loggers: "Sequence[Logger]", config: dict[str, Any]) -> None:
    """Gives results to loggers: config and scalars to every one, tables and pictures to those that show them.

    Args:
        results: What was found.
        loggers: The loggers, as a fit would have them.
        config: The configuration that made it, plain data.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    for logger in loggers:
        logger.log_hyperparams(config)
        if results.scalars:
            logger.log_metrics(results.scalars, step=0)
        if isinstance(logger, WandbLogger):
            for name, (columns, rows) in results.tables.items():
                logger.log_table(name, columns=columns, data=rows)
            for name, file in results.figures.items():
                logger.log_image(f"figures/{name}", [str(file)])
        elif isinstance(logger, TensorBoardLogger):
            for name, (columns, rows) in results.tables.items():
                lines = [columns, ["---"] * len(columns), *rows]
                logger.experiment.add_text(name, "\n".join("|".join(map(str, line)) for line in lines))
            for name, file in results.figures.items():
                logger.experiment.add_image(f"figures/{name}", _pixels(file), dataformats="HWC")
        logger.save()
        logger.finalize("success")


def _pixels(file: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))
