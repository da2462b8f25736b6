"""What the jobs of a Taskonomy study cost: time and disk from a few steps of each kind."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_taskonomy.models.sources import representation_key
from lightning_taskonomy.modules import MultiTaskModule, TransferModule
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.taxonomy.plan import RANDOM, TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings
from lightning_taskonomy.tasks import stored_keys_of
from lightning_taskonomy.training import instantiate_data, instantiate_model

__all__ = ["probes"]

_OVERHEAD = 0.3
"""Seconds that a warm process needs around a fit."""


def _timed(call: Callable[[], object], repeats: int = 2) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def probes(plan: TaxonomyPlan) -> dict[str, Probe]:
    """Times a few steps of each kind; nothing is kept.

    Args:
        plan: The study's runs.
    """
    settings, tasks = plan.settings, plan.tasks
    data = instantiate_data(plan.training_data)
    keys = stored_keys_of(tasks.values())
    cached = getattr(data, "cache", None) is not None
    if cached:
        data.cache = None  # type: ignore[attr-defined]  # a data module that has one would fill it
    splits = {split: data.dataset(split, keys=keys) for split in ("train", "validation", "test")}
    counts = {split: len(samples) for split, samples in splits.items()}
    images = sum(counts.values())
    one = splits["train"][0]
    render = _timed(lambda: splits["train"][1])
    counts["transfer"] = min(settings.transfer_size or counts["validation"], counts["validation"])
    batch = data.batch_size
    sample = {key: value[None].expand(batch, *value.shape).clone() for key, value in one.items()}
    step, forward, encode, maps = _network_times(plan, sample)
    readout = _readout_time(plan, maps, sample)
    steps = {split: max(1, count // batch) for split, count in counts.items()}
    test = math.ceil(counts["test"] / batch)
    scratch_epochs, scratch_step = (
        settings.scratch_epochs or settings.transfer_epochs,
        _scratch_step(settings, step, forward),
    )
    transfer = settings.transfer_epochs * steps["transfer"] * readout + test * readout / 3 + _OVERHEAD
    network = settings.epochs * steps["train"] * step + test * forward + _OVERHEAD
    small = 12 * counts["test"] + 20_000  # scores, metrics and configuration of a run
    weights = sum(p.numel() for p in _model(plan).parameters()) * 4 + small
    representation = sum(features[0].nbytes for features in maps) * (counts["transfer"] + counts["test"])
    rendered = sum(value.nbytes for value in one.values() if value.dim()) * images if cached else 0
    return {
        "prepare": Probe(seconds=render * images / 3, disk=rendered // 3),  # a job per split
        "average": Probe(seconds=render * (steps["train"] + test) + _OVERHEAD, disk=small),
        RANDOM: Probe(seconds=test * forward + _OVERHEAD, disk=weights),
        "imagenet": Probe(seconds=test * forward + _OVERHEAD, disk=weights),
        "task_specific": Probe(seconds=network, disk=weights),
        "scratch": Probe(
            seconds=scratch_epochs * steps["transfer"] * scratch_step + test * forward + _OVERHEAD, disk=weights
        ),
        "encode": Probe(seconds=(steps["transfer"] + test) * encode + _OVERHEAD, disk=representation),
        "transfer": Probe(seconds=transfer, disk=small),
        "fine_tuned": Probe(seconds=network, disk=weights),
        "examples": Probe(seconds=3 * _OVERHEAD, disk=small),
    }


def _scratch_step(settings: TaxonomySettings, step: float, forward: float) -> float:
    """Seconds per batch of the transfers' images, of which a share is validated on."""
    share = settings.scratch_validation
    return (1 - share) * step + share * forward


def _model(plan: TaxonomyPlan) -> MultiTaskModule:
    first = min(plan.targets, key=lambda name: plan.tasks[name].views)
    model = instantiate_model(plan.task_specific(first).config["model"])
    assert isinstance(model, MultiTaskModule)
    return model


def _network_times(plan: TaxonomyPlan, sample: dict[str, Tensor]) -> tuple[float, float, float, list[Tensor]]:
    """Seconds of a training step, of a test step and of encoding a batch; and the representations."""
    model = _model(plan)
    (task,) = model.tasks.values()
    with torch.no_grad():
        forward = _timed(lambda: model(sample))
        encode = _timed(lambda: model.encode(sample, task.input))
        maps = model.encode(sample, task.input)
    return _timed(lambda: _step(model, sample)), forward, encode, maps


def _readout_time(plan: TaxonomyPlan, maps: list[Tensor], sample: dict[str, Tensor]) -> float:
    """Seconds of a training step of a first-order transfer from cached representations."""
    (task,) = _model(plan).tasks.values()
    spec = plan.transfer(task.name, [next(name for name in plan.tasks if name != task.name)]).config["model"]
    model = instantiate_model({**spec, "init_args": {**spec["init_args"], "sources": [plan.settings.backbone]}})
    assert isinstance(model, TransferModule)
    cached = {representation_key(i): features for i, features in enumerate(maps)}
    return _timed(lambda: _step(model, {task.target: sample[task.target], **cached}))


def _step(model: MultiTaskModule, batch: dict[str, Tensor]) -> None:
    losses, _ = model.losses(batch)
    torch.stack(list(losses.values())).sum().backward()
