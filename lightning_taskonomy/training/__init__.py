"""One run from a configuration: called by the command line and, in processes that stay warm, by studies.

A run is a folder: ``config.yaml`` (a recipe that repeats it), ``weights.safetensors``, ``metrics.json`` and, once
tested, ``scores.npz``, all of the same weights. ``metrics.json`` is written last: a folder that has it is finished and
is not trained again unasked.
"""

from lightning_taskonomy.training.cli import TaskCLI
from lightning_taskonomy.training.identity import RESULTS_VERSION, identity
from lightning_taskonomy.training.parser import (
    check,
    check_arguments,
    instantiate_backbone,
    instantiate_callback,
    instantiate_data,
    instantiate_model,
)
from lightning_taskonomy.training.run import Run, is_finished
from lightning_taskonomy.training.stream import execute_together
from lightning_taskonomy.training.warm import evaluate, execute, load_run

__all__ = [
    "RESULTS_VERSION",
    "Run",
    "TaskCLI",
    "check",
    "check_arguments",
    "evaluate",
    "execute",
    "execute_together",
    "identity",
    "instantiate_backbone",
    "instantiate_callback",
    "instantiate_data",
    "instantiate_model",
    "is_finished",
    "load_run",
]
