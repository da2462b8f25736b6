"""What ``fit --config`` takes, put together in one place: for the runs of studies and for recipes of a solution.

Plain dictionaries in, plain dictionaries out. A study names a run's folder by the hash of its configuration, so a key
that is added here gives all runs other folders.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "Spec",
    "descent",
    "fit_configuration",
    "fitted_on",
    "head_of",
    "network_arguments",
    "transfer_arguments",
    "untrained",
    "untrained_backbone",
    "with_arguments",
]

Spec = dict[str, Any]
"""An object described: ``class_path``, ``init_args``."""


def fit_configuration(
    model: str,
    arguments: Mapping[str, Any],
    data: Spec,
    *,
    trainer: Mapping[str, Any],
    seed: int,
    optimizer: Spec | None = None,
    scheduler: Spec | None = None,
    scheduler_interval: str | None = None,
) -> dict[str, Any]:
    """The configuration of one fit.

    Args:
        model: The module's class path.
        arguments: What it is built from, without optimizer and schedule.
        data: The data module.
        trainer: All arguments of the Trainer.
        seed: Of weights and batches.
        optimizer: The optimizer; the module's own default where not given.
        scheduler: The schedule; none where not given.
        scheduler_interval: Whether it counts epochs or steps; left out without a schedule.
    """
    optimization = {
        "optimizer": optimizer,
        "scheduler": scheduler,
        "scheduler_interval": scheduler_interval if scheduler else None,
    }
    init_args = {**arguments, **{name: value for name, value in optimization.items() if value is not None}}
    return {
        "seed_everything": seed,
        "model": {"class_path": model, "init_args": init_args},
        "data": data,
        "trainer": dict(trainer),
    }


_SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.2}}


def descent(optimizer: Spec | None, scheduler: Spec | None) -> tuple[Spec, Spec | None]:
    """Optimizer and schedule of the networks of a grouping.

    Args:
        optimizer: The optimizer; where not given, SGD from a rate of 0.2 (Standley et al., section 4.2).
        scheduler: The schedule; where neither is given, the rate is halved when the training loss stalls.
    """
    if optimizer is not None or scheduler is not None:
        return optimizer or _SGD, scheduler
    return _SGD, {
        "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "train/loss_epoch", "factor": 0.5, "patience": 0},
    }


def network_arguments(references: Sequence[str], backbone: Spec, heads: Mapping[str, Spec] | None) -> dict[str, Any]:
    """What a network of one or several tasks is built from.

    Args:
        references: The tasks as a recipe names them.
        backbone: The backbone.
        heads: Heads by task or kind; the defaults of their kinds where not given.
    """
    arguments: dict[str, Any] = {"tasks": list(references), "backbone": backbone}
    return arguments if heads is None else {**arguments, "heads": heads}


def transfer_arguments(reference: str, sources: Sequence[str], width: int, head: Spec | None) -> dict[str, Any]:
    """What a transfer is built from.

    Args:
        reference: The target as a recipe names it.
        sources: The folders of the sources' runs or representations.
        width: Channels of the readout.
        head: The head behind the readout; None is the default of the target's kind.
    """
    arguments: dict[str, Any] = {"target": reference, "sources": list(sources), "width": width}
    return arguments if head is None else {**arguments, "head": head}


def head_of(task: str, kind: str, *heads: Mapping[str, Spec] | None) -> Spec | None:
    """The head of a task: that of its name, else that of its kind; from the first of several choices that has one.

    Args:
        task: The task's name.
        kind: The name of its kind.
        heads: Heads by task or kind.
    """
    return next((head for named in heads if named and (head := named.get(task) or named.get(kind))), None)


def fitted_on(data: Spec, split: str, size: int | None, seed: int) -> Spec:
    """A data module that is fitted on one split.

    Args:
        data: The data module.
        split: The split's name.
        size: How many of its images; None for all.
        seed: Of the choice of images, their order and their augmentation.
    """
    return with_arguments(data, fit_split=split, fit_size=size, seed=seed)


def with_arguments(spec: Spec, **arguments: Any) -> Spec:
    """A described object with some arguments changed or added."""
    return {**spec, "init_args": {**(spec.get("init_args") or {}), **arguments}}


def untrained_backbone(spec: Mapping[str, Any]) -> Spec:
    """A backbone that starts without weights, where trained ones are loaded anyway.

    Args:
        spec: The backbone.
    """
    init_args = spec.get("init_args") or {}
    return {**spec, "init_args": {k: v for k, v in init_args.items() if k not in ("pretrained", "weights")}}


def untrained(spec: Mapping[str, Any]) -> Spec:
    """A module whose backbones start without weights, where trained ones are loaded anyway.

    Args:
        spec: A module with a backbone, or with networks that have one each.
    """
    init_args = dict(spec.get("init_args") or {})
    if isinstance(init_args.get("backbone"), Mapping):
        init_args["backbone"] = untrained_backbone(init_args["backbone"])
    if init_args.get("networks"):
        init_args["networks"] = [untrained(network) for network in init_args["networks"]]
    return {**spec, "init_args": init_args}
