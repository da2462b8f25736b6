"""What a study of transfer chains left in its folder, read and checked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_taskonomy.affinity.chains import (
    Chain,
    ChainsTable,
    Distances,
    Factors,
    Gain,
    Setting,
    read_factors,
    relative_transfer_gains,
    scratch_gains,
    shared_images,
    without_gain,
)
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.features import ImageFeatures
from lightning_taskonomy.reports.reading import read_json, read_number, read_rows

__all__ = ["ALL", "SEGMENTATION", "InfluenceResults", "SourceRun", "read_influence"]

ALL, SEGMENTATION = "all chains", "within segmentation"
"""Which chains a number is of."""

_SEGMENTATION = "segmentation"
_ORDER: tuple[Setting, ...] = ("small", "full", "small_source")


@dataclass(frozen=True)
class SourceRun:
    """The training of a source that was kept.

    Args:
        source: The source.
        setting: ``full``, or ``small_source`` where its images were limited.
        rate: The learning rate that was best on validation images.
        metric: By which it was.
        validation: What it reached there.
        seconds: How long it was trained.
    """

    source: str
    setting: str
    rate: float
    metric: str
    validation: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class InfluenceResults:
    """Everything a study of chains left.

    Args:
        chains: The chains that were tested and have a reference, and the references.
        factors: What each source and target is.
        distances: Between collections of images; none of them where they are not measured yet.
        runs: How sources were trained.
        features: The files of the features of images, by collection.
        type_features: Those of the same images by networks of several task types, by collection and type.
        settings: The study's settings.
        waiting: Chains whose reference, the first link alone with the same seed, is not tested.
    """

    chains: ChainsTable
    factors: Mapping[str, Factors]
    distances: Distances = field(default_factory=lambda: Distances({}))
    runs: tuple[SourceRun, ...] = ()
    features: Mapping[str, Path] = field(default_factory=dict)
    type_features: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    waiting: tuple[Chain, ...] = ()

    @cached_property
    def gains(self) -> dict[Setting, tuple[Gain, ...]]:
        """Gains over the first link alone, of the settings that have any."""
        measured = {setting: relative_transfer_gains(self.chains, setting) for setting in _ORDER}
        return {setting: gains for setting, gains in measured.items() if gains}

    @cached_property
    def scratch(self) -> dict[Setting, tuple[Gain, ...]]:
        """What training from scratch brings against the first link alone, of the settings that have it."""
        measured = {setting: scratch_gains(self.chains, setting) for setting in _ORDER}
        return {setting: gains for setting, gains in measured.items() if gains}

    @property
    def undefined(self) -> list[str]:
        """Targets where the first link alone reaches 0, so that nothing can be relative to it."""
        return list(dict.fromkeys(name for setting in _ORDER for name in without_gain(self.chains, setting)))

    @property
    def seeds(self) -> int:
        """How many seeds there are."""
        return len({row.seed for row in self.chains.chains})

    def shared(self, setting: Setting) -> dict[tuple[str, str], tuple[str, ...]]:
        """The chains of a setting, as (target, source), whose source saw the target's images for another task."""
        return shared_images(self.gains.get(setting, ()), self.factors)

    def scopes(self, gains: Sequence[Gain]) -> dict[str, Sequence[Gain]]:
        """Gains by scope: all chains; where there are several task types, also those within one, and in segmentation.

        The paper's Tables 10, A.1 and A.2 are of chains from segmentation to segmentation.
        """
        types = {gain: [self.factors[name].task_type for name in (gain.source, gain.target)] for gain in gains}
        scopes: dict[str, Sequence[Gain]] = {ALL: gains}
        kinds = {one.task_type for one in self.factors.values()}
        if len(kinds) > 1:
            scopes["within task types"] = [gain for gain, (source, target) in types.items() if source == target]
            if _SEGMENTATION in kinds:
                scopes[SEGMENTATION] = [gain for gain, pair in types.items() if set(pair) == {_SEGMENTATION}]
        return scopes

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Names by task type, then domain, both as the study lists them, then from few training images to many.

        Those of several collections come last of their type.
        """
        types = list(dict.fromkeys(one.task_type for one in self.factors.values()))
        domains = list(dict.fromkeys(domain for one in self.factors.values() for domain in one.domains))

        def place(name: str) -> tuple[Any, ...]:
            one = self.factors[name]
            return types.index(one.task_type), one.multi_source, domains.index(one.domains[0]), one.size, name

        return sorted(dict.fromkeys(names), key=place)

    def domain_of(self, collection: str) -> str:
        """The domain of a collection of images, as its first task has it."""
        return next((one.domains[0] for one in self.factors.values() if one.images == (collection,)), "")

    def was_trained_on(self, source: str, target: str) -> bool:
        """Whether a source is the target itself, or a model of several sources that has it among them."""
        return source == target or self.factors[source].was_trained_on(self.factors[target])


def read_influence(folder: Path, manifest: Manifest) -> InfluenceResults:
    """Reads a study's folder.

    Args:
        folder: Where ``lightning-taskonomy study`` wrote.
        manifest: What it says of itself.

    Raises:
        InputError: It has no table of chains or factors yet, or one of its files cannot be used; the file is named.
    """
    table, waiting = ChainsTable.read(manifest.table("chains", folder)).comparable()
    factors_file = manifest.table("factors", folder)
    distances = folder / manifest.tables.get("distances", "distances.csv")
    factors = read_factors(factors_file)
    for name in (*table.targets, *table.sources):
        if name not in factors:
            raise InputError(
                f"{factors_file} has no row of {name!r}, which is in the table of chains{hint(name, factors)}; run the "
                "study again: nothing is trained twice"
            )
    return InfluenceResults(
        chains=table,
        factors=factors,
        distances=Distances.read(distances) if distances.is_file() else Distances({}),
        runs=_runs(folder / manifest.tables.get("sources", "sources.csv")),
        features=_features(folder),
        type_features=_type_features(folder),
        settings=manifest.settings,
        waiting=waiting,
    )


def _runs(path: Path) -> tuple[SourceRun, ...]:
    rows = read_rows(path, ("source", "setting", "rate", "metric", "validation", "seconds"))
    return tuple(
        SourceRun(
            row["source"], row["setting"], read_number(row, "rate", path), row["metric"],
            read_number(row, "validation", path), read_number(row, "seconds", path),
        )
        for row in rows
    )  # fmt: skip


def _features(folder: Path) -> dict[str, Path]:
    """The features by which distances were measured last, and that are there."""
    described = ImageFeatures.read(folder)
    return {} if described is None else {name: file for name, file in described.files.items() if file.is_file()}


def _type_features(folder: Path) -> dict[str, dict[str, Path]]:
    """Those of the networks of task types that the study planned last, as far as they are there."""
    files: dict[str, dict[str, Path]] = {}
    path = folder / "jobs.json"
    jobs = read_json(path, dict, {}).get("features") or []
    try:
        for job in jobs:
            kind, name, file = job["kind"], job["name"], folder / job["done"][0]
            if kind == "type_features" and file.is_file():
                collection, task_type = name.rsplit("/", 1)
                files.setdefault(collection, {})[task_type] = file
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: 'features' is no list of jobs; run the study again: nothing is trained twice"
        ) from error
    return files
