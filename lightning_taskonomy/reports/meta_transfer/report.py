"""The report of a Task Meta-Transfer study: tables as the paper's 1 to 3, who wins where, figures 3 to 5."""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from statistics import fmean

from lightning_taskonomy.files import read_csv
from lightning_taskonomy.reports.base import Report, Section
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer import figures
from lightning_taskonomy.reports.meta_transfer.comparison import (
    FLOOR,
    SUBJECT,
    CaseResult,
    Comparison,
    Wins,
    read_comparison,
)
from lightning_taskonomy.reports.words import WEIGHTINGS, join, percent, readable

__all__ = ["MetaTransferReport"]

_NAMES = {
    "primary_only": "Primary Only",
    "transfer": "Transfer Learning",
    "tmt": "TMT",
    "oracle": "Oracle",
} | WEIGHTINGS
_UNITS = {"miou": (100.0, "mIoU %"), "mean_angle": (1.0, "mean angle °"), "mae": (100.0, "10² × absolute error")}
"""How the paper prints a metric: factor and name."""
_CASES, _METHODS = 4, 8
"""Up to so many cases stand side by side, as in Tables 2 and 3. More stand below each other, as in Table 1, unless
there are more methods than the paper's: then a table has the cases of one network side by side."""
_STUDIES = {
    "rank": ("Rank of the projection", "rank r", "Figure 3"),
    "split": ("Where the network splits", "split at block", "Figure 5"),
    "amount": ("Number of parallel labels", "images with primary labels", "Figure 4"),
}

Place = tuple[str, str, str]


class MetaTransferReport(Report):
    """Where Task Meta-Transfer wins and where not: every method on every case, and what was studied besides."""

    title = "Does Task Meta-Transfer help?"

    @cached_property
    def comparison(self) -> Comparison:
        """What the study measured."""
        for kind in ("results", "selection"):
            self.manifest.table(kind, self.folder)
        return read_comparison(self.folder)

    @cached_property
    def seeds(self) -> int:
        """How many seeds were tested."""
        return len({run.seed for run in self.comparison.runs})

    @property
    def subtitle(self) -> str:
        """How much was compared."""
        cases, methods = len(self.comparison.cases), len(self.comparison.methods)
        return f"{cases} cases, {methods} methods, {self.seeds} seed{'s' if self.seeds > 1 else ''}."

    def sections(self) -> Iterator[Section]:
        """The answer, the paper's tables and figures, and what every report ends with."""
        comparison = self.comparison
        yield "Answer", lambda page: page.answer(_answer(comparison, self.seeds))
        yield "Test results", self.test_results
        if any(cell.reductions and cell.method != FLOOR for cell in comparison.cells):
            yield "Against Primary Only", partial(_reductions, comparison=comparison)
        for study, (heading, _, _) in _STUDIES.items():
            if comparison.varied(study):
                yield heading, partial(_study, comparison=comparison, study=study)
        yield "What was chosen on validation", self.selection
        yield from self.appendix()

    def test_results(self, page: Page) -> None:
        """Tables as the paper's 1 to 3."""
        note = "▲ best and △ second best of all methods but the oracle. "
        note += "± half of the 95 % t interval over seeds." if self.seeds > 1 else "One seed: no interval is known."
        single = [case for case in self.comparison.cases if "+" not in case[2]]
        several = [case for case in self.comparison.cases if "+" in case[2]]
        for name, cases in (("one_auxiliary", single), ("several_auxiliaries", several)):
            if cases:
                _results(page, name, self.comparison, cases, note)
        _cells(page, self.comparison)

    def selection(self, page: Page) -> None:
        """The candidates of every cell and which was taken."""
        page.text(
            "Settings that were a grid were chosen by the primary task's metric on the validation images of the first "
            "seed. Only what was chosen was ever tested."
        )
        header, rows = read_csv(self.folder / "selection.csv")
        with page.details("All candidates"):
            page.table("selection", header, rows)


