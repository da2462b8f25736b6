"""What the finished runs of a study of chains say, as rows of plain data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.chains import (
    Assignment,
    Chain,
    ChainsTable,
    Distances,
    Factors,
    level,
    relative_transfer_gains,
)
from lightning_taskonomy.affinity.chains.factors import FACTOR_COLUMNS
from lightning_taskonomy.affinity.chains.table import COLUMNS
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.features import read_features
from lightning_taskonomy.reports.reading import read_values
from lightning_taskonomy.studies.base import Table
from lightning_taskonomy.studies.influence.encoders import encoder, feature_jobs
from lightning_taskonomy.studies.influence.plan import InfluencePlan

__all__ = ["DISTANCES", "GAINS", "SOURCES", "influence_tables"]

DISTANCES = ("target", "source", *get_args(Assignment))
"""Of ``distances.csv``: a row per pair of collections of images."""
GAINS = ("target", "source", "setting", "metric", "gain", "half_width", "seeds", "level")
"""Of ``gains.csv``: a row per chain, in percent of the first link alone."""

SOURCES = ("source", "setting", "rate", "metric", "validation", "seconds")
"""Of ``sources.csv``: a row per source model, at the learning rate that was selected."""


def influence_tables(plans: Sequence[InfluencePlan], images: int) -> Iterator[tuple[str, Table | Any]]:
    """The chains that were tested, what sources and targets are, gains, and distances of their images.

    Args:
        plans: The runs under each seed.
        images: Images of a data set by which it is compared with others.

    Raises:
        InputError: No chain is tested.
    """
    plan = plans[0]
    chains = [chain for one in plans for chain in _chains(one)]
    if not chains:
        raise InputError(f"{plan.root} holds no tested chain; run stages 'chains' and 'test', or see failures.json")
    yield "chains.csv", (COLUMNS, [[*astuple(row)[:6], int(row.higher_is_better), row.value] for row in chains])
    factors = _factors(plan)
    rows = [[name, f.task_type, ";".join(f.domains), ";".join(f.images), f.size] for name, f in factors.items()]
    yield "factors.csv", (FACTOR_COLUMNS, rows)
    yield "sources.csv", (SOURCES, list(_sources(plan)))
    table, _ = ChainsTable(tuple(chains)).comparable()
    gains = [gain for setting in plan.settings.settings for gain in relative_transfer_gains(table, setting)]
    yield "gains.csv", (GAINS, [[*astuple(gain), level(gain.value)] for gain in gains])
    jobs = [job for job in feature_jobs(plan, images) if job.is_done]
    files = {job.name: job.done[0] for job in jobs}
    described = {name: str(file.relative_to(plan.root)) for name, file in files.items()}
    network = str(encoder(plan).folder.relative_to(plan.root))
    normalised = plan.settings.normalise
    yield "features.json", {"encoder": network, "images": images, "normalised": normalised, "files": described}
    values = Distances.measure(_features(files, factors)).values
    yield (
        "distances.csv",
        (DISTANCES, [[*pair, *(row[name] for name in DISTANCES[2:])] for pair, row in values.items()]),
    )


def _chains(plan: InfluencePlan) -> Iterator[Chain]:
    for chain in plan.chains():
        tested, task = plan.kept(chain).folder / "test.json", plan.tasks[chain.target]
        if tested.is_file():
            name, higher = task.metric
            (value,) = read_values(tested, task.logged("test"))
            source = "" if chain.kind == "scratch" else chain.source
            yield Chain(chain.target, source, chain.kind, chain.setting, plan.settings.seed, name, higher, value)


def _factors(plan: InfluencePlan) -> dict[str, Factors]:
    """What tasks and models of several sources are, as far as their data are prepared.

    The size is that of the whole training split; of several sources the sum.
    """
    factors = {}
    for name, task in plan.tasks.items():
        prepared = plan.prepared_images(task)
        if prepared.is_file():
            size = int(read_values(prepared, "images")[0])
            factors[name] = Factors(task.type, (task.images.domain,), (task.pool,), size)
    for name, parts in (plan.settings.multi_source or {}).items():
        if factors.keys() >= set(parts):
            domains, images = ({word: None for part in parts for word in getattr(factors[part], field)}
                               for field in ("domains", "images"))  # fmt: skip
            size = sum(factors[part].size for part in parts)
            factors[name] = Factors(factors[parts[0]].task_type, tuple(domains), tuple(images), size)
    return factors


def _features(files: Mapping[str, Path], factors: Mapping[str, Factors]) -> dict[str, NDArray[np.floating]]:
    """Features by collection of images, those of several sources together under the names joined by ``+``."""
    features = {name: read_features(file) for name, file in files.items()}
    for one in factors.values():
        if one.multi_source and features.keys() >= set(one.images):
            features[one.collection] = np.concatenate([features[name] for name in one.images])
    return features


def _sources(plan: InfluencePlan) -> Iterator[list[Any]]:
    for name, setting in plan.trained_sources():
        run = plan.source_run(name, setting)
        if run.is_done:
            metric, key = (
                (task.metric[0], task.logged("val")) if (task := plan.tasks.get(name)) else ("loss", "val/loss")
            )
            rate = run.config["model"]["init_args"]["optimizer"]["init_args"]["lr"]
            yield [name, setting, rate, metric, *read_values(run.done, key, "seconds")]
