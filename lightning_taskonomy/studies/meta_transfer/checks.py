"""What no run of a Task Meta-Transfer study can have, refused before hours of other runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback

from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, candidates, method
from lightning_taskonomy.studies.meta_transfer.plan import MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.selection import MAIN, Selection
from lightning_taskonomy.studies.meta_transfer.settings import Case
from lightning_taskonomy.training import check, instantiate_callback, instantiate_data, instantiate_model

__all__ = ["check_runs", "check_trials"]


def check_trials(methods: Mapping[str, Knobs], trials: int | None) -> None:
    """Refuses a comparison of methods that choose from more or fewer settings.

    Args:
        methods: The settings of each method, some of them grids.
        trials: How many each that uses auxiliary labels has to choose from; None: any number.

    Raises:
        InputError: Some have another number.
    """
    counts = {name: len(candidates(knobs)) for name, knobs in methods.items() if not method(name, knobs).alone}
    other = [f"{name!r} has {count}" for name, count in counts.items() if count != trials]
    if trials is not None and other:
        raise InputError(
            f"trials is {trials}, but {', '.join(other)}; give each method as many settings to choose from, or "
            "leave out trials"
        )


def check_runs(selections: Mapping[str, Sequence[Selection]]) -> None:
    """Refuses what no run can have; training data are not made.

    Args:
        selections: The study's cells by stage.

    Raises:
        InputError: A method, callback, network or data set refuses its settings.
    """
    checked: set[str] = set()
    for several in selections.values():
        for selection in several:
            if selection.study == MAIN:
                _check(selection, checked)
                continue
            with _about(f"{selection.study} {selection.at}"):
                _check(selection, checked)


def _check(selection: Selection, checked: set[str]) -> None:
    """Refuses what no run of these cells can have; what was checked before is not checked again."""
    plan, settings = selection.plan, selection.plan.settings
    networks = [*settings.networks] if selection.network is None else [selection.network]

    def once(*content: Any) -> bool:
        key, before = json.dumps(content, sort_keys=True, default=str), len(checked)
        checked.add(key)
        return len(checked) > before

    for name, knobs in selection.methods.items():
        several = method(name, knobs).several
        if several and all(len(case.auxiliary) < 2 for case in settings.pairs):
            raise InputError(f"method {name!r} needs a case with several auxiliary tasks; leave it out")
    runs = [
        (cell, run)
        for cell in selection.cells()
        for one in candidates(selection.methods[cell.method])
        for run in plan.fit(cell.network, cell.case, cell.method, one).runs
    ]
    case = settings.pairs[0]
    plain = {network: plan.fit(network, case, "mtl", {}).run.config for network in networks}
    for network, config in plain.items():
        if once(config["model"], config["trainer"]):
            with _about(f"network {network!r}"):
                check(config)
    for cell, run in runs:
        model = run.config["model"]
        tasks = sorted(model["init_args"]["tasks"])
        if once({**model["init_args"], "tasks": tasks}):
            with _about(f"method {cell.method!r} on network {cell.network!r} of {' and '.join(tasks)}"):
                _instantiate(model)
    for other in settings.pairs:
        data = plan.fit(networks[0], other, "mtl", {}).run.config["data"]
        if once(data):
            instantiate_data(data)
    callbacks = [
        (f"method {name!r}", instantiated)
        for name, knobs in selection.methods.items()
        for one in candidates(knobs)
        if once(name, one, list(plain.values()))
        for instantiated in _callbacks(plan, name, case, one)
    ]
    for network, config in plain.items():
        _check_ranks(callbacks, config, network)


def _callbacks(plan: MetaTransferPlan, name: str, case: Case, knobs: Knobs) -> list[Callback]:
    with _about(f"method {name!r}"):
        return [instantiate_callback(spec) for spec in plan.callbacks(name, case, knobs)]


def _check_ranks(callbacks: Sequence[tuple[str, Callback]], config: dict[str, Any], network: str) -> None:
    """Refuses a rank above the channels at the bifurcation."""
    learners = [
        (subject, callback.learner) for subject, callback in callbacks if isinstance(callback, TaskMetaTransfer)
    ]
    if not learners:
        return
    backbone = _instantiate(config["model"]).backbone
    with torch.random.fork_rng(devices=[]):
        for subject, learner in learners:
            with _about(f"{subject} on network {network!r}"):
                for channels in backbone.out_channels:
                    learner.make(channels)


def _instantiate(model: Any) -> Any:
    """A module without pretrained weights; no random number is used up."""
    with torch.random.fork_rng(devices=[]):
        return instantiate_model(_untrained(model))


def _untrained(spec: Any) -> Any:
    """A description without pretrained weights, which are not needed to see whether its parts fit."""
    if isinstance(spec, Mapping):
        plain = {name: _untrained(value) for name, value in spec.items() if name != "weights"}
        return {**plain, "pretrained": False} if "pretrained" in plain else plain
    return [_untrained(value) for value in spec] if isinstance(spec, list) else spec


@contextmanager
def _about(subject: str) -> Iterator[None]:
    """Says what was refused."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{subject}: {error}") from error
