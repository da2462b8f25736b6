"""The report of a grouping study: one page that says whether grouping helps, and shows why."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property, partial

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.base import Report, Section
from lightning_taskonomy.reports.examples import example_pictures
from lightning_taskonomy.reports.grouping import costs, decisions, relations, training
from lightning_taskonomy.reports.grouping.comparison import CHOICES, method_name
from lightning_taskonomy.reports.grouping.files import FILES, GroupingResults, read_grouping_study
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.words import join, readable
from lightning_taskonomy.tasks import Task, resolve

__all__ = ["GroupingReport"]

Writer = Callable[[Page, GroupingResults], None]

_HEADLINE = 2.0
"""Predictions are shown for the budget nearest to this; others are folded away."""


class GroupingReport(Report):
    """Whether grouping helps and at which budget, what tasks do to each other, and what less training loses.

    See :mod:`lightning_taskonomy.reports.grouping.files` for the files that it reads. What is absent leaves a sentence
    in its place.
    """

    title = "Which tasks to learn together"

    @cached_property
    def results(self) -> GroupingResults:
        """What the study left."""
        return read_grouping_study(self.folder, self.manifest)

    @property
    def subtitle(self) -> str:
        """How much was measured."""
        results = self.results
        candidates = {(n.tasks, n.size) for n in results.networks if n.kind in ("candidate", "early")}
        counts = {
            "task": len(results.tasks),
            "candidate network": len(candidates),
            "seed": len(results.seeds),
            "inference budget": len({c.budget for c in results.choices if c.method in CHOICES}),
        }
        parts = [f"{count} {name}" + "s" * (count != 1) for name, count in counts.items() if count]
        return f"A grouping study of {join(parts)}." if parts else ""

    def sections(self) -> Iterator[Section]:
        """Decisions, then measurements, then what every report ends with."""
        single = float(self.manifest.settings.get("single_size") or 0.5)
        sections: tuple[tuple[str, Writer, str], ...] = (
            ("Answer", decisions.answer, "choices.csv"),
            ("Loss against budget", decisions.losses_by_budget, "choices.csv"),
            ("The networks", decisions.groups, "choices.csv"),
            ("What tasks do to each other", partial(relations.task_relations, single=single), ""),
            ("More tasks at equal cost", relations.at_equal_cost, ""),
            ("Affinities", relations.affinities, "affinities.csv"),
            ("Less training", training.approximations, ""),
            ("Cost of inference", costs.inference, "inference.csv"),
            ("Predictions", self.predictions, "examples"),
            ("Trainings", self.trainings, ""),
        )
        for heading, write, needs in sections:
            yield heading, partial(self._section, write=write, needs=needs)
        yield from self.appendix()

    def _section(self, page: Page, write: Writer, needs: str) -> None:
        if needs in self.results.absent:
            page.text(f"Not here: the study left no {needs} ({FILES[needs]}).")
        else:
            write(page, self.results)

    def trainings(self, page: Page, results: GroupingResults) -> None:
        """How the networks were trained."""
        seed = int(self.manifest.settings.get("seed") or 0)
        training.trainings(page, results, self.folder, self._runs, seed)

    def predictions(self, page: Page, results: GroupingResults) -> None:
        """What the chosen networks see beside others, for each budget that has pictures (Fig. 6)."""
        try:
            tasks: dict[str, Task] = resolve(self.manifest.settings.get("tasks") or list(results.tasks))
        except (InputError, ImportError) as reason:
            page.text(f"Not here: what the tasks of this study are is not known ({reason}).")
            return
        drawn = {
            budget: {name: example_pictures(tasks[name], columns) for name, columns in examples.items()}
            for budget, examples in results.examples.items()
            if tasks.keys() >= examples.keys()
        }
        if not drawn:
            page.text("Not here: the folder examples has no picture of a task of this study.")
            return
        first = min(drawn, key=_distance)
        for budget in sorted(drawn, key=lambda budget: budget != first):
            columns = dict.fromkeys(column for shown in drawn[budget].values() for column in shown)
            titles = {"input": "input", "target": "truth"} | {
                column: method_name(column) for column in columns if column not in ("input", "target")
            }
            with nullcontext() if budget == first else page.details(f"Budget {budget}"):
                page.text(f"Budget {budget}.")
                page.figure(
                    figures.qualitative(drawn[budget], examples=1, columns=titles),
                    "predictions-" + budget.replace(".", "_"),
                    alt=f"Truth and predictions of test images for {join([readable(task) for task in drawn[budget]])}.",
                    caption="Test images. Grey stripes: no label.",
                    vector=False,
                )


def _distance(budget: str) -> float:
    try:
        return abs(float(budget) - _HEADLINE)
    except ValueError:
        return float("inf")
