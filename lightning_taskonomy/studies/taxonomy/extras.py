"""What the paper measures beyond the taxonomy: novel tasks, transitive transfers, other data sets, stability.

Each is a table of its own beside ``affinity.csv``; each trains only what the study has not trained before.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchmetrics import Metric

from lightning_taskonomy.affinity import TransfersTable, win_rate
from lightning_taskonomy.affinity.stability import (
    affinity_agreement,
    kept_affinity,
    policy_agreement,
    rank_correlation,
    source_agreement,
)
from lightning_taskonomy.affinity.transitive import compare_detour
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.solvers import TaxonomySolver
from lightning_taskonomy.studies.engine import Engine
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.specs import DataSpec, Spec
from lightning_taskonomy.studies.taxonomy.analysis import read_scores
from lightning_taskonomy.studies.taxonomy.evidence import Evidence
from lightning_taskonomy.studies.taxonomy.plan import Plan
from lightning_taskonomy.tasks import find

__all__ = [
    "RIVALS",
    "FineTune",
    "Table",
    "check_fine_tune",
    "fine_tuned",
    "novel_tasks",
    "spread",
    "stability",
    "train_fine_tuned",
    "train_novel",
    "train_transitive",
    "transitive",
]

Table = tuple[list[str], list[list[Any]]]
"""Columns and rows."""

RIVALS = (
    "egomotion", "pose_fixated", "pose_nonfixated", "point_matching", "colorization", "jigsaw", "inpainting",
)  # fmt: skip
"""Tasks whose features are a rival for novel tasks, as in the paper's Fig. 10: Agrawal et al. (ICCV 2015) learn from
egomotion, Zamir et al. (ECCV 2016) from pose and matching, Zhang et al. (ECCV 2016) from colour, Noroozi and Favaro
(ECCV 2016) from jigsaw puzzles; in-painting is Pathak et al.'s (CVPR 2016)."""


@dataclass(frozen=True)
class FineTune:
    """The task-specific networks fine-tuned on another data set (section 5.1).

    Args:
        data: The other data set.
        task: Its task: a name of the catalog or a dotted path.
        target: The target of the study whose ranking of sources is compared.
        metric: The test metric that ranks, one of the task's kind: ``accuracy``, ``miou``, ``mae``, ...
        epochs: Of each fine-tuning.
        name: What the report calls the data set; ``task`` where not given.
    """

    data: DataSpec
    task: str
    target: str
    metric: str
    epochs: int = 10
    name: str = ""

    @property
    def title(self) -> str:
        """What the report calls the data set."""
        return self.name or self.task


def _metric(settings: FineTune) -> Metric:
    """The metric that ranks.

    Raises:
        InputError: There is no such task, or its kind has no such metric.
    """
    task = find(settings.task)
    known = objective(task).metrics(task)
    if settings.metric not in known:
        raise InputError(
            f"fine_tune: {settings.task!r} has no metric {settings.metric!r}{hint(settings.metric, known)}; "
            f"allowed: {', '.join(known)}"
        )
    return known[settings.metric]


def check_fine_tune(targets: Sequence[str], settings: Sequence[FineTune]) -> None:
    """What can be checked before anything runs.

    Raises:
        InputError: A task, target or metric is unknown, or two data sets have one name.
    """
    titles = [one.title for one in settings]
    for one in settings:
        _metric(one)
        if one.target not in targets:
            raise InputError(f"fine_tune names {one.target!r}, which is no target here{hint(one.target, targets)}")
        if titles.count(one.title) > 1:
            raise InputError(f"fine_tune has two data sets called {one.title!r}; give each a name")


def train_novel(engine: Engine, evidence: Evidence, fixed: RunSpec | None) -> None:
    """Trains what novel tasks need besides the study's own transfers.

    Args:
        engine: What runs the jobs.
        evidence: The finished runs, with each target as if it were new: without its own network another few sources
            may be the best ones, and higher orders are made of these.
        fixed: A network of fixed features, ImageNet's.
    """
    plan = evidence.plan
    seconds = plan.checkpoint_seconds
    specs = [plan.transfer(target, chosen) for target in plan.targets for chosen in evidence.higher_orders(target)]
    engine.run("novel tasks: transfers of higher order", [spec.job(seconds) for spec in specs])
    if fixed is not None:
        engine.run("ImageNet features", [fixed.job(seconds)])
        keys = sorted({plan.tasks[name].input for name in plan.targets})
        engine.run("ImageNet representations", [plan.encode_run(fixed, key) for key in keys])
        specs = [plan.transfer_from(target, [fixed], "imagenet") for target in plan.targets]
        engine.run("ImageNet transfers", [spec.job(seconds) for spec in specs])


