"""What a study would cost: runs counted by the paper's rules, time and disk from a few steps of each kind."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_taskonomy.models.sources import representation_key
from lightning_taskonomy.modules import MultiTaskModule, TransferModule
from lightning_taskonomy.studies.taxonomy.plan import Plan, Settings
from lightning_taskonomy.tasks import keys_of
from lightning_taskonomy.training import instantiate_data, instantiate_model

__all__ = ["Estimate", "estimate"]

_OVERHEAD = 0.3
"""Seconds that a warm process needs around a fit."""


@dataclass(frozen=True)
class Estimate:
    """Runs, seconds and bytes by kind.

    Args:
        runs: How many of each kind.
        seconds: What one of each kind takes on one worker.
        disk: Bytes of data, representations and runs.
        workers: How many work at once.
    """

    runs: dict[str, int]
    seconds: dict[str, float]
    disk: dict[str, int]
    workers: int

    def __str__(self) -> str:
        lines = ["kind              runs   seconds each"]
        lines += [f"{kind:<16} {n:>5}   {self.seconds[kind]:>12.1f}" for kind, n in self.runs.items()]
        total = sum(n * self.seconds[kind] for kind, n in self.runs.items()) / self.workers
        lines.append(f"about {_duration(total)} on {self.workers} worker{'s' if self.workers > 1 else ''}")
        lines.append("disk: " + ", ".join(f"{kind} {size / 1e6:.0f} MB" for kind, size in self.disk.items()))
        return "\n".join(lines)


def _duration(seconds: float) -> str:
    hours, rest = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"


def _timed(call: Callable[[], object], repeats: int = 2) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def estimate(plan: Plan, copies: int, workers: int) -> Estimate:
    """Counts runs and times a few steps; nothing is kept.

    Args:
        plan: The study's runs.
        copies: How often all of it runs (seeds and variants).
        workers: Worker processes.
    """
    own = plan.settings
    targets, tasks = plan.targets, plan.tasks
    data = instantiate_data(plan.training_data)
    keys = keys_of(tasks.values())
    if getattr(data, "cache", None) is not None:
        data.cache = None  # type: ignore[attr-defined]  # a data module that has one would fill it
    probe = {split: data.dataset(split, keys=keys) for split in ("train", "validation", "test")}
    counts = {split: len(samples) for split, samples in probe.items()}
    one = probe["train"][0]
    render = _timed(lambda: probe["train"][1])
    counts["transfer"] = min(own.transfer_size or counts["validation"], counts["validation"])
    batch = data.batch_size
    sample = {key: value[None].expand(batch, *value.shape).clone() for key, value in one.items()}
    step, forward, encode, maps = _network_times(plan, sample)
    readout = _readout_time(plan, maps, sample)
    steps = {split: max(1, count // batch) for split, count in counts.items()}
    test = math.ceil(counts["test"] / batch)
    seconds = {
        "data": render * sum(counts[split] for split in ("train", "validation", "test")),
        "task_specific": own.epochs * steps["train"] * step + test * forward + _OVERHEAD,
        "scratch": (own.scratch_epochs or own.transfer_epochs) * steps["transfer"] * _scratch_step(own, step, forward)
        + test * forward
        + _OVERHEAD,
        "encode": (steps["transfer"] + test) * encode + _OVERHEAD,
        "transfer": own.transfer_epochs * steps["transfer"] * readout + test * readout / 3 + _OVERHEAD,
    }
    runs = {
        "data": 1,
        "task_specific": copies * len(tasks),
        "scratch": copies * len(targets),
        "encode": copies * (len(tasks) + 1) * len({tasks[name].input for name in targets}),
        "transfer": copies * sum(_transfers(plan, target) for target in targets),
    }
    bytes_each = sum(value.nbytes for key, value in one.items() if value.dim())
    representation = sum(features[0].nbytes for features in maps)
    weights = sum(p.numel() for p in _model(plan).parameters()) * 4
    disk = {
        "data": 0 if plan.settings.data.get("init_args", {}).get("cache") is None
        else bytes_each * sum(counts[split] for split in ("train", "validation", "test")),
        "representations": runs["encode"] * representation * (counts["transfer"] + counts["test"]),
        "runs": weights * (runs["task_specific"] + runs["scratch"])
        + sum(runs.values()) * (12 * counts["test"] + 20_000),
    }  # fmt: skip
    return Estimate(runs, seconds, disk, max(workers, 1))


def _scratch_step(settings: Settings, step: float, forward: float) -> float:
    """Seconds per batch of the transfers' images, of which a share is validated on."""
    share = settings.scratch_validation
    return (1 - share) * step + share * forward


def _transfers(plan: Plan, target: str) -> int:
    """Transfers into one target: every source and the random encoder, and the higher orders by the paper's rule."""
    sources = len(plan.tasks) - (target in plan.tasks)
    beam = plan.settings.beam
    higher = 0
    for order in range(2, plan.settings.max_order + 1):
        if sources >= order:
            higher += math.comb(min(beam, sources), order) if order <= beam else 1
    return sources + 1 + higher


def _model(plan: Plan) -> MultiTaskModule:
    first = min(plan.targets, key=lambda name: plan.tasks[name].views)
    model = instantiate_model(plan.task_specific(first).config["model"])
    assert isinstance(model, MultiTaskModule)
    return model


def _network_times(plan: Plan, sample: dict[str, Tensor]) -> tuple[float, float, float, list[Tensor]]:
    """Seconds of a training step, of a test step and of encoding a batch; and the representations."""
    model = _model(plan)
    (task,) = model.tasks.values()
    with torch.no_grad():
        forward = _timed(lambda: model(sample))
        encode = _timed(lambda: model.encode(sample, task.input))
        maps = model.encode(sample, task.input)
    return _timed(lambda: _step(model, sample)), forward, encode, maps


def _readout_time(plan: Plan, maps: list[Tensor], sample: dict[str, Tensor]) -> float:
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
