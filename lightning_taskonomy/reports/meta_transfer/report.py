"""The report of a Task Meta-Transfer study: tables as the paper's 1 to 3, who wins where, figures 3 to 5."""

from collections.abc import Iterator
from functools import cached_property, partial
from statistics import fmean

from lightning_taskonomy.files import read_csv
from lightning_taskonomy.reports.base import Report, Section
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer import figures
from lightning_taskonomy.reports.meta_transfer.answer import answer
from lightning_taskonomy.reports.meta_transfer.comparison import (
    CEILING,
    FLOOR,
    SUBJECT,
    Comparison,
    Place,
    read_comparison,
)
from lightning_taskonomy.reports.meta_transfer.factors import factors
from lightning_taskonomy.reports.meta_transfer.instruments import instruments, read_instruments
from lightning_taskonomy.reports.meta_transfer.leads import leads
from lightning_taskonomy.reports.meta_transfer.tables import by_number, case_tables
from lightning_taskonomy.reports.meta_transfer.words import case_name, measure, method_name, plural, value
from lightning_taskonomy.reports.words import join, percent, readable

__all__ = ["MetaTransferReport"]

_STUDIES = {
    "rank": ("Rank of the projection", "rank r", "Figure 3"),
    "split": ("Where the network splits", "split at block", "Figure 5"),
    "amount": ("Number of parallel labels", "images with primary labels", "Figure 4"),
}


class MetaTransferReport(Report):
    """Where Task Meta-Transfer wins and where not: every method on every case, and what was studied besides."""

    title = "Does Task Meta-Transfer help?"

    @cached_property
    def comparison(self) -> Comparison:
        """What the study measured."""
        for kind in ("results", "selection"):
            self.manifest.table(kind, self.folder)
        return read_comparison(self.folder)

    @property
    def subtitle(self) -> str:
        """How much was compared."""
        counts = (len(self.comparison.cases), "case"), (len(self.comparison.methods), "method")
        return ", ".join(plural(*count) for count in (*counts, (self.comparison.seeds, "seed"))) + "."

    def sections(self) -> Iterator[Section]:
        """The answer, the paper's tables and figures, and what every report ends with."""
        comparison = self.comparison
        yield "Answer", lambda page: page.answer(answer(comparison, self.manifest.settings))
        yield "Test results", partial(_test_results, comparison=comparison)
        if comparison.subject is not None and len(comparison.methods) > 1:
            yield "TMT against each method", partial(leads, comparison=comparison)
        if any(cell.reductions and cell.method != FLOOR for cell in comparison.cells):
            yield "Against Primary Only", partial(_reductions, comparison=comparison)
        order = self.manifest.settings.get("factors") or {}
        if comparison.factors(order):
            yield "One factor at a time", partial(factors, comparison=comparison, order=order)
        for study, (heading, _, _) in _STUDIES.items():
            if comparison.varied(study):
                again = bool(self.manifest.settings.get("reselect"))
                yield heading, partial(_study, comparison=comparison, study=study, again=again)
        readings = read_instruments(self.folder, comparison)
        if readings:
            yield "Is it working?", partial(instruments, readings=readings)
        yield "What was chosen on validation", self.selection
        yield from self.appendix()

    def selection(self, page: Page) -> None:
        """The candidates of every cell and which was taken."""
        page.text(
            "Settings that were a grid were chosen by the primary task's metric on the validation images of the first "
            "seed. Only what was chosen was ever tested. " + _same_trials(self.comparison)
        )
        trials = _trials(self.comparison)
        rows: list[list[Cell]] = [[method_name(method), _range(counts)] for method, counts in trials.items()]
        page.table("trials", ["method", "candidates per case"], rows, caption="Trials on validation.")
        header, candidates = read_csv(self.folder / "selection.csv")
        with page.details("All candidates"):
            page.table("selection", header, candidates)


def _trials(comparison: Comparison) -> dict[str, list[int]]:
    """The numbers of candidates of a case that occur, by method."""
    return {
        method: sorted({count for (*_, name), count in comparison.trials.items() if name == method})
        for method in comparison.methods
    }


def _range(counts: list[int]) -> str:
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _same_trials(comparison: Comparison) -> str:
    """Whether all methods had the same number of candidates; what is no rival has nothing to choose."""
    trials = {name: counts for name, counts in _trials(comparison).items() if name not in (FLOOR, CEILING)}
    if len({tuple(counts) for counts in trials.values()}) < 2:
        return ""
    numbers = join([f"{method_name(name)} {_range(counts)}" for name, counts in trials.items()])
    return f"The methods differ in the number of their trials ({numbers}): more trials favour a method."


