"""Jobs that come before the networks of a grouping study: statistics of labels, encoders of all sizes, their cost."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lightning_taskonomy.configurations import network_arguments
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_json
from lightning_taskonomy.models.backbones.shrink import shrunk
from lightning_taskonomy.models.cost import measure_inference
from lightning_taskonomy.models.heads import Head
from lightning_taskonomy.modules import MultiTaskModule
from lightning_taskonomy.tasks import IGNORE_INDEX, Task, TaskKind, resolve
from lightning_taskonomy.training import instantiate_backbone, instantiate_data, instantiate_model

__all__ = ["encoder_sizes", "inference_costs", "label_statistics"]


@torch.no_grad()
def label_statistics(tasks: Sequence[str], data: dict[str, Any], done: str) -> None:
    """Measures mean and standard deviation of the training labels, over all images, pixels and channels of a task.

    Args:
        tasks: The tasks as a recipe names them.
        data: The data module's class and arguments.
        done: The JSON file that is written: per task ``count`` of valid values and, where labels are numbers, ``mean``
            and ``std`` in the task's units.

    Raises:
        InputError: A task has no valid label in the training split, or one value only.
    """
    module, by_name = instantiate_data(data), resolve(tasks)
    keys = sorted({task.target for task in by_name.values() if task.kind is not TaskKind.SET})
    samples = module.dataset(module.fit_split, keys=keys, size=module.fit_size, part=module.fit_part)
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in by_name}
    for batch in module.loader(samples):
        for name, task in by_name.items():
            if task.target in batch:
                sums[name] = _merged(sums[name], _valid(task, batch[task.target]))
    statistics: dict[str, dict[str, float]] = {}
    for name, task in by_name.items():
        count, mean, squares = sums[name].tolist()
        if task.kind is TaskKind.SET:
            continue
        if count == 0:
            raise InputError(
                f"task {name!r} has no valid label {task.target!r} in split {module.fit_split!r}; leave it out or give "
                "data that are labelled for it"
            )
        statistics[name] = {"count": count}
        if not task.is_classes:
            std = (squares / count) ** 0.5
            if not std > 0:
                raise InputError(
                    f"task {name!r}: all labels {task.target!r} in split {module.fit_split!r} are {mean:g}; there is "
                    "nothing to learn, leave it out"
                )
            statistics[name] |= {"mean": mean, "std": std}
    write_json(done, statistics)


def _valid(task: Task, target: Tensor) -> Tensor:
    """The values of a label that are there."""
    return target[target != IGNORE_INDEX if task.is_classes else target.isfinite()]


def _merged(sums: Tensor, values: Tensor) -> Tensor:
    """Count, mean and summed squared distance from it, with more values (Chan et al., 1979)."""
    if not len(values):
        return sums
    values = values.double()
    count, mean = len(values), values.mean()
    total, shift = sums[0] + count, mean - sums[1]
    squares = sums[2] + (values - mean).square().sum() + shift.square() * sums[0] * count / total
    return torch.stack([total, sums[1] + shift * count / total, squares])


def encoder_sizes(
    backbone: dict[str, Any],
    sizes: Sequence[float],
    shrunk_by: Mapping[str, dict[str, Any]],
    data: dict[str, Any],
    done: str,
) -> None:
    """Describes the encoder of each size: the full one, those of its family, and others shrunk by their width.

    Args:
        backbone: The full-size encoder's class and arguments.
        sizes: Shares of its multiply-adds.
        shrunk_by: Class and arguments of encoders by size, which are taken as they are.
        data: The data module's class and arguments; its images decide on the multiply-adds.
        done: The JSON file that is written: class and arguments by size.
    """
    family = {float(size): spec for size, spec in shrunk_by.items()}
    size = _image_size(data)
    specs = {}
    for share in sorted({1.0, *map(float, sizes)}, reverse=True):
        if share in family:
            specs[repr(share)] = family[share]
        else:
            specs[repr(share)] = backbone if share == 1 else shrunk(backbone, share, size, instantiate_backbone)
    write_json(done, specs)


def inference_costs(
    backbones: str, tasks: Sequence[str], heads: Mapping[str, dict[str, Any]] | None, data: dict[str, Any], folder: str
) -> None:
    """Measures what encoder and decoders of each size cost at inference, on this machine: ``inference.csv``.

    Args:
        backbones: The file that :func:`encoder_sizes` has written.
        tasks: The tasks as a recipe names them.
        heads: Head factories by task or kind.
        data: The data module's class and arguments; its images decide on the size.
        folder: Where it is written.
    """
    networks, by_name = {}, resolve(tasks)
    for size, spec in json.loads(Path(backbones).read_text()).items():
        arguments = network_arguments(tasks, spec, heads)
        model = instantiate_model({"class_path": "lightning_taskonomy.modules.MultiTaskModule", "init_args": arguments})
        assert isinstance(model, MultiTaskModule)
        heads_by_task = {name: cast(Head, model.heads[name]) for name in model.tasks}
        networks[float(size)] = (model.backbone, heads_by_task)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    costs = measure_inference(
        networks, _image_size(data), tasks=by_name, device=device, threads=torch.get_num_threads()
    )
    costs.write(Path(folder))


def _image_size(data: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the first image to train on."""
    module = instantiate_data(data)
    height, width = module.dataset(module.fit_split, keys=["image"], size=1)[0]["image"].shape[-2:]
    return height, width
