"""Pictures of what the chosen networks predict, beside those of networks that nobody had to search for."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_taskonomy.affinity.groupings import serving
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.files import write_bytes
from lightning_taskonomy.studies.graph import Job
from lightning_taskonomy.studies.grouping.measurements import groupings_table, measure
from lightning_taskonomy.studies.grouping.plan import Candidate, GroupingPlan
from lightning_taskonomy.studies.grouping.selection import trained
from lightning_taskonomy.studies.runs import content_hash

if TYPE_CHECKING:
    from lightning_taskonomy.studies.grouping.study import GroupingStudy

__all__ = ["example_jobs", "write_examples"]

_HEADLINE = 2.0
"""Pictures are of the choice under the budget nearest to so many full-size networks."""


def example_jobs(study: "GroupingStudy", plan: GroupingPlan) -> Mapping[tuple[float, str], Job]:
    """A job per task with a value per pixel, by budget and task: the chosen network, one alone, one of all tasks.

    Args:
        study: The study.
        plan: The runs under the first seed.
    """
    if study.examples < 1 or not (plan.statistics.is_done and plan.encoders.is_done):
        return {}
    measured, prices, full = measure(plan, trained(study, plan)[0]), study.prices(plan), Candidate(tuple(plan.tasks))
    try:
        table = prices.table(groupings_table(list(plan.tasks), measured, "validation"))
        solutions = study.solver.sweep(table, study.all_budgets, skip_infeasible=True)
    except InputError:  # too little is trained for a choice
        return {}
    headline = _HEADLINE * prices.of([full])[full]
    solution = min(solutions, key=lambda one: abs(one.budget - headline))
    places, jobs = serving(solution.networks), {}
    for name, task in plan.tasks.items():
        if not task.is_dense:
            continue
        kept = solution.networks[places[name]]
        networks = {
            "grouping": Candidate(kept.tasks, kept.size),
            "alone": Candidate((name,), study.single_size),
            "together": full,
        }
        runs = {column: plan.run(network) for column, network in networks.items()}
        folders = {column: str(run.folder) for column, run in runs.items() if run.is_done}
        file = plan.root / "pictures" / f"{name}-{content_hash([folders, study.examples], plan.root)}.npz"
        jobs[solution.budget, name] = Job(
            kind="examples",
            name=name,
            function="lightning_taskonomy.studies.jobs.examples",
            arguments={
                "task": plan.references[name], "runs": folders, "count": study.examples, "file": str(file),
            },
            done=(file,),
        )  # fmt: skip
    return jobs


def write_examples(folder: Path, jobs: Mapping[tuple[float, str], Job]) -> None:
    """Copies the pictures to where reports look for them: ``examples/<budget>/<task>.npz``.

    Args:
        folder: The study's folder.
        jobs: By budget and task.
    """
    for (budget, name), job in jobs.items():
        if job.is_done:
            write_bytes(folder / "examples" / f"{budget:g}" / f"{name}.npz", job.done[0].read_bytes())