def _answer(comparison: Comparison, seeds: int) -> list[str]:
    if comparison.subject is None:
        return ["Task Meta-Transfer is not among the methods of this study."]
    wins = comparison.wins()
    lines = [
        f"TMT is the best in {wins.best} of {wins.cases} cases and second best in {wins.second}, among all methods "
        "but the oracle (paper: 8 of 12, and 2)."
    ]
    if wins.clear is None:
        lines.append("With one seed no interval is known: a difference may be chance.")
    elif wins.best:
        lines.append(
            f"In {wins.clear} of these {wins.best} its lead over the next is beyond the spread of {seeds} seeds."
        )
    missing = sum(comparison.cell(*case, method) is None for case in comparison.cases for method in comparison.methods)
    if missing:
        cells = len(comparison.cases) * len(comparison.methods)
        lines.append(f"{missing} of {cells} cells have no finished run: not compared.")
    lines += _beaten(wins)
    gains = [value for cell in comparison.cells if cell.method == comparison.subject for value in cell.reductions]
    if gains:
        gain = fmean(gains)
        does, to = ("removes", "of") if gain >= 0 else ("adds", "to")
        lines.append(f"On average it {does} {percent(abs(gain))} {to} the error of Primary Only.")
    return lines


def _beaten(wins: Wins) -> list[str]:
    """Where it is not the best, and who is."""
    return [
        f"Not the best: {_case(subject)} ({_value(subject)}); better: "
        + join([f"{_name(cell.method)} ({_value(cell)})" for cell in ahead])
        + "."
        for subject, ahead in wins.beaten
    ]


def _case(cell: CaseResult, network: bool = True) -> str:
    text = readable(cell.primary) + (f" ← {_tasks(cell.auxiliary)}" if cell.auxiliary else "")
    return f"{text}, {cell.network}" if network else text


def _tasks(names: str) -> str:
    return " + ".join(readable(name) for name in names.split("+"))


def _name(method: str) -> str:
    return _NAMES.get(method, readable(method))


def _unit(metric: str, higher: bool) -> tuple[float, str]:
    factor, name = _UNITS.get(metric, (1.0, readable(metric)))
    return factor, f"{name} {'↑' if higher else '↓'}"


def _value(cell: CaseResult, mark: int | None = None) -> str:
    """Mean, a mark for the two best, and half of the interval; a narrow cell breaks before the latter only."""
    factor = _unit(cell.runs[0].metric, True)[0]
    text = f"{factor * cell.mean:.2f}" + {1: "▲", 2: "△"}.get(mark or 0, "")
    return text if cell.spread is None else f"{text} ±{factor * cell.spread:.2f}"


def _shown(comparison: Comparison, place: Place, method: str) -> str:
    cell = comparison.cell(*place, method)
    if cell is None:
        return "–"
    count, all_seeds = len(cell.runs), len({run.seed for run in comparison.runs})
    few = f" ({count} of {all_seeds} seeds)" if count < all_seeds else ""
    return _value(cell, comparison.rank(*place, method)) + few


def _measure(comparison: Comparison, place: Place) -> str:
    """The metric of a case."""
    run = next((run for run in comparison.runs if (run.network, run.primary) == place[:2]), None)
    return "" if run is None else _unit(run.metric, run.higher)[1]


def _results(page: Page, name: str, comparison: Comparison, cases: Sequence[Place], note: str) -> None:
    """The table, or the tables, of some cases."""
    if len(cases) <= _CASES:
        _beside(page, name, comparison, cases, note)
    elif len(comparison.methods) <= _METHODS:
        _below(page, name, comparison, cases, note)
    else:
        networks = list(dict.fromkeys(network for network, _, _ in cases))
        for number, network in enumerate(networks, 1):
            of_network = [place for place in cases if place[0] == network]
            _beside(page, name if len(networks) == 1 else f"{name}_{number}", comparison, of_network, note)