def _test_results(page: Page, comparison: Comparison) -> None:
    """Tables as the paper's 1 to 3."""
    note = "▲ best and △ second best of all methods but the oracle. "
    note += "± half of the 95 % t interval over seeds." if comparison.seeds > 1 else "One seed: no interval is known."
    for name, cases in by_number(comparison):
        entry = partial(_shown, comparison)
        case_tables(page, name, comparison, cases, comparison.planned(cases), entry, note)
    _cells(page, comparison)


def _shown(comparison: Comparison, place: Place, method: str) -> str:
    cell = comparison.cell(*place, method)
    if cell is None:
        return "–"
    count = len(cell.runs)
    few = f" ({count} of {comparison.seeds} seeds)" if count < comparison.seeds else ""
    return value(cell, comparison.rank(*place, method)) + few


def _cells(page: Page, comparison: Comparison) -> None:
    """Every cell as plain numbers."""
    rows: list[list[Cell]] = []
    for place in comparison.cases:
        for cell in (comparison.cell(*place, method) for method in comparison.methods):
            if cell is not None:
                reductions = cell.reductions
                rows.append(
                    [
                        *place, method_name(cell.method), cell.runs[0].settings, len(cell.runs), cell.mean, cell.spread,
                        fmean(reductions) if reductions else None, comparison.rank(*place, cell.method),
                    ]
                )  # fmt: skip
    columns = "network primary auxiliary method settings seeds mean half_interval reduction rank"
    with page.details("Every cell in the metric's own units"):
        page.table("cells", [readable(name) for name in columns.split()], rows)


def _reductions(page: Page, comparison: Comparison) -> None:
    """Relative-error reduction against Primary Only, of every method and case."""
    groups: dict[str, dict[str, list[float]]] = {}
    for place in comparison.cases:
        label = f"{case_name(place, network=False)}\n{place[0]}"
        for cell in (comparison.cell(*place, method) for method in comparison.methods if method != FLOOR):
            if cell is not None and cell.reductions:
                groups.setdefault(label, {})[method_name(cell.method)] = cell.reductions
    means = (
        f"{' '.join(label.split())}: " + ", ".join(f"{method} {percent(fmean(v))}" for method, v in methods.items())
        for label, methods in groups.items()
    )
    page.figure(
        figures.error_reductions(groups, method_name(SUBJECT)),
        "reductions",
        alt=f"Relative-error reduction against Primary Only: {'; '.join(means)}",
        caption="The share of the error of Primary Only that a method removes; the error of mIoU is 1 - mIoU. "
        "A mark is the mean over seeds, a line spans them.",
    )


def _study(page: Page, comparison: Comparison, study: str, again: bool) -> None:
    """Figure 3, 5 or 4.

    Args:
        page: Where it goes.
        comparison: What the study measured.
        study: ``rank``, ``split`` or ``amount``.
        again: Whether settings were selected at each split and amount anew.
    """
    title, axis, figure = _STUDIES[study]
    measured = comparison.varied(study)
    panels: dict[tuple[str, str], dict[str, list[tuple[float, list[float]]]]] = {}
    rows: list[list[Cell]] = []
    for place, methods in measured.items():
        label = case_name(place, network=False)
        controls = comparison.controls(place) if study == "rank" else {}
        controls = {method: cell for method, cell in controls.items() if method not in methods}
        factor, name = measure(comparison, place)
        for method, points in methods.items():
            rows += [[label, method_name(method), at, factor * c.mean, None if c.spread is None else factor * c.spread]
                     for at, c in points]  # fmt: skip
        rows += [[label, method_name(method), "any", factor * c.mean, None if c.spread is None else factor * c.spread]
                 for method, c in controls.items()]  # fmt: skip
        ranks = [at for points in methods.values() for at, _ in points]
        curves = methods | {method: [(at, cell) for at in ranks] for method, cell in controls.items()}
        panels[label, name] = {
            method_name(method): [(at, [factor * run.value for run in cell.runs]) for at, cell in points]
            for method, points in curves.items()
        }
    network = next(iter(measured))[0]
    which = "k" if study == "rank" else "k and r"
    if again:
        frozen = f"{which}, where they were grids, were selected again on validation at each {study}."
    else:
        frozen = f"{which} are frozen: those chosen in the main study, not selected again."
    page.figure(
        figures.variation_panels(panels, axis, bars=study == "split", shares=study == "amount"),
        study,
        alt=f"{title}: the numbers are in the table below",
        caption=f"As {figure} of the paper, on {network}. {frozen} A mark or bar is the mean over seeds, a line spans "
        "them." + (" Methods without a rank are level, as the main study measured them." if study == "rank" else ""),
    )
    with page.details("The numbers"):
        page.table(f"{study}s", ["case", "method", axis, "mean", "half interval"], rows)
