"""What a Taskonomy study does, in order."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_taskonomy.studies.graph import Job, Stage
from lightning_taskonomy.studies.taxonomy.fine_tune import fine_tune_jobs
from lightning_taskonomy.studies.taxonomy.measurements import Measurements
from lightning_taskonomy.studies.taxonomy.novel import fixed_jobs
from lightning_taskonomy.studies.taxonomy.plan import TaxonomyPlan
from lightning_taskonomy.studies.taxonomy.tables import example_jobs
from lightning_taskonomy.studies.taxonomy.transitive import chain_jobs

if TYPE_CHECKING:
    from lightning_taskonomy.studies.taxonomy.study import TaxonomyStudy

__all__ = ["taxonomy_stages"]


def taxonomy_stages(study: "TaxonomyStudy", folder: Path) -> list[Stage]:
    """Networks and transfers under every setting, then what else was asked for.

    Args:
        study: The study.
        folder: Its folder.
    """
    plan = study.plan(folder)
    stages: list[Stage] = []

    def add(name: str, title: str, jobs: Any, *arguments: Any, expected: Mapping[str, int] | None = None) -> None:
        stages.append(Stage(name=name, title=title, jobs=partial(jobs, *arguments), expected=expected))

    for label, one in {"": plan, **{f" ({name})": one for name, one in study.others(plan).items()}}.items():
        add("networks", f"networks{label}", one.networks)
        add("transfers", f"transfers of order 1{label}", one.first_orders)
        if (expected := one.higher_order_counts())["transfer"]:
            measured = Measurements(one, study.same_images)
            add("transfers", f"transfers of higher order{label}", measured.higher_jobs, expected=expected)
    if study.novel:
        measured = Measurements(plan, study.same_images, novel=True)  # without its own network, other sources lead
        expected = plan.higher_order_counts()  # at most: many are those of the study itself
        add("transfers", "novel tasks: transfers of higher order", measured.higher_jobs, expected=expected)
        if (fixed := study.fixed(plan)) is not None:
            add("transfers", "ImageNet features", fixed_jobs, plan, fixed)
    for size in study.chain_sizes if study.transitive else ():
        add("transfers", f"chains ({size or 'all'} images)", chain_jobs, plan, study.transitive, size)
    for one_set in study.fine_tune or []:
        add("transfers", f"fine-tuning on {one_set.title}", fine_tune_jobs, plan, one_set)
    if dense := [name for name in plan.targets if plan.tasks[name].is_dense] if study.examples else []:
        add("examples", "examples", _examples, study, plan, expected=Counter(examples=len(dense)))
    return stages


def _examples(study: "TaxonomyStudy", plan: TaxonomyPlan) -> list[Job]:
    """Pictures of the best transfers, known once all are measured."""
    table, *_ = Measurements(plan, study.same_images).table()
    return example_jobs(plan, table, study.examples)
