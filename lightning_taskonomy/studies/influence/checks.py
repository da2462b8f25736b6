"""What no chain can have is refused before anything is trained."""

import torch

from lightning_taskonomy.configurations import untrained
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.influence.plan import InfluencePlan
from lightning_taskonomy.training import check
from lightning_taskonomy.training.parser import instantiate_model

__all__ = ["check_networks"]


def check_networks(plan: InfluencePlan) -> None:
    """Builds one network of each task type, without weights, and reads the options of its fit.

    Args:
        plan: The runs under the first seed.

    Raises:
        InputError: A backbone, head, optimizer or Trainer refuses its settings; the task is named.
    """
    tasks = {task.type: task for task in plan.tasks.values()}
    if plan.settings.first_task is not None:
        tasks["first link"] = plan.settings.first_task
    for task in tasks.values():
        config = plan.from_scratch(task).config
        try:
            check(config)
            with torch.random.fork_rng(devices=[]):
                instantiate_model(untrained(config["model"]))
        except InputError as error:
            raise InputError(f"task {task.name!r}: {error}") from error
