"""The report of a Taskonomy study: one page that says what to train, and shows why."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial

from lightning_taskonomy.reports.base import Report, Section
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.taxonomy import decisions, measurements
from lightning_taskonomy.reports.taxonomy.files import OPTIONAL, TaxonomyResults, read_study

__all__ = ["TaxonomyReport"]

Writer = Callable[[Page, TaxonomyResults], None]


class TaxonomyReport(Report):
    """What to train under a budget, what that is worth, and the measurements behind it.

    See :mod:`lightning_taskonomy.reports.taxonomy.files` for the files that it reads. Optional ones that are absent
    leave a sentence in their place.
    """

    title = "Which tasks help which"

    @cached_property
    def results(self) -> TaxonomyResults:
        """What the study left."""
        return read_study(self.folder, self.manifest.table("transfers", self.folder))

    @property
    def subtitle(self) -> str:
        """How much was measured."""
        return (
            f"A Taskonomy study of {len(self.results.tasks)} tasks: {len(self.results.targets)} targets, "
            f"{len(self.results.table.candidates)} measured ways to solve them."
        )

    def sections(self) -> Iterator[Section]:
        """Decisions, then measurements, then what every report ends with."""
        sections: tuple[tuple[str, Writer, str], ...] = (
            ("Answer", decisions.answer, "solutions.json"),
            ("Taxonomies", decisions.taxonomies, "solutions.json"),
            ("Gain and quality", decisions.gain_quality, "solutions.json"),
            ("Labels saved", decisions.labels, "solutions.json"),
            ("Affinity", measurements.affinity, ""),
            ("Similarity of tasks", measurements.similarity, ""),
            ("Sanity", measurements.sanity, "sanity.csv"),
            ("Predictions", measurements.predictions, "examples.npz"),
            ("Positive control over seeds", measurements.control, "control.json"),
            ("Beyond the taxonomy", measurements.beyond, ""),
        )
        for heading, write, needs in sections:
            yield heading, partial(self._section, write=write, needs=needs)
        yield from self.appendix()

    def _section(self, page: Page, write: Writer, needs: str) -> None:
        if needs in self.results.absent:
            page.text(f"Not here: the study left no {needs} ({OPTIONAL[needs]}).")
        else:
            write(page, self.results)
