"""A solution as recipes: a ``fit`` per network, and a script that runs them in order."""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from lightning_taskonomy.affinity.groupings import Network, serving
from lightning_taskonomy.configurations import (
    descent,
    fit_configuration,
    fitted_on,
    head_of,
    network_arguments,
    transfer_arguments,
    with_arguments,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.reports.candidates import CandidateTraining
from lightning_taskonomy.reports.families import GROUPING_NAMES, PUBLISHED_NAMES
from lightning_taskonomy.solvers import TaxonomySolution
from lightning_taskonomy.tasks import catalog, resolve

__all__ = ["archive", "grouping_recipes", "taxonomy_recipes"]

Recipe = dict[str, Any]

DEFAULTS: Recipe = {
    "backbone": {
        "class_path": "TaskonomyResNet",
        "init_args": {"name": "resnet50", "channels": 8, "output_stride": 16},
    },
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0001}},
    "scheduler_interval": "epoch",
    "epochs": 20,
    "transfer_epochs": 10,
    "transfer_width": 32,
    "seed": 0,
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
    policy = {row.target: row.sources for row in solution.transfers}
    references, data = _references((*solution.sources, *policy), study)
    settings = {**DEFAULTS, **{name: value for name, value in study.items() if value is not None}}
    seed, schedule = settings["seed"], settings.get("scheduler")
    recipes: dict[str, Recipe] = {}
    for name in solution.sources:
        head = _head(references[name], settings.get("heads"))
        heads = None if head is None else {_task(references[name]).name: head}
        recipes[f"source_{name}"] = _fit(
            f"runs/taxonomy/source_{name}", "MultiTaskModule",
            network_arguments([references[name]], settings["backbone"], heads),
            fitted_on(data, "train", None, seed), settings["epochs"], schedule, settings,
        )  # fmt: skip
    for name, sources in policy.items():
        folders = [f"runs/taxonomy/source_{source}" for source in sources]
        head = _head(references[name], settings.get("transfer_heads"), settings.get("heads"))
        recipes[f"target_{name}"] = _fit(
            f"runs/taxonomy/target_{name}", "TransferModule",
            transfer_arguments(references[name], folders, settings["transfer_width"], head),
            fitted_on(data, "validation", settings.get("transfer_size"), seed), settings["transfer_epochs"],
            settings.get("transfer_scheduler") or schedule, settings,
        )  # fmt: skip
    about = f"the {len(solution.sources)} sources of a taxonomy, then its {len(policy)} transfers"
    return _files(recipes, about)


def grouping_recipes(
    networks: Sequence[Network],
    serves: Sequence[Sequence[str]] | None = None,
    training: CandidateTraining | None = None,
    name: str = "choice",
) -> dict[str, str]:
    """The networks of a grouping in one recipe, which trains them to convergence as their study trained them.

    Args:
        networks: The networks. One that answers nothing is left out.
        serves: Per network the tasks that it answers; by the losses of the networks where not given.
        training: How they were trained; without a study their channels follow from their cost.
        name: The recipe's name, and that of the run's folder.

    Returns:
        The recipe for ``lightning-taskonomy fit``, and ``train.sh``, by file name.

    Raises:
        InputError: A task is in no catalog, or the study has no encoder of a network's size.
    """
    if serves is None:
        best = serving(networks)
        serves = [[task for task in network.tasks if best[task] == n] for n, network in enumerate(networks)]
    pairs = [(network, names) for network, names in zip(networks, serves, strict=True) if names]
    training = training or CandidateTraining()
    recipe = _grouping_recipe([n for n, _ in pairs], [names for _, names in pairs], training, f"runs/{name}")
    words = [f"{'+'.join(n.tasks)} (size {n.size:g}) answers {', '.join(names)}" for n, names in pairs]
    return _files({name: recipe}, f"the {len(pairs)} networks of a grouping", words)


