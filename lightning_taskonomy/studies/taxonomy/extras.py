"""What the paper measures beyond the taxonomy: novel tasks, transitive transfers, other data sets, stability.

Each is a table of its own beside ``affinity.csv``; each trains only what the study has not trained before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity import TransfersTable, win_rate
from lightning_taskonomy.affinity.stability import (
    affinity_agreement,
    kept_affinity,
    policy_agreement,
    rank_correlation,
    source_agreement,
)
from lightning_taskonomy.affinity.transitive import compare_detour
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.studies.engine import Engine
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.specs import DataSpec, Spec
from lightning_taskonomy.studies.taxonomy.analysis import Scores, read_scores
from lightning_taskonomy.studies.taxonomy.plan import Plan

__all__ = [
    "FineTune",
    "Table",
    "fine_tuned",
    "novel_tasks",
    "spread",
    "stability",
    "train_fine_tuned",
    "train_transitive",
    "transitive",
]

Table = tuple[list[str], list[list[Any]]]
"""Columns and rows."""

SELF_SUPERVISED = ("colorization", "jigsaw", "inpainting")


@dataclass(frozen=True)
class FineTune:
    """The task-specific networks fine-tuned on another data set (section 5.1).

    Args:
        data: The other data set.
        task: Its task: a name of the catalog or a dotted path.
        target: The task of the study whose ranking of sources is compared.
        metric: The test metric that ranks, such as ``miou``.
        epochs: Of each fine-tuning.
    """

    data: DataSpec
    task: str
    target: str
    metric: str
    epochs: int = 10


def novel_tasks(
    plan: Plan, table: TransfersTable, scores: Scores, held_out: NDArray[np.bool_], features: Mapping[str, RunSpec]
) -> Table:
    """All-for-one: each target as if it were new, target-only, at growing order (section 4.2, Fig. 10).

    Args:
        plan: The study's runs.
        table: Its transfers.
        scores: Its per-image scores.
        held_out: The images to judge by.
        features: Transfers from fixed features (ImageNet's) per target.

    Returns:
        Per target and order: the policy, its affinity, gain, quality, and its win rate over each fixed feature.
    """
    rivals = [name for name in SELF_SUPERVISED if name in plan.tasks]
    columns = ["target", "order", "sources", "affinity", "gain", "quality"]
    columns += [f"win_rate_vs_{name}" for name in rivals] + (["win_rate_vs_imagenet"] if features else [])
    rows: list[list[Any]] = []
    for target in scores:
        for order in range(1, min(plan.settings.max_order, 4) + 1):
            solver = TaxonomySolver(budget=len(plan.tasks), max_order=order, targets=[target], target_only=[target])
            try:
                (transfer,) = solver.solve(table).policy.values()
            except InputError:
                continue  # no transfer of this target was measured
            own = scores[target][transfer.key][held_out]
            row = [
                target, order, ";".join(transfer.sources), transfer.affinity,
                transfer.win_rate_vs_scratch, transfer.win_rate_vs_task_specific,
            ]  # fmt: skip
            for name in rivals:
                other = scores[target].get((target, "transfer", (name,)))
                row.append(None if other is None else float(win_rate(own, other[held_out])))
            if features:
                spec = features.get(target)
                done = spec is not None and spec.job(0).is_done
                file = spec.folder / "scores.npz" if spec is not None else Path()
                row.append(float(win_rate(own, read_scores(file, target)[1][held_out])) if done else None)
            rows.append(row)
    return columns, rows


@dataclass(frozen=True)
class _Chain:
    """The runs of s -> t1 -> t2 and of s -> t2, on so many images."""

    plan: Plan
    source: str
    first: str
    second: str

    @property
    def hop(self) -> RunSpec:
        return self.plan.transfer(self.first, [self.source])

    @property
    def direct(self) -> RunSpec:
        return self.plan.transfer(self.second, [self.source])

    @property
    def whole(self) -> RunSpec:
        return self.plan.transfer_from(self.second, [self.hop], f"{self.first}<-{self.source}")


def _chains(plan: Plan, chains: Sequence[Sequence[str]], size: int | None) -> list[_Chain]:
    sized = replace(plan, settings=plan.settings.but({"transfer_size": size}))
    return [_Chain(sized, *chain) for chain in chains]


def train_transitive(engine: Engine, plan: Plan, chains: Sequence[Sequence[str]], sizes: Sequence[int | None]) -> None:
    """Trains s -> t1 -> t2 and s -> t2, with little and with much data."""
    seconds = plan.checkpoint_seconds
    for size in sizes:
        every, label = _chains(plan, chains, size), f" ({size or 'all'} images)"
        inputs = [(chain, plan.tasks[name].input) for chain in every for name in (chain.first, chain.second)]
        engine.run(f"chains: representations{label}", [c.plan.encode(c.source, key) for c, key in inputs])
        engine.run(f"chains: first and direct{label}", [s.job(seconds) for c in every for s in (c.hop, c.direct)])
        hops = [c for c in every if c.hop.job(0).is_done]
        engine.run(
            f"chains: second representations{label}",
            [c.plan.encode_run(c.hop, plan.tasks[c.second].input) for c in hops],
        )
        engine.run(f"chains: second{label}", [chain.whole.job(seconds) for chain in hops])


def transitive(plan: Plan, chains: Sequence[Sequence[str]], sizes: Sequence[int | None]) -> Table:
    """Whether s -> t1 -> t2 beats s -> t2 (section 3.2: equal in almost all cases).

    Args:
        plan: The study's runs.
        chains: Triples of a source and two targets.
        sizes: Transfer images: the low- and the high-data setting.

    Returns:
        Per chain and size the win rate of the transitive over the direct transfer on all test images, and the ends of
        its 95 % interval.
    """
    rows: list[list[Any]] = []
    for size in sizes:
        for chain in _chains(plan, chains, size):
            pair = [spec.folder / "scores.npz" for spec in (chain.whole, chain.direct) if spec.job(0).is_done]
            if len(pair) == 2:
                ours, theirs = (read_scores(file, chain.second)[1] for file in pair)
                found = compare_detour(ours, theirs)
                rows.append([chain.source, chain.first, chain.second, size, found.win_rate, *found.interval])
    return ["source", "first", "second", "images", "win_rate_vs_direct", "low", "high"], rows


def spread(tables: Sequence[TransfersTable]) -> Table:
    """Mean and standard deviation of each affinity over seeds, for the transfers that all of them measured."""
    measured = [{row.key: row.affinity for row in table.transfers if row.affinity is not None} for table in tables]
    rows: list[list[Any]] = []
    for key in measured[0]:
        values = np.array([found[key] for found in measured if key in found], float)
        if len(values) == len(tables):
            target, kind, sources = key
            rows.append([target, kind, ";".join(sources), len(values), values.mean(), values.std(ddof=1)])
    return ["target", "kind", "sources", "seeds", "mean", "std"], rows


def _fine_tuned_run(plan: Plan, source: str, settings: FineTune) -> RunSpec:
    own = plan.task_specific(source)
    data: Spec = {**settings.data, "init_args": {**settings.data.get("init_args", {}), "seed": plan.settings.seed}}
    init_args = {**own.config["model"]["init_args"], "tasks": [settings.task], "heads": plan.settings.heads}
    config = {
        **own.config, "weights": str(own.folder), "weights_of": "backbone.", "data": data,
        "model": {**own.config["model"], "init_args": init_args},
        "trainer": {**own.config["trainer"], "max_epochs": settings.epochs},
    }  # fmt: skip
    return RunSpec("fine_tuned", f"{settings.task}<-{source}", config, plan.root)


def train_fine_tuned(engine: Engine, plan: Plan, settings: FineTune) -> None:
    """Fine-tunes every task-specific network on the other data set."""
    specs = [_fine_tuned_run(plan, name, settings) for name in plan.tasks if plan.task_specific(name).job(0).is_done]
    engine.run("fine-tuning on another data set", [spec.job(plan.checkpoint_seconds) for spec in specs])


def fine_tuned(plan: Plan, table: TransfersTable, settings: FineTune) -> tuple[Table, float | None]:
    """How fine-tuned networks rank on another data set, beside the study's own ranking (section 5.1, Fig. 12).

    Returns:
        Per source its affinity and the other data set's metric; and Spearman's rank correlation.
    """
    import json

    from lightning_taskonomy.tasks import find

    affinity = {
        row.sources[0]: row.affinity
        for row in table.transfers
        if row.target == settings.target and row.kind == "transfer" and row.order == 1 and row.affinity is not None
    }
    metric = f"test/{find(settings.task).name}/{settings.metric}"
    reached = {}
    for name in affinity:
        file = _fine_tuned_run(plan, name, settings).folder / "metrics.json"
        if file.is_file():
            held = json.loads(file.read_text())
            if metric not in held:
                raise InputError(f"{file} holds no {metric!r}; allowed: {', '.join(k for k in held if 'test/' in k)}")
            reached[name] = held[metric]
    rows: list[list[Any]] = [[name, affinity[name], reached[name]] for name in reached]
    return (["source", "affinity", settings.metric], rows), rank_correlation(affinity, reached)


def stability(table: TransfersTable, others: Mapping[str, TransfersTable], budget: float, max_order: int) -> Table:
    """How affinity and taxonomy move under other settings (section 5.2).

    Args:
        table: The study's transfers.
        others: Those of each variant.
        budget: The budget at which taxonomies are compared.
        max_order: Their highest order.
    """
    rows: list[list[Any]] = []
    for name, other in others.items():
        common = [target for target in table.targets if target in other.targets]
        agreement = affinity_agreement(table, other)
        ours, theirs = (
            TaxonomySolver(budget=budget, max_order=max_order, targets=common).solve(each).policy
            for each in (table, other)
        )
        rows.append(
            [
                name, agreement.mean_spearman, agreement.frobenius, policy_agreement(ours, theirs),
                source_agreement(ours, theirs), kept_affinity(theirs, ours, table),
            ]
        )  # fmt: skip
    columns = ["variant", "mean_spearman", "frobenius", "equal_policies", "equal_sources", "kept_affinity"]
    return columns, rows
