"""The study of transfer chains: which source helps which target (Mensink et al., TPAMI 2021)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.influence.checks import check_networks
from lightning_taskonomy.studies.influence.encoders import feature_jobs, task_type_jobs
from lightning_taskonomy.studies.influence.plan import InfluencePlan
from lightning_taskonomy.studies.influence.settings import InfluenceSettings
from lightning_taskonomy.studies.influence.tables import influence_tables

__all__ = ["InfluenceStudy"]


@dataclass(frozen=True)
class InfluenceStudy(InfluenceSettings, Study):
    """Which source helps which target, across image domains and task types?

    All chains first link -> source -> target are trained: each source once, each target from every source, from the
    first link alone and from scratch. What a source is worth is the gain over the first link alone, relative to it
    (Eq. 2), and it is compared with how far the images of source and target are apart (Eq. 1).

    Args:
        seeds: Further seeds: all targets again, at the learning rates selected under the first.
        features: Images of a data set by which it is compared with others (section 3.2: 1,000).
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    seeds: list[int] | None = None
    features: int = 1000
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.influence.InfluenceReport"
    tables: ClassVar[Mapping[str, str]] = {
        "gains": "gains.csv", "distances": "distances.csv", "chains": "chains.csv", "factors": "factors.csv",
        "sources": "sources.csv",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.all_seeds)) < len(self.all_seeds):
            raise InputError(f"seeds {self.all_seeds} repeat a seed; 'seeds' come in addition to 'seed'")
        if self.features < 2:
            raise InputError(f"features is {self.features}, must be at least 2 images")
        check_networks(self.plan(Path(".")))

    @property
    def all_seeds(self) -> list[int]:
        """The first seed, by which learning rates are selected, and the further ones."""
        return [self.seed, *(self.seeds or [])]

    def plan(self, folder: Path) -> InfluencePlan:
        """The runs under the first seed."""
        settings = InfluenceSettings(**{one.name: getattr(self, one.name) for one in fields(InfluenceSettings)})
        return InfluencePlan(settings, folder, self.checkpoint_seconds)

    def plans(self, folder: Path) -> list[InfluencePlan]:
        """The runs under each seed."""
        plan = self.plan(folder)
        return [plan, *(plan.seeded(seed) for seed in self.seeds or [])]

    def stages(self, folder: Path) -> Sequence[Stage]:
        """Link after link, then further seeds, the test, and features; see the base class."""
        plan, *others = self.plans(folder)

        def seeded() -> list[Job]:
            return [job for one in others for job in one.chain_jobs()]

        def tests() -> list[Job]:
            return [job for one in (plan, *others) for job in one.test_jobs()]

        rates = [len(plan.tasks[chain.target].training.rates) for chain in plan.chains()]
        several = Stage(name="chains", title="further seeds", jobs=seeded, expected={"chain": len(rates) * len(others)})
        return [
            Stage(name="data", jobs=plan.prepared),
            Stage(name="first", jobs=plan.first_jobs),
            Stage(name="sources", jobs=plan.source_jobs, expected={"source": len(plan.source_jobs())}),
            Stage(name="chains", jobs=plan.chain_jobs, expected={"chain": sum(rates)}),
            *([several] if others else []),
            Stage(name="test", jobs=tests, expected={"test": len(rates) * len(self.all_seeds)}),
            Stage(name="features", jobs=lambda: [*feature_jobs(plan, self.features), *task_type_jobs(plan)]),
        ]

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Chains, sources, gains and distances; see the base class."""
        return influence_tables(self.plans(folder), self.features)

    def probes(self, folder: Path) -> dict[str, Probe]:
        """A few steps of each kind of link and task type, timed; see the base class."""
        from lightning_taskonomy.studies.influence.estimate import probes

        return probes(self.plan(folder))
