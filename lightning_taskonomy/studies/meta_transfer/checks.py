"""What no run of a Task Meta-Transfer study can have, refused before hours of other runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback

from lightning_taskonomy.callbacks import TaskMetaTransfer
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.meta_transfer.methods import Knobs, candidates
from lightning_taskonomy.studies.meta_transfer.plan import MetaTransferPlan
from lightning_taskonomy.studies.meta_transfer.selection import Selection
from lightning_taskonomy.studies.meta_transfer.settings import Case
from lightning_taskonomy.training import check, instantiate_callback, instantiate_data, instantiate_model

__all__ = ["check_runs"]


def check_runs(selection: Selection, varied: Mapping[str, Sequence[float]]) -> None:
    """Refuses what no run can have; training data are not made.

    Args:
        selection: The study's cells.
        varied: Values of rank, split and amount that are studied.

    Raises:
        InputError: A method, callback, network or data set refuses its settings.
    """
    plan, settings = selection.plan, selection.plan.settings
    network, case = next(iter(settings.networks)), settings.pairs[0]

    def plain(plan: MetaTransferPlan, network: str = network, case: Case = case) -> dict[str, Any]:
        return plan.fit(network, case, "mtl", {}).run.config

    for cell in selection.cells():
        for point in selection.candidates(cell):
            _ = point.fit
    for network_name in settings.networks:
        with _about(f"network {network_name!r}"):
            check(plain(plan, network_name))
    callbacks = [
        (f"method {name!r}", instantiated)
        for name, knobs in selection.methods.items()
        for one in candidates(knobs)
        for instantiated in _callbacks(plan, name, case, one)
    ]
    ranks = [
        ("ranks", instantiated)
        for rank in varied["rank"]
        for one in candidates(selection.methods.get("tmt", {}))[:1]
        for instantiated in _callbacks(plan, "tmt", case, {**one, "rank": rank})
    ]
    for network_name in settings.networks:
        projected = [*callbacks, *(ranks if network_name == network else [])]
        _check_ranks(projected, plain(plan, network_name), network_name)
    for other in settings.pairs:
        instantiate_data(plain(plan, case=other)["data"])
    for amount in varied["amount"]:
        with _about("amounts"):
            instantiate_data(plain(plan.but(parallel=amount))["data"])
    for block in varied["split"]:
        with _about(f"splits of network {network!r}"):
            check(plain(plan.split_at(network, int(block))))


def _callbacks(plan: MetaTransferPlan, name: str, case: Case, knobs: Knobs) -> list[Callback]:
    with _about(f"method {name!r}"):
        return [instantiate_callback(spec) for spec in plan.callbacks(name, case, knobs)]


def _check_ranks(callbacks: Sequence[tuple[str, Callback]], config: dict[str, Any], network: str) -> None:
    """Refuses a rank above the channels at the bifurcation. The network is made without pretrained weights."""
    learners = [
        (subject, callback.learner) for subject, callback in callbacks if isinstance(callback, TaskMetaTransfer)
    ]
    if not learners:
        return
    with torch.random.fork_rng(devices=[]):
        model: Any = instantiate_model(_untrained(config["model"]))
        for subject, learner in learners:
            with _about(f"{subject} on network {network!r}"):
                for channels in model.backbone.out_channels:
                    learner.make(channels)


def _untrained(spec: Any) -> Any:
    """A description without pretrained weights, which are not needed to count channels."""
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