def _grouping_recipe(
    networks: Sequence[Network], serves: Sequence[Sequence[str]], training: CandidateTraining, out: str
) -> Recipe:
    study = training.settings
    references, data = _references(dict.fromkeys(task for network in networks for task in network.tasks), study)
    names = {task: _task(reference).name for task, reference in references.items()}
    parts = []
    for network in networks:
        others = {names[task] for task in references if task not in network.tasks}
        heads = {name: head for name, head in (study.get("heads") or {}).items() if name not in others}
        arguments = network_arguments(
            [references[task] for task in network.tasks], _encoder(network, training), heads or None
        )
        statistics = {task: training.statistics[task] for task in network.tasks if task in training.statistics}
        parts.append(
            {
                "class_path": "StandardisedModule",
                "init_args": {**arguments, "statistics": statistics} if statistics else arguments,
            }
        )
    monitors = {f"networks.{index}.": f"val/network_{index}/loss" for index in range(len(parts))}
    trainer: Recipe = {**(study.get("trainer") or {})}
    callbacks = [*trainer.pop("callbacks", []), {"class_path": "BestWeights", "init_args": {"monitor": monitors}}]
    optimizer, scheduler = DEFAULTS["optimizer"], None
    if study:
        optimizer, scheduler = descent(study.get("optimizer"), study.get("scheduler"))
    if "passes" in study:
        stall = {"monitor": "val/loss", "patience": study["patience"]}
        callbacks.append({"class_path": "EarlyStopping", "init_args": stall})
        data = with_arguments(data, seed=study["seed"], parts=study["parts"])
    epochs = study["passes"] * study["parts"] if "passes" in study else DEFAULTS["epochs"]
    configuration = fit_configuration(
        "GroupedModule",
        {"networks": parts, "serves": [[names[task] for task in served] for served in serves]},
        data,
        trainer={"max_epochs": epochs, **trainer, "callbacks": callbacks},
        seed=study.get("seed", DEFAULTS["seed"]),
        optimizer=optimizer,
        scheduler=scheduler,
    )
    return {"out": out, **configuration}


def _encoder(network: Network, training: CandidateTraining) -> Recipe:
    """The encoder of a network's size.

    Raises:
        InputError: The study has none.
    """
    if training.encoders:
        if network.size not in training.encoders:
            sizes = ", ".join(f"{size:g}" for size in sorted(training.encoders))
            raise InputError(
                f"no recipe: the study has no encoder of size {network.size:g} for {network}, only {sizes}"
            )
        return training.encoders[network.size]
    channels = [max(8, round(width * math.sqrt(network.size))) for width in (64, 128, 256, 512)]
    return {"class_path": "TimmBackbone", "init_args": {"name": "resnet18", "options": {"channels": channels}}}


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
        references = dict(zip(resolve(study["tasks"]), study["tasks"], strict=True))
    else:
        references = {name: name for name in catalog()}
        if not set(names) <= set(references):
            published = {name.partition(".")[2]: name for name in references if name.startswith("taskonomy.")}
            renamed = {**PUBLISHED_NAMES, **GROUPING_NAMES}
            references |= {name: published.get(task, task) for name, task in renamed.items()}
    for name in names:
        if name not in references:
            raise InputError(f"no recipe: task {name!r} is not in the catalog{hint(name, references)}")
    if study.get("data"):
        data = study["data"]
    elif set(names) <= set(catalog()):
        data = {"class_path": "RoomsDataModule", "init_args": {"size": 128, "batch_size": 32}}
    else:
        init_args = {"root": "data/taskonomy", "size": 256, "batch_size": 32}
        data = {"class_path": "TaskonomyDataModule", "init_args": init_args}
    return references, data


def _task(reference: str) -> Any:
    (task,) = resolve([reference]).values()
    return task


def _head(reference: str, *heads: Mapping[str, Any] | None) -> Recipe | None:
    task = _task(reference)
    return head_of(task.name, task.kind.value, *heads)


def _fit(
    out: str,
    module: str,
    arguments: Recipe,
    data: Recipe,
    epochs: int,
    scheduler: Recipe | None,
    settings: Mapping[str, Any],
) -> Recipe:
    """What ``fit`` takes."""
    configuration = fit_configuration(
        module,
        arguments,
        data,
        trainer={**(settings.get("trainer") or {}), "max_epochs": epochs},
        seed=settings["seed"],
        optimizer=settings["optimizer"],
        scheduler=scheduler,
        scheduler_interval=settings["scheduler_interval"],
    )
    return {"out": out, **configuration}


def _files(recipes: Mapping[str, Recipe], about: str, words: Sequence[str] = ()) -> dict[str, str]:
    """Recipes as text, each with its command and perhaps some more words on top, and the script that runs them."""
    lines = [f"lightning-taskonomy fit --config {name}.yaml" for name in recipes]
    files = {}
    for line, (name, recipe) in zip(lines, recipes.items(), strict=True):
        comments = "".join(f"# {word}\n" for word in [line, *words])
        files[f"{name}.yaml"] = comments + yaml.safe_dump(recipe, sort_keys=False)
    script = ["#!/bin/sh", f"# Trains {about}; run it in this folder.", "set -e", *lines]
    return {**files, "train.sh": "\n".join(script) + "\n"}
