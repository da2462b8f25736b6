"""Where a study's jobs run: on this machine, on a Ray cluster, under SLURM. The same graph, folder and results."""

from lightning_taskonomy.studies.executors.base import Executor, Outcome
from lightning_taskonomy.studies.executors.local import LocalExecutor
from lightning_taskonomy.studies.executors.ray import RayExecutor
from lightning_taskonomy.studies.executors.slurm import SlurmExecutor

__all__ = ["Executor", "LocalExecutor", "Outcome", "RayExecutor", "SlurmExecutor"]
