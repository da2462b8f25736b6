"""The Taskonomy study: which tasks help which, and what to train under a budget (CVPR 2018, section 3)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.files import read_csv
from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.base import Study, Table
from lightning_taskonomy.studies.estimate import Probe
from lightning_taskonomy.studies.graph import Stage
from lightning_taskonomy.studies.runs import RunSpec
from lightning_taskonomy.studies.specs import BackboneSpec
from lightning_taskonomy.studies.taxonomy.fine_tune import FineTune, check_fine_tune
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.settings import TaxonomySettings, Variant
from lightning_taskonomy.studies.taxonomy.stages import taxonomy_stages
from lightning_taskonomy.studies.taxonomy.tables import taxonomy_tables

__all__ = ["TaxonomyStudy"]


@dataclass(frozen=True)
class TaxonomyStudy(TaxonomySettings, Study):
    """Task-specific networks, transfers of growing order, affinities, taxonomies per budget, a report.

    Args:
        budgets: Supervision budgets to solve for; 1 to the number of tasks where not given.
        label_costs: What the labels of a source cost, by task; 1 where not given.
        importance: The weight of a target, by task; 1 where not given.
        same_images: Measure gain and quality on the images of the affinity, as the paper does.
        seeds: Further seeds: the whole study again, for the spread.
        variants: Other settings by name (``{wide: {transfer_width: 64}}``): measured too, for the stability.
        controls: Pairs (source, target) known to be related: the positive control.
        random_taxonomies: How many random taxonomies each one is compared with.
        examples: Test images shown in the report.
        novel: Also solve each target as if it were new, all-for-one (section 4.2).
        imagenet: A timm backbone with pretrained weights whose fixed features novel tasks are compared with.
        transitive: Chains (source, first, second) compared with the direct transfer (section 3.2).
        transitive_sizes: Transfer images of the low- and the high-data setting of chains.
        fine_tune: Other data sets on which the task-specific networks are fine-tuned (section 5.1).
        checkpoint_seconds: The shortest time between two checkpoints of a run.
    """

    budgets: list[int] | None = None
    label_costs: dict[str, float] | None = None
    importance: dict[str, float] | None = None
    same_images: bool = False
    seeds: list[int] | None = None
    variants: dict[str, Variant] | None = None
    controls: list[tuple[str, str]] | None = None
    random_taxonomies: int = 1000
    examples: int = 4
    novel: bool = False
    imagenet: BackboneSpec | None = None
    transitive: list[tuple[str, str, str]] | None = None
    transitive_sizes: list[int] | None = None
    fine_tune: list[FineTune] | None = None
    checkpoint_seconds: float = 60.0

    report: ClassVar[str] = "lightning_taskonomy.reports.taxonomy.TaxonomyReport"
    tables: ClassVar[Mapping[str, str]] = {"transfers": "affinity.csv"}

    def __post_init__(self) -> None:
        super().__post_init__()
        described: Any = self.fine_tune or []  # a recipe gives plain data
        built = [FineTune(**one) if isinstance(one, dict) else one for one in described]
        object.__setattr__(self, "fine_tune", built)
        plan = self.plan(Path("."))
        named: dict[str, Sequence[Sequence[str]]] = {
            "controls": self.controls or [],
            "transitive": self.transitive or [],
        }
        for option, groups in named.items():
            for name in (name for group in groups for name in group):
                if name not in plan.tasks:
                    raise InputError(
                        f"{option} name {name!r}, which is not a task of this study{hint(name, plan.tasks)}"
                    )
        for budget in self.budgets or []:
            if budget < 1:
                raise InputError(f"budget {budget}: no taxonomy meets it; give at least 1")
        _ = self.others(plan)
        check_fine_tune(plan.targets, built)

    def plan(self, folder: Path) -> TaxonomyPlan:
        """The runs of the study's own settings."""
        settings = TaxonomySettings(**{one.name: getattr(self, one.name) for one in fields(TaxonomySettings)})
        return TaxonomyPlan(settings, folder, self.checkpoint_seconds)

    def seeded(self, plan: TaxonomyPlan) -> dict[str, TaxonomyPlan]:
        """The plan under each further seed."""
        return {f"seed {seed}": plan.but(seed=seed) for seed in self.seeds or []}

    def others(self, plan: TaxonomyPlan) -> dict[str, TaxonomyPlan]:
        """The plan under further seeds and other settings."""
        return self.seeded(plan) | {name: plan.but(**changes) for name, changes in (self.variants or {}).items()}

    def fixed(self, plan: TaxonomyPlan) -> RunSpec | None:
        """A network of fixed ImageNet features, never trained here."""
        return None if self.imagenet is None else plan.but(backbone=self.imagenet).untrained("imagenet")

    def stages(self, folder: Path) -> list[Stage]:
        """Networks and transfers under every setting, then what else was asked for; see the base class."""
        return taxonomy_stages(self, folder)

    def analyse(self, folder: Path) -> Iterator[tuple[str, Table | Any]]:
        """Affinities, taxonomies of every budget, and what else was asked for; see the base class."""
        return taxonomy_tables(self, folder)

    @property
    def chain_sizes(self) -> Sequence[int | None]:
        """Transfer images of the settings that chains are measured at."""
        return self.transitive_sizes or [self.transfer_size]

    def results(self, folder: Path) -> Results:
        """Objective, gain and quality of every taxonomy, and the tables; see the base class."""
        names = ("affinity", "novel", "transitive", "fine_tune", "stability", "spread")
        files = {name: folder / f"{name}.csv" for name in names}
        results = Results(tables={name: read_csv(file) for name, file in files.items() if file.is_file()})
        solved = folder / "solutions.json"
        if solved.is_file():
            results.artifacts["solutions"] = solved
            for entry in json.loads(solved.read_text()):
                prefix = f"order_{entry['max_order']}/budget_{entry['budget']:g}"
                for name in ("objective", "mean_gain", "mean_quality"):
                    if entry[name] is not None:
                        results.scalars[f"{prefix}/{name}"] = entry[name]
        return results

    def probes(self, folder: Path) -> dict[str, Probe]:
        """A few steps of each kind of network, timed; see the base class."""
        from lightning_taskonomy.studies.taxonomy.estimate import probes

        return probes(self.plan(folder))
