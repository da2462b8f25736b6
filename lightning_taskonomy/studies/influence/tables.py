"""What the finished runs of a study of chains say, as rows of plain data."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from lightning_taskonomy.affinity.chains import Chain, Factors
from lightning_taskonomy.affinity.chains.factors import FACTOR_COLUMNS
from lightning_taskonomy.affinity.chains.table import COLUMNS
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.influence.plan import InfluencePlan

__all__ = ["SOURCES", "influence_tables"]

SOURCES = ("source", "setting", "rate", "metric", "validation", "seconds")
"""Of ``sources.csv``: a row per source model, at the learning rate that was selected."""


def influence_tables(plans: Sequence[InfluencePlan]) -> Iterator[tuple[str, Table | Any]]:
    """The chains that were tested, what sources and targets are, and how the sources were trained.

    Args:
        plans: The runs under each seed.

    Raises:
        InputError: No chain is tested.
    """
    plan = plans[0]
    chains = [chain for one in plans for chain in _chains(one)]
    if not chains:
        raise InputError(f"{plan.root} holds no tested chain; run stages 'chains' and 'test', or see failures.json")
    yield "chains.csv", (COLUMNS, [[*astuple(row)[:6], int(row.higher_is_better), row.value] for row in chains])
    rows = [[name, f.task_type, ";".join(f.domains), ";".join(f.images), f.size] for name, f in _factors(plan).items()]
    yield "factors.csv", (FACTOR_COLUMNS, rows)
    yield "sources.csv", (SOURCES, list(_sources(plan)))


def _chains(plan: InfluencePlan) -> Iterator[Chain]:
    for chain in plan.chains():
        tested, task = plan.kept(chain).folder / "test.json", plan.tasks[chain.target]
        if tested.is_file():
            name, higher = task.metric
            value = _read(tested)[task.logged("test")]
            source = "" if chain.kind == "scratch" else chain.source
            yield Chain(chain.target, source, chain.kind, chain.setting, plan.settings.seed, name, higher, value)


def _factors(plan: InfluencePlan) -> dict[str, Factors]:
    """What tasks and models of several sources are, as far as their data are prepared.

    The size is that of the whole training split; of several sources the sum.
    """
    factors = {}
    for name, task in plan.tasks.items():
        prepared = plan.prepared_split(task, "train")
        if prepared.is_file():
            size = int(_read(prepared)["images"])
            factors[name] = Factors(task.type, (task.images.domain,), (task.pool,), size)
    for name, parts in (plan.settings.multi_source or {}).items():
        if factors.keys() >= set(parts):
            domains, images = ({word: None for part in parts for word in getattr(factors[part], field)}
                               for field in ("domains", "images"))  # fmt: skip
            size = sum(factors[part].size for part in parts)
            factors[name] = Factors(factors[parts[0]].task_type, tuple(domains), tuple(images), size)
    return factors


def _sources(plan: InfluencePlan) -> Iterator[list[Any]]:
    for name, setting in plan.trained_sources():
        run = plan.source_run(name, setting)
        if run.is_done:
            metric, key = (
                (task.metric[0], task.logged("val")) if (task := plan.tasks.get(name)) else ("loss", "val/loss")
            )
            fitted, rate = _read(run.done), run.config["model"]["init_args"]["optimizer"]["init_args"]["lr"]
            yield [name, setting, rate, metric, fitted[key], fitted["seconds"]]


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content
