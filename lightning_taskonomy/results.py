"""What a study or a solver hands to the loggers, and how each logger takes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lightning_taskonomy.files import write_bytes, write_json

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

__all__ = ["Results", "log_results"]


@dataclass
class Results:
    """Numbers, tables, pictures and what was decided.

    Args:
        scalars: Numbers by key.
        tables: Columns and rows by key.
        figures: Picture files by key.
        report: The page, if there is one.
        page: Writes the page and its pictures into a folder and returns its path; called where a logger shows
            pictures, so that nothing is drawn without one.
        artifacts: What to keep as it is by key, such as a solution: plain data, which becomes JSON, or a file.
        failure: What went wrong although there are results; the command says it last and exits with 1.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)
    report: Path | None = None
    page: Callable[[Path], Path] | None = None
    artifacts: dict[str, Mapping[str, Any] | Path] = field(default_factory=dict)
    failure: str = ""


def log_results(results: Results, loggers: "Sequence[Logger]", config: dict[str, Any]) -> None:
    """Gives results to loggers: config and scalars to every one, the rest to those that take it.

    Tables and pictures go to W&B and TensorBoard. Artifacts go to W&B as such, and as files into the folder of a logger
    that has one.

    Args:
        results: The results.
        loggers: The loggers, as a fit would have them.
        config: The configuration that made it, plain data.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    with TemporaryDirectory() as drawn:
        figures = results.figures
        if results.page is not None and any(isinstance(one, WandbLogger | TensorBoardLogger) for one in loggers):
            figures = figures | {file.stem: file for file in sorted(results.page(Path(drawn)).parent.glob("*.png"))}
        for logger in loggers:
            logger.log_hyperparams(config)
            if results.scalars:
                logger.log_metrics(results.scalars, step=0)
            if isinstance(logger, WandbLogger):
                for name, (columns, rows) in results.tables.items():
                    logger.log_table(name, columns=columns, data=rows)
                for name, file in figures.items():
                    logger.log_image(f"figures/{name}", [str(file)])
                _log_artifacts(logger.experiment, results.artifacts)
            elif isinstance(logger, TensorBoardLogger):
                for name, (columns, rows) in results.tables.items():
                    lines = [columns, ["---"] * len(columns), *rows]
                    logger.experiment.add_text(name, "\n".join("|".join(map(str, line)) for line in lines))
                for name, file in figures.items():
                    logger.experiment.add_image(f"figures/{name}", _pixels(file), dataformats="HWC")
            if logger.log_dir is not None:
                for name, content in results.artifacts.items():
                    _keep(Path(logger.log_dir), name, content)
            logger.save()
            logger.finalize("success")


def _log_artifacts(run: Any, artifacts: Mapping[str, Mapping[str, Any] | Path]) -> None:
    """Artifacts of a W&B run. Their files stay in the run's folder, so that an offline run is synced from there."""
    import wandb

    for name, content in artifacts.items():
        artifact = wandb.Artifact(name, type="solution")
        artifact.add_file(str(_keep(Path(run.dir), name, content)), policy="immutable")  # not copied to the home folder
        run.log_artifact(artifact)


def _keep(folder: Path, name: str, content: Mapping[str, Any] | Path) -> Path:
    """Writes an artifact's file into a folder."""
    if isinstance(content, Path):
        path = folder / f"{name}{content.suffix}"
        write_bytes(path, content.read_bytes())
    else:
        path = folder / f"{name}.json"
        write_json(path, content)
    return path


def _pixels(file: Path) -> Any:
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))
