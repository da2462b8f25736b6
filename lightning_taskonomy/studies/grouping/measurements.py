"""What the runs of a grouping study have left: losses on validation and test images, early and at the end."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from statistics import mean

from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.studies.grouping.plan import CANDIDATE, EARLY, Candidate, GroupingPlan
from lightning_taskonomy.training.run import FAILED

__all__ = ["SPLITS", "Losses", "Measured", "groupings_table", "measure"]

SPLITS = ("early", "validation", "test")
"""Where and when losses are taken: validation images after one part of the data; with the weights that are kept."""

Losses = Mapping[str, float]
"""One loss per task, standardised labels, mean over all that is labelled."""


@dataclass(frozen=True)
class Measured:
    """A network that was trained, or was meant to be.

    Args:
        network: Which.
        seed: Its seed.
        folder: Its run's folder.
        losses: Its losses by split; a split is left out where a loss is missing or no number.
        validations: How many validations its training took.
        best: The one whose weights are kept, from 1 on; 0 where it is not known.
        seconds: What training took, side by side with others.
        reason: Why it cannot be chosen; empty where it can.
    """

    network: Candidate
    seed: int
    folder: Path
    losses: Mapping[str, Losses] = field(default_factory=dict)
    validations: int = 0
    best: int = 0
    seconds: float = 0.0
    reason: str = ""


def measure(plan: GroupingPlan, networks: Iterable[Candidate]) -> list[Measured]:
    """Reads the runs of some networks under one seed; those that are not finished say so.

    Args:
        plan: The runs.
        networks: Which of them, each once.
    """
    statistics, encoders, seed = plan.read_statistics(), plan.read_encoders(), plan.settings.seed
    return [_read(network, seed, plan.run(network, statistics, encoders).folder) for network in dict.fromkeys(networks)]


def _read(network: Candidate, seed: int, folder: Path) -> Measured:
    file, history, failed = (folder / name for name in ("metrics.json", "history.json", FAILED))
    if not file.is_file():
        reason = json.loads(failed.read_text())["error"] if failed.is_file() else "its training did not end"
        return Measured(network, seed, folder, reason=reason)
    metrics = json.loads(file.read_text())
    validations = json.loads(history.read_text()) if history.is_file() else []
    losses = {split: _losses(metrics, network, prefix) for split, prefix in (("validation", "val"), ("test", "test"))}
    losses["early"] = _losses(validations[0] if validations else {}, network, "val")
    totals = [inf if (loss := entry.get("val/loss")) is None else loss for entry in validations]
    absent = [task for task in network.tasks if task not in losses["validation"] or task not in losses["test"]]
    return Measured(
        network,
        seed,
        folder,
        {split: values for split, values in losses.items() if len(values) == len(network.tasks)},
        validations=len(totals),
        best=totals.index(min(totals)) + 1 if totals else 0,
        seconds=metrics.get("seconds", 0.0),
        reason=f"its loss of {absent[0]} is missing or no number" if absent else "",
    )


def _losses(metrics: Mapping[str, float | None], network: Candidate, prefix: str) -> dict[str, float]:
    named = {task: metrics.get(f"{prefix}/{task}/loss") for task in network.tasks}
    return {task: loss for task, loss in named.items() if loss is not None and isfinite(loss)}


def groupings_table(tasks: Sequence[str], measured: Iterable[Measured], split: str) -> GroupingsTable:
    """The losses of candidates on one split, the mean over the seeds; costs are sizes.

    Networks that were not trained under all seeds are left out, so that means are over the same seeds; where a task
    then has none, losses are those of the first seed.

    Args:
        tasks: All tasks, in the study's order.
        measured: What was trained; what is no candidate, or failed under any seed, is left out.
        split: Of ``SPLITS``.

    Raises:
        InputError: A task is served by no network.
    """
    by_network: dict[Candidate, dict[int, Losses]] = {}
    failed, measured = set[Candidate](), list(measured)
    seeds = list(dict.fromkeys(one.seed for one in measured))
    for one in measured:
        network = Candidate(one.network.tasks, one.network.size)
        if one.network.kind not in ((CANDIDATE, EARLY) if split == "early" else (CANDIDATE,)):
            continue
        if split in one.losses and not one.reason:
            by_network.setdefault(network, {}).setdefault(one.seed, one.losses[split])
        else:
            failed.add(network)
    networks = [
        Network(
            network.tasks,
            network.size,
            tuple(mean(losses[task] for losses in by_seed.values()) for task in network.tasks),
        )
        for network, by_seed in by_network.items()
        if network not in failed and len(by_seed) == len(seeds)
    ]
    if len(seeds) > 1 and {task for network in networks for task in network.tasks} < set(tasks):
        return groupings_table(tasks, [one for one in measured if one.seed == seeds[0]], split)
    return GroupingsTable(tuple(tasks), tuple(networks))
