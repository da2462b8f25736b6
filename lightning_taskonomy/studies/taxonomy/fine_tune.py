"""Task-specific networks fine-tuned on other data sets: do they rank as the affinities say (section 5.1)?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric

from lightning_taskonomy.affinity import TransfersTable
from lightning_taskonomy.affinity.stability import rank_correlation
from lightning_taskonomy.configurations import with_arguments
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.modules.objectives import objective
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.specs import DataSpec
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.tasks import find

__all__ = ["FineTune", "check_fine_tune", "fine_tune_jobs", "fine_tuned"]


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
    metrics = objective(task).metrics(task)
    if settings.metric not in metrics:
        raise InputError(
            f"fine_tune: {settings.task!r} has no metric {settings.metric!r}{hint(settings.metric, metrics)}; "
            f"allowed: {', '.join(metrics)}"
        )
    return metrics[settings.metric]


def check_fine_tune(targets: Sequence[str], settings: Sequence[FineTune]) -> None:
    """What can be checked before anything runs.

    Raises:
        InputError: A task, target or metric is unknown, or two data sets have one name.
    """
    titles = [one.title for one in settings]
    for one in settings:
        _metric(one)
        if one.target not in targets:
            raise InputError(
                f"fine_tune names {one.target!r}, which is not a target of this study{hint(one.target, targets)}"
            )
        if titles.count(one.title) > 1:
            raise InputError(f"fine_tune has two data sets called {one.title!r}; give each a name")


def fine_tune_jobs(plan: TaxonomyPlan, settings: FineTune) -> list[Job]:
    """Fine-tunes every task-specific network on another data set."""
    pairs = [(_fine_tuned_run(plan, name, settings), plan.task_specific(name)) for name in plan.tasks]
    return [run.job(plan.checkpoint_seconds, needs=[network.done]) for run, network in pairs]


def _fine_tuned_run(plan: TaxonomyPlan, source: str, settings: FineTune) -> RunSpec:
    network = plan.task_specific(source)
    data = with_arguments(settings.data, seed=plan.settings.seed)
    init_args = {**network.config["model"]["init_args"], "tasks": [settings.task], "heads": plan.settings.heads}
    config = {
        **network.config, "weights": str(network.folder), "weights_of": "backbone.", "data": data,
        "model": {**network.config["model"], "init_args": init_args},
        "trainer": {**network.config["trainer"], "max_epochs": settings.epochs},
    }  # fmt: skip
    return RunSpec("fine_tuned", f"{settings.task}<-{source}", config, plan.root)


def fine_tuned(
    plan: TaxonomyPlan, table: TransfersTable, settings: Sequence[FineTune]
) -> tuple[Table, list[dict[str, Any]]]:
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
                metrics = json.loads(file.read_text())
                if metric not in metrics:
                    allowed = ", ".join(key for key in metrics if "test/" in key)
                    raise InputError(f"{file} holds no {metric!r}; allowed: {allowed}")
                reached[name] = metrics[metric]
        rows += [[one.title, one.target, name, affinity[name], one.metric, reached[name]] for name in reached]
        higher = bool(_metric(one).higher_is_better)
        rho = rank_correlation(affinity, {name: value if higher else -value for name, value in reached.items()})
        named = {"name": one.title, "target": one.target, "metric": one.metric}
        rankings.append({**named, "higher_is_better": higher, "spearman": rho})
    return (["name", "target", "source", "affinity", "metric", "value"], rows), rankings
