"""A solution as recipes: a ``fit`` per network, and a script that runs them in order."""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.reports.families import GROUPING_NAMES, PUBLISHED_NAMES
from lightning_taskonomy.solvers import TaxonomySolution
from lightning_taskonomy.tasks import catalog, resolve

__all__ = ["archive", "grouping_recipes", "taxonomy_recipes"]

Recipe = dict[str, Any]

ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0001}}
DEFAULTS: Recipe = {
    "backbone": {
        "class_path": "TaskonomyResNet",
        "init_args": {"name": "resnet50", "channels": 8, "output_stride": 16},
    },
    "optimizer": ADAMW,
    "epochs": 20,
    "transfer_epochs": 10,
}
"""What recipes/taxonomy/paper.yaml says, for tables without a study."""


def taxonomy_recipes(solution: TaxonomySolution, study: Mapping[str, Any]) -> dict[str, str]:
    """The networks of a taxonomy: its sources on all labels, then a readout per target on the frozen sources.

    Args:
        solution: The taxonomy.
        study: The settings of the study that measured the table; those of the paper where it is empty.

    Returns:
        Recipes for ``lightning-taskonomy fit``, and ``train.sh``, by file name.

    Raises:
        InputError: A task is in no catalog.
    """
    policy = {t: row.sources for t, row in solution.policy.items() if row.kind != "task_specific"}
    references, data = _references((*solution.sources, *policy), study)
    own = {**DEFAULTS, **{name: value for name, value in study.items() if value is not None}}
    recipes: dict[str, Recipe] = {}
    for name in solution.sources:
        init_args: Recipe = {"tasks": [references[name]], "backbone": own["backbone"]}
        if (head := _head(references[name], own.get("heads"))) is not None:
            init_args["heads"] = {_task(references[name]).name: head}
        recipes[f"source_{name}"] = _fit(
            f"runs/taxonomy/source_{name}", "MultiTaskModule", init_args, _split(data, "train", None, own),
            own["epochs"], own.get("scheduler"), own,
        )  # fmt: skip
    for name, sources in policy.items():
        folders = [f"runs/taxonomy/source_{source}" for source in sources]
        init_args = {"target": references[name], "sources": folders, "width": own.get("transfer_width", 32)}
        head = _head(references[name], own.get("transfer_heads")) or _head(references[name], own.get("heads"))
        if head is not None:
            init_args["head"] = head
        recipes[f"target_{name}"] = _fit(
            f"runs/taxonomy/target_{name}", "TransferModule", init_args,
            _split(data, "validation", own.get("transfer_size"), own), own["transfer_epochs"],
            own.get("transfer_scheduler") or own.get("scheduler"), own,
        )  # fmt: skip
    about = f"the {len(solution.sources)} sources of a taxonomy, then its {len(policy)} transfers"
    return _files(recipes, about)


def grouping_recipes(networks: Sequence[Network]) -> dict[str, str]:
    """The networks of a grouping: each serves some tasks; its channels follow from its inference cost.

    Raises:
        InputError: A task is in no catalog.
    """
    references, data = _references(dict.fromkeys(task for network in networks for task in network.tasks), {})
    recipes = {}
    for number, network in enumerate(networks, 1):
        channels = [max(8, round(width * math.sqrt(network.cost))) for width in (64, 128, 256, 512)]
        backbone = {
            "class_path": "TimmBackbone",
            "init_args": {"name": "resnet18", "options": {"channels": channels}},
        }
        name = f"network_{number}_{'_'.join(network.tasks)}"
        init_args = {"tasks": [references[task] for task in network.tasks], "backbone": backbone}
        recipes[name] = _fit(
            f"runs/grouping/{name}", "MultiTaskModule", init_args, data, DEFAULTS["epochs"], None, DEFAULTS
        )
    return _files(recipes, f"the {len(networks)} networks of a grouping")


def archive(files: Mapping[str, str]) -> bytes:
    """A ZIP of text files, the same for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        for name, text in files.items():
            written.writestr(zipfile.ZipInfo(name), text)
    return stream.getvalue()


def _references(names: Iterable[str], study: Mapping[str, Any]) -> tuple[dict[str, str], Recipe]:
    """How recipes refer to tasks, and the data: the study's, else Rooms, else the data that the names come from.

    Raises:
        InputError: A name is in no catalog.
    """
    if study.get("tasks"):
        known = dict(zip(resolve(study["tasks"]), study["tasks"], strict=True))
    else:
        known = {name: name for name in catalog()}
        if not set(names) <= set(known):
            own = {name.partition(".")[2]: name for name in known if name.startswith("taskonomy.")}
            known |= {name: own.get(task, task) for name, task in {**PUBLISHED_NAMES, **GROUPING_NAMES}.items()}
    for name in names:
        if name not in known:
            raise InputError(f"no recipe: task {name!r} is not in the catalog{hint(name, known)}")
    if study.get("data"):
        data = study["data"]
    elif set(names) <= set(catalog()):
        data = {"class_path": "RoomsDataModule", "init_args": {"size": 128, "batch_size": 32}}
    else:
        init_args = {"root": "data/taskonomy", "size": 256, "batch_size": 32}
        data = {"class_path": "TaskonomyDataModule", "init_args": init_args}
    return known, data


def _task(reference: str) -> Any:
    (task,) = resolve([reference]).values()
    return task


def _head(reference: str, heads: Mapping[str, Any] | None) -> Any:
    """The head of a task: that of its name, else that of its kind."""
    heads, task = heads or {}, _task(reference)
    return heads.get(task.name) or heads.get(task.kind.value)


def _split(data: Recipe, split: str, size: int | None, study: Mapping[str, Any]) -> Recipe:
    """The data, fitted on one split."""
    init_args = {**(data.get("init_args") or {}), "fit_split": split, "fit_size": size, "seed": study.get("seed", 0)}
    return {**data, "init_args": init_args}


def _fit(
    out: str, module: str, init_args: Recipe, data: Recipe, epochs: int, scheduler: Any, study: Mapping[str, Any]
) -> Recipe:
    """What ``fit`` takes."""
    init_args = {**init_args, "optimizer": study.get("optimizer") or ADAMW}
    if scheduler:
        init_args |= {"scheduler": scheduler, "scheduler_interval": study.get("scheduler_interval", "epoch")}
    return {
        "seed_everything": study.get("seed", 0),
        "out": out,
        "trainer": {**(study.get("trainer") or {}), "max_epochs": epochs},
        "model": {"class_path": module, "init_args": init_args},
        "data": data,
    }


def _files(recipes: Mapping[str, Recipe], about: str) -> dict[str, str]:
    """Recipes as text, and the script that runs them."""
    lines = [f"lightning-taskonomy fit --config {name}.yaml" for name in recipes]
    files = {
        f"{name}.yaml": f"# {line}\n{yaml.safe_dump(recipe, sort_keys=False)}"
        for line, (name, recipe) in zip(lines, recipes.items(), strict=True)
    }
    script = ["#!/bin/sh", f"# Trains {about}; run it in this folder.", "set -e", *lines]
    return {**files, "train.sh": "\n".join(script) + "\n"}
