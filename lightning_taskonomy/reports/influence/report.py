"""The report of a study of transfer chains: which source to take for which target, and what decides that."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports.base import Report, Section
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.answer import answer
from lightning_taskonomy.reports.influence.distance import distances
from lightning_taskonomy.reports.influence.files import InfluenceResults, read_influence
from lightning_taskonomy.reports.influence.gains import gains
from lightning_taskonomy.reports.influence.planes import planes
from lightning_taskonomy.reports.influence.shares import observations, quick, shares_by_factors, shares_by_task_types
from lightning_taskonomy.reports.influence.variant import other_protocol
from lightning_taskonomy.reports.influence.words import plural
from lightning_taskonomy.reports.words import readable

__all__ = ["InfluenceReport"]

Writer = Callable[[Page, InfluenceResults], None]


class InfluenceReport(Report):
    """Which source helps which target, and how image domain, task type and size decide it.

    Everything is computed from ``chains.csv``, ``factors.csv`` and ``distances.csv``; what a study did not measure
    leaves a sentence in its place.
    """

    title = "Which source for which target?"
    _variant: tuple[InfluenceResults, str] | None = None

    @cached_property
    def results(self) -> InfluenceResults:
        """What the study left."""
        return read_influence(self.folder, self.manifest)

    def beside(self, variant: Path) -> "InfluenceReport":
        """Compares the chains with those of another study, under another protocol (appendix B)."""
        manifest = Manifest.read(variant)
        if manifest.report != self.manifest.report:
            raise InputError(f"variant {variant} holds {manifest.name}, this one {self.manifest.name}; give another")
        self._variant = read_influence(variant, manifest), Path(variant).resolve().name
        return self

    @property
    def subtitle(self) -> str:
        """How much was measured."""
        table = self.results.chains
        counts = (len(table.targets), "target"), (len(table.sources), "source"), (self.results.seeds, "seed")
        trained = len(table.chains) + len(self.results.waiting)
        return ", ".join(plural(*count) for count in counts) + f"; {plural(trained, 'tested network')}."

    def sections(self) -> Iterator[Section]:
        """The answer, the paper's tables and figures, and what every report ends with."""
        sections: list[tuple[str, Writer]] = [("Answer", answer), ("Gains", gains)]
        if self.results.gains:
            sections += [
                ("Within and across domains and task types", shares_by_factors),
                ("From task type to task type", shares_by_task_types),
                ("Scratch, several sources, sizes", observations),
                ("Is the quick test enough?", quick),
            ]
        if self._variant is not None:
            variant, name = self._variant
            sections.append(("Under another protocol", partial(other_protocol, variant=variant, name=name)))
        sections += [("Domain distance", distances), ("Images in the plane", planes), ("Sources", sources)]
        for heading, write in sections:
            yield heading, partial(self._section, write=write)
        yield from self.appendix()

    def _section(self, page: Page, write: Writer) -> None:
        write(page, self.results)


def sources(page: Page, results: InfluenceResults) -> None:
    """What each source is, and how it was trained."""
    factors = results.factors
    rows: list[list[Cell]] = []
    for name in results.ordered(run.source for run in results.runs if run.source in factors):
        one = factors[name]
        rows += [
            [
                readable(name), readable(one.task_type), " + ".join(map(readable, one.domains)), one.size,
                "limited" if run.setting == "small_source" else "all", f"{run.rate:g}", readable(run.metric),
                run.validation, run.seconds,
            ]
            for run in results.runs if run.source == name
        ]  # fmt: skip
    if not rows:
        page.text("Not here yet: no source is trained.")
        return
    share = results.settings.get("validation_share")
    header = ["source", "task type", "domain", "training images", "of which used", "learning rate", "by", "validation"]
    page.table(
        "source-runs", [*header, "seconds"], rows,
        caption="Each source at the learning rate that was best on its validation images"
        + (f", {100 * share:.3g} % of all, on which it is not trained" if share else "")
        + ". Models of several sources go by their summed loss. A limited source serves the chains of small sources.",
    )  # fmt: skip
