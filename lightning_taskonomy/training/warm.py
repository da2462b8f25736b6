"""Runs in a process that stays: what a study calls hundreds of times, without printing and able to resume."""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything

from lightning_taskonomy.arguments import read_recipe
from lightning_taskonomy.callbacks import ResumeCheckpoint
from lightning_taskonomy.checkpoints import check_checkpoint, load_weights
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json, write_text
from lightning_taskonomy.refusals import refusing
from lightning_taskonomy.training.parser import place, run_parser
from lightning_taskonomy.training.run import CONFIG, METRICS, TESTED, Run, is_finished

__all__ = ["evaluate", "execute", "execute_anew", "load_run", "quiet"]


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
        InputError: The configuration is wrong, or the loss is not a number.
    """
    folder = Path(folder)
    if is_finished(folder):
        return dict(json.loads((folder / METRICS).read_text()))
    with quiet():
        return execute_anew(config, folder, checkpoint_seconds=checkpoint_seconds, test=test)


def execute_anew(
    config: dict[str, Any],
    folder: Path,
    *,
    checkpoint_seconds: float,
    test: bool,
    share: Callable[[LightningDataModule], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """What :func:`execute` does with a run that is not finished, but for silencing Lightning.

    Args:
        config: As there.
        folder: The run's folder.
        checkpoint_seconds: As there.
        test: As there.
        share: Takes the data module before the fit, so that its loaders may share batches with those of other runs.
        clock: Tells the seconds that count as the run's.

    Returns:
        The metrics.

    Raises:
        InputError: As there.
    """
    start = clock()
    parser = run_parser()
    with refusing():
        parsed = parser.parse_object(deepcopy({**config, "out": str(folder)}))  # the parser changes its argument
        seed = parsed.seed_everything
        if isinstance(seed, bool):
            raise InputError(f"seed_everything is {str(seed).lower()}; a run that may be resumed needs a number")
        place(parsed)
        seed_everything(seed, workers=True, verbose=False)
        built = parser.instantiate(parsed)
        write_text(folder / CONFIG, parser.dump(parsed, skip_unset=False))
        if parsed.weights is not None:
            load_weights(built.model, parsed.weights, parsed.weights_of)
        resume = ResumeCheckpoint(folder, checkpoint_seconds, seed)
        if resume.checkpoint:
            try:
                check_checkpoint(resume.checkpoint, folder, resumes=True)
            except InputError as error:
                raise InputError(f"{error}; remove it and the run starts anew") from error
        if share is not None:
            share(built.data)
        run = _run(built, [resume, *(built.trainer.callbacks or [])])
        if run.trainer.max_epochs != 0 and run.trainer.max_steps != 0:
            metrics = run.fit(ckpt_path=resume.checkpoint, weights_only=True)
        else:
            metrics = run.keep()
        if test:
            metrics |= run.test(verbose=False)
        elif not run.is_validated:
            metrics |= run.validate(verbose=False)
        metrics["seconds"] = round(clock() - start, 3)
        run.record(metrics)
        resume.remove()
    return metrics


def evaluate(folder: str | Path, config: dict[str, Any] | None = None) -> dict[str, float]:
    """Tests a run that was fitted without a test, unless that was done: ``test.json`` and ``scores.npz`` in its folder.

    Args:
        folder: The folder of the finished run.
        config: Its configuration with today's paths; the one in its folder where not given.

    Returns:
        The test's metrics.

    Raises:
        InputError: The folder holds no finished run.
    """
    folder = Path(folder)
    if not (folder / TESTED).is_file():
        config = config or _config(folder)
        with refusing(), quiet():
            built = _instantiate({**config, "trainer": {**config["trainer"], "callbacks": None}})
            load_weights(built.model, folder)
            built.trainer.default_root_dir = str(folder)
            write_json(folder / TESTED, _run(built, []).test(verbose=False))
    return dict(json.loads((folder / TESTED).read_text()))


def load_run(folder: str | Path) -> tuple[LightningModule, LightningDataModule]:
    """A finished run's module, with its weights, and its data module.

    Raises:
        InputError: The folder holds no finished run.
    """
    config = _config(folder)
    with quiet():
        built = _instantiate({name: config[name] for name in ("model", "data")})
    load_weights(built.model, folder)
    return built.model, built.data


def _run(built: Namespace, callbacks: list[Any]) -> Run:
    return Run(Trainer(**{**vars(built.trainer), "callbacks": callbacks}), built.model, built.data)


def _config(folder: str | Path) -> dict[str, Any]:
    """The configuration in a run's folder."""
    if not (Path(folder) / CONFIG).is_file():
        raise InputError(f"{folder} holds no {CONFIG}; name a run's folder")
    return dict(read_recipe(Path(folder) / CONFIG))


def _instantiate(config: dict[str, Any]) -> Namespace:
    """The objects that a configuration describes."""
    built: Namespace = run_parser().instantiate(run_parser().parse_object(deepcopy(config)))
    return built


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's greetings and hints are for interactive fits; inside it they are not shown.

    It changes what the whole process logs and warns of: enter it once, around all threads.
    """
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