def _below(page: Page, name: str, comparison: Comparison, cases: Sequence[Place], note: str) -> None:
    """A row per case, as in Table 1; what serves all cases of a primary task stands once."""
    rows: list[list[Cell]] = []
    shown: set[tuple[str, str, str]] = set()
    for place in cases:
        row: list[Cell] = [place[0], f"{readable(place[1])} ({_measure(comparison, place)})", _tasks(place[2])]
        for method in comparison.methods:
            cell = comparison.cell(*place, method)
            shared = cell is not None and not cell.auxiliary
            row.append("″" if shared and (*place[:2], method) in shown else _shown(comparison, place, method))
            shown |= {(*place[:2], method)} if shared else set()
        rows.append(row)
    header = ["network", "primary", "auxiliary", *map(_name, comparison.methods)]
    page.table(name, header, rows, caption=f"{note} ″: one run serves all cases of a primary task.")


def _beside(page: Page, name: str, comparison: Comparison, cases: Sequence[Place], note: str) -> None:
    """A column per case, as in Tables 2 and 3."""
    header = ["method", *(f"{readable(p)} ← {_tasks(a)}, {n} ({_measure(comparison, (n, p, a))})" for n, p, a in cases)]
    rows = [[_name(method), *(_shown(comparison, place, method) for place in cases)] for method in comparison.methods]
    page.table(name, header, rows, caption=note)


def _cells(page: Page, comparison: Comparison) -> None:
    """Every cell as plain numbers."""
    rows: list[list[Cell]] = []
    for place in comparison.cases:
        for cell in (comparison.cell(*place, method) for method in comparison.methods):
            if cell is not None:
                reductions = cell.reductions
                rows.append(
                    [
                        *place, _name(cell.method), cell.runs[0].settings, len(cell.runs), cell.mean, cell.spread,
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
        label = f"{readable(place[1])} ← {_tasks(place[2])}\n{place[0]}"
        for cell in (comparison.cell(*place, method) for method in comparison.methods if method != FLOOR):
            if cell is not None and cell.reductions:
                groups.setdefault(label, {})[_name(cell.method)] = cell.reductions
    means = (
        f"{' '.join(label.split())}: " + ", ".join(f"{method} {percent(fmean(v))}" for method, v in methods.items())
        for label, methods in groups.items()
    )
    page.figure(
        figures.error_reductions(groups, _name(SUBJECT)),
        "reductions",
        alt=f"Relative-error reduction against Primary Only: {'; '.join(means)}",
        caption="The share of the error of Primary Only that a method removes; the error of mIoU is 1 - mIoU. "
        "A mark is the mean over seeds, a line spans them.",
    )


def _study(page: Page, comparison: Comparison, study: str) -> None:
    """Figure 3, 5 or 4."""
    title, axis, figure = _STUDIES[study]
    measured = comparison.varied(study)
    panels: dict[tuple[str, str], dict[str, list[tuple[float, list[float]]]]] = {}
    rows: list[list[Cell]] = []
    for place, methods in measured.items():
        label = f"{readable(place[1])} ← {_tasks(place[2])}"
        for method, points in methods.items():
            factor, unit = _unit(points[0][1].runs[0].metric, points[0][1].runs[0].higher)
            rows += [[label, _name(method), at, factor * c.mean, None if c.spread is None else factor * c.spread]
                     for at, c in points]  # fmt: skip
            if study == "rank":
                values = [(at, [100 * value for value in cell.reductions]) for at, cell in points]
                panels.setdefault(("", "error of Primary Only removed, %"), {})[label] = values
            else:
                values = [(at, [factor * run.value for run in cell.runs]) for at, cell in points]
                panels.setdefault((label, unit), {})[_name(method)] = values
    network = next(iter(measured))[0]
    page.figure(
        figures.variation_panels(panels, axis, bars=study == "split", shares=study == "amount"),
        study,
        alt=f"{title}: the numbers are in the table below",
        caption=f"As {figure} of the paper, on {network}, with the settings chosen in the main study. A mark or bar is "
        "the mean over seeds, a line spans them.",
    )
    with page.details("The numbers"):
        page.table(f"{study}s", ["case", "method", axis, "mean", "half interval"], rows)