def novel_tasks(evidence: Evidence, fixed: RunSpec | None) -> Table:
    """All-for-one: each target as if it were new, target-only, at growing order (section 4.2, Fig. 10).

    Args:
        evidence: The finished runs, with each target as if it were new: its own network is no member of its
            tournament; it is only what quality is measured against.
        fixed: A network of fixed features, ImageNet's.

    Returns:
        Per target and order: the policy, its affinity, gain (against scratch) and quality (against full supervision),
        its mean score and those of scratch and full supervision, and its win rate over each rival with the rival's
        mean score; all on the images to judge by, empty where there is no such network.
    """
    plan = evidence.plan
    table, scores, _, held_out = evidence.table()
    rivals = [*(["imagenet"] if fixed else []), *(name for name in RIVALS if name in plan.tasks)]
    columns = [
        "target", "order", "sources", "affinity", "gain", "quality", "loss", "loss_scratch", "loss_task_specific",
    ]  # fmt: skip
    columns += [f"{what}_{name}" for name in rivals for what in ("win_rate_vs", "loss")]
    rows: list[list[Any]] = []
    for target, own in scores.items():
        others = {name: own.get((target, "transfer", (name,))) for name in rivals}
        others |= {"scratch": own.get((target, "scratch", ()))}
        others |= {"task_specific": own.get((target, "task_specific", (target,)))}
        if fixed is not None and (spec := plan.transfer_from(target, [fixed], "imagenet")).job(0).is_done:
            others["imagenet"] = read_scores(spec.folder / "scores.npz", target)[1]
        losses = {name: _mean(values, held_out) for name, values in others.items()}
        for order in range(1, min(plan.settings.max_order, 4) + 1):
            solver = TaxonomySolver(budget=len(plan.tasks), max_order=order, novel=target)
            try:
                (transfer,) = solver.solve(table).policy.values()
            except InputError:
                continue  # no transfer of this target has an affinity
            ours = own[transfer.key]
            rates = {name: _win_rate(ours, values, held_out) for name, values in others.items()}
            row = [
                target, order, ";".join(transfer.sources), transfer.affinity, rates["scratch"], rates["task_specific"],
                _mean(ours, held_out), losses["scratch"], losses["task_specific"],
            ]  # fmt: skip
            rows.append(row + [found[name] for name in rivals for found in (rates, losses)])
    return columns, rows


def _mean(scores: NDArray[np.float32] | None, images: NDArray[np.bool_]) -> float | None:
    """The mean score over some images; None where nothing is labelled or there is no such network."""
    return None if scores is None or np.isnan(scores[images]).all() else float(np.nanmean(scores[images]))


def _win_rate(
    scores: NDArray[np.float32], reference: NDArray[np.float32] | None, images: NDArray[np.bool_]
) -> float | None:
    """The win rate on some images; None where no image is valid in both or there is no such network."""
    rate = float("nan") if reference is None else win_rate(scores[images], reference[images])
    return None if np.isnan(rate) else rate


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


def train_fine_tuned(engine: Engine, plan: Plan, settings: Sequence[FineTune]) -> None:
    """Fine-tunes every task-specific network on the other data sets."""
    done = [name for name in plan.tasks if plan.task_specific(name).job(0).is_done]
    for one in settings:
        specs = [_fine_tuned_run(plan, name, one) for name in done]
        engine.run(f"fine-tuning on {one.title}", [spec.job(plan.checkpoint_seconds) for spec in specs])


def fine_tuned(plan: Plan, table: TransfersTable, settings: Sequence[FineTune]) -> tuple[Table, list[dict[str, Any]]]:
    """How fine-tuned networks rank on other data sets, beside the study's own ranking (section 5.1, Fig. 12).

    Returns:
        Per data set and source the affinity and the metric there; and per data set Spearman's rank correlation of
        the two, positive where sources of high affinity do well, None where it is undefined.

    Raises:
        InputError: A finished run holds no such metric.
    """
    rows: list[list[Any]] = []
    rankings: list[dict[str, Any]] = []
    for one in settings:
        affinity = {
            row.sources[0]: row.affinity
            for row in table.transfers
            if row.target == one.target and row.kind == "transfer" and row.order == 1 and row.affinity is not None
        }
        metric = f"test/{find(one.task).name}/{one.metric}"
        reached = {}
        for name in affinity:
            file = _fine_tuned_run(plan, name, one).folder / "metrics.json"
            if file.is_file():
                held = json.loads(file.read_text())
                if metric not in held:
                    allowed = ", ".join(key for key in held if "test/" in key)
                    raise InputError(f"{file} holds no {metric!r}; allowed: {allowed}")
                reached[name] = held[metric]
        rows += [[one.title, one.target, name, affinity[name], one.metric, reached[name]] for name in reached]
        higher = bool(_metric(one).higher_is_better)
        rho = rank_correlation(affinity, {name: value if higher else -value for name, value in reached.items()})
        named = {"name": one.title, "target": one.target, "metric": one.metric}
        rankings.append({**named, "higher_is_better": higher, "spearman": rho})
    return (["name", "target", "source", "affinity", "metric", "value"], rows), rankings


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
