"""The report of a study of transfer chains: its numbers against those of the affinity package and counted by hand."""

import csv
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from lightning_taskonomy.affinity.chains import Chain, ChainsTable, Distances, Factors, write_factors
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_csv, write_json
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.influence import figures

SETTINGS = {"sets": {}, "small": 150, "source_limit": 1500, "backbone": {"class_path": "x.TimmBackbone"}}


def write(folder, chains, factors, distances=None, settings=SETTINGS, finished=True):
    """A study's files.

    Args:
        folder: Where they go.
        chains: Rows (target, source, setting, values per seed); the source ``""`` is scratch. Targets of depth have
            errors, others mIoU.
        factors: By name.
        distances: By (target, source), one number for all assignments.
        settings: Of the study.
        finished: Whether it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"imagenet": "pretrained", "": "scratch"}
    table = [
        Chain(target, source, kinds.get(source, "chain"), setting, seed, "mae" if "depth" in target else "miou",
              "depth" not in target, float(value))
        for target, source, setting, values in chains for seed, value in enumerate(values)
    ]  # fmt: skip
    Manifest(
        study="lightning_taskonomy.studies.influence.study.InfluenceStudy", version=1, finished=finished,
        report="lightning_taskonomy.reports.influence.InfluenceReport", settings=settings,
        tables={name: f"{name}.csv" for name in ("gains", "distances", "chains", "factors", "sources")},
    ).write(folder)  # fmt: skip
    ChainsTable(tuple(table)).write(folder / "chains.csv")
    write_factors(folder / "factors.csv", factors)
    if distances is not None:
        names = ("one_to_one", "target_to_source", "source_to_target", "symmetric")
        Distances({pair: dict.fromkeys(names, value) for pair, value in distances.items()}).write(
            folder / "distances.csv"
        )
    return folder


def many(folder, domains=4, types=3, per_domain=1, seeds=3, settings=("small", "full", "small_source"), several=True):
    """A made-up study: near images and equal types help, and larger sources do more."""
    generator = np.random.default_rng(0)
    domain_names = ("consumer", "driving", "indoor", "aerial", "underwater", "close-up", "synthetic")[:domains]
    type_names = ("segmentation", "depth", "detection", "keypoints")[:types]
    places = {f"{domain}{copy or ''}": generator.normal(0, 0.3, 2) + [3 * np.cos(i), 3 * np.sin(i)]
              for i, domain in enumerate(domain_names) for copy in range(per_domain)}  # fmt: skip
    factors = {
        f"{pool}/{kind}": Factors(kind, (pool.rstrip("0123456789"),), (pool,), int(generator.integers(100, 100_000)))
        for kind in type_names for pool in places
    }  # fmt: skip
    if several:
        parts = [f"{pool}/segmentation" for pool in list(places)[:3]]
        words = (tuple(dict.fromkeys(word for part in parts for word in getattr(factors[part], field)))
                 for field in ("domains", "images"))  # fmt: skip
        factors["multi"] = Factors("segmentation", *words, sum(factors[part].size for part in parts))
    chains = []
    for setting in settings:
        for target, goal in factors.items():
            if goal.multi_source:
                continue
            sources = [name for name, one in factors.items()
                       if name != target and not (one.multi_source and target in parts)]  # fmt: skip
            starts = sources if setting == "small_source" and "small" in settings else ["imagenet", "", *sources]
            for source in starts:
                gain = {"": -30.0, "imagenet": 0.0}.get(source)
                if gain is None:
                    one = factors[source]
                    apart = min(np.linalg.norm(places[goal.images[0]] - places[pool]) for pool in one.images)
                    gain = 12 - 5 * apart - 8 * (one.task_type != goal.task_type) + 3 * np.log10(one.size / goal.size)
                    gain *= 0.4 if setting == "full" else 1
                sign = -1 if goal.task_type == "depth" else 1
                base = 0.5 * (1 + sign * gain / 100)
                chains.append((target, source, setting, base * (1 + generator.normal(0, 0.01, seeds))))
    pools = [*places, *(["+".join(factors["multi"].images)] if several else [])]
    apart = {
        (a, b): float(np.mean([np.linalg.norm(places[x] - places[y]) for x in a.split("+") for y in b.split("+")]))
        for a in pools for b in pools if a != b
    }  # fmt: skip
    sets = {pool: {"images": None, "small": None} for pool in places}
    write(folder, chains, factors, apart, {**SETTINGS, "sets": sets, "features": 60})
    jobs = []
    for pool, place in places.items():
        file = folder / "features" / pool / "features.npz"
        file.parent.mkdir(parents=True)
        np.savez(file, features=generator.normal(0, 0.4, (60, 8)) + np.r_[place, np.zeros(6)], id=np.arange(60))
        jobs.append({"kind": "features", "name": pool, "done": [f"features/{pool}/features.npz"], "runs": []})
    write_json(folder / "jobs.json", {"features": jobs})
    runs = [[name, "full", 0.001, "miou", 0.4, 12.5] for name in factors]
    write_csv(folder / "sources.csv", ("source", "setting", "rate", "metric", "validation", "seconds"), runs)
    return folder


def rows(folder, name):
    with (folder / "report" / f"{name}.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def text(folder):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", report(folder).read_text())))
