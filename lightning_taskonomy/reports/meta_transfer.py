"""The report of a Task Meta-Transfer study: tables as the paper's 1 to 3, who wins where, figures 3 to 5."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.comparison import Comparison, Measured, Wins, read_comparison
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.words import join, percent, readable

__all__ = ["write_meta_transfer_report"]

_NAMES = {
    "primary_only": "Primary Only", "transfer": "Transfer Learning", "mtl": "MTL", "kendall": "Kendall et al.",
    "du": "Du et al.", "lin": "Lin et al.", "pcgrad": "PCGrad", "cagrad": "CAGrad", "mgda": "MGDA",
    "nash_mtl": "Nash-MTL", "imtl_g": "IMTL-G", "aligned_mtl": "Aligned-MTL", "tmt": "TMT", "oracle": "Oracle",
}  # fmt: skip
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


def write_meta_transfer_report(folder: Path) -> Path:
    """Writes ``report/index.html`` with its PNG and CSV files, from the files in a study's folder alone.

    Args:
        folder: The folder of the study.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: A file is missing or damaged.
    """
    found = read_comparison(folder)
    seeds = len({run.seed for run in found.runs})
    page = Page(
        folder / "report",
        "Does Task Meta-Transfer help?",
        f"{len(found.cases)} cases, {len(found.methods)} methods, {seeds} seed{'s' if seeds > 1 else ''}.",
    )
    page.section("Answer")
    page.answer(_answer(found, seeds))
    page.section("Test results")
    single = [case for case in found.cases if "+" not in case[2]]
    several = [case for case in found.cases if "+" in case[2]]
    note = "▲ best and △ second best of all methods but the oracle. "
    note += "± half of the 95 % t interval over seeds." if seeds > 1 else "One seed: no interval is known."
    for name, cases in (("one_auxiliary", single), ("several_auxiliaries", several)):
        if cases:
            _results(page, name, found, cases, note)
    _reductions(page, found)
    for study in _STUDIES:
        _study(page, found, study)
    page.section("What was chosen on validation")
    with (folder / "selection.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    page.text(
        "Settings that were a grid were chosen by the primary task's metric on the validation images of the first "
        "seed. Only what was chosen was ever tested."
    )
    with page.details("All candidates"):
        page.table("selection", header, rows)
    _failures(page, folder)
    return page.write()


def _answer(found: Comparison, seeds: int) -> list[str]:
    if found.subject is None:
        return ["Task Meta-Transfer is not among the methods of this study."]
    wins = found.wins()
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
    missing = sum(found.cell(*case, method) is None for case in found.cases for method in found.methods)
    if missing:
        lines.append(f"{missing} of {len(found.cases) * len(found.methods)} cells have no finished run: not compared.")
    lines += _beaten(wins)
    gains = [value for cell in found.cells if cell.method == found.subject for value in cell.reductions]
    if gains:
        gain = sum(gains) / len(gains)
        does, to = ("removes", "of") if gain >= 0 else ("adds", "to")
        lines.append(f"On average it {does} {percent(abs(gain))} {to} the error of Primary Only.")
    return lines


def _beaten(wins: Wins) -> list[str]:
    """Where it is not the best, and who is."""
    return [
        f"Not the best: {_case(own)} ({_value(own)}); better: "
        + join([f"{_name(cell.method)} ({_value(cell)})" for cell in ahead])
        + "."
        for own, ahead in wins.beaten
    ]


def _case(cell: Measured, network: bool = True) -> str:
    text = readable(cell.primary) + (f" ← {_tasks(cell.auxiliary)}" if cell.auxiliary else "")
    return f"{text}, {cell.network}" if network else text


def _tasks(names: str) -> str:
    return " + ".join(readable(name) for name in names.split("+"))


def _name(method: str) -> str:
    return _NAMES.get(method, readable(method))


def _unit(metric: str, higher: bool) -> tuple[float, str]:
    factor, name = _UNITS.get(metric, (1.0, readable(metric)))
    return factor, f"{name} {'↑' if higher else '↓'}"


def _value(cell: Measured, mark: int | None = None) -> str:
    """Mean, a mark for the two best, and half of the interval; a narrow cell breaks before the latter only."""
    factor = _unit(cell.runs[0].metric, True)[0]
    text = f"{factor * cell.mean:.2f}" + {1: "▲", 2: "△"}.get(mark or 0, "")
    return text if cell.spread is None else f"{text} ±{factor * cell.spread:.2f}"


def _shown(found: Comparison, place: Place, method: str) -> str:
    cell = found.cell(*place, method)
    if cell is None:
        return "–"
    count, all_seeds = len(cell.runs), len({run.seed for run in found.runs})
    return _value(cell, found.rank(*place, method)) + (f" ({count} of {all_seeds} seeds)" if count < all_seeds else "")


def _measure(found: Comparison, place: Place) -> str:
    """The metric of a case."""
    run = next((run for run in found.runs if (run.network, run.primary) == place[:2]), None)
    return "" if run is None else _unit(run.metric, run.higher)[1]


def _results(page: Page, name: str, found: Comparison, cases: Sequence[Place], note: str) -> None:
    """The table, or the tables, of some cases."""
    if len(cases) <= _CASES:
        _beside(page, name, found, cases, note)
    elif len(found.methods) <= _METHODS:
        _below(page, name, found, cases, note)
    else:
        networks = list(dict.fromkeys(network for network, _, _ in cases))
        for number, network in enumerate(networks, 1):
            own = [place for place in cases if place[0] == network]
            _beside(page, name if len(networks) == 1 else f"{name}_{number}", found, own, note)


def _below(page: Page, name: str, found: Comparison, cases: Sequence[Place], note: str) -> None:
    """A row per case, as in Table 1; what serves all cases of a primary task stands once."""
    rows: list[list[Cell]] = []
    told: set[tuple[str, str, str]] = set()
    for place in cases:
        row: list[Cell] = [place[0], f"{readable(place[1])} ({_measure(found, place)})", _tasks(place[2])]
        for method in found.methods:
            cell = found.cell(*place, method)
            shared = cell is not None and not cell.auxiliary
            row.append("″" if shared and (*place[:2], method) in told else _shown(found, place, method))
            told |= {(*place[:2], method)} if shared else set()
        rows.append(row)
    header = ["network", "primary", "auxiliary", *map(_name, found.methods)]
    page.table(name, header, rows, caption=f"{note} ″: one run serves all cases of a primary task.")


def _beside(page: Page, name: str, found: Comparison, cases: Sequence[Place], note: str) -> None:
    """A column per case, as in Tables 2 and 3."""
    header = ["method", *(f"{readable(p)} ← {_tasks(a)}, {n} ({_measure(found, (n, p, a))})" for n, p, a in cases)]
    rows = [[_name(method), *(_shown(found, place, method) for place in cases)] for method in found.methods]
    page.table(name, header, rows, caption=note)


def _reductions(page: Page, found: Comparison) -> None:
    """Relative-error reduction against Primary Only, of every method and case."""
    groups: dict[str, dict[str, list[float]]] = {}
    rows: list[list[Cell]] = []
    for place in found.cases:
        for method in found.methods:
            cell = found.cell(*place, method)
            if cell is None:
                continue
            gains = cell.reductions
            rows.append(
                [
                    *place, _name(method), cell.runs[0].settings, len(cell.runs), cell.mean, cell.spread,
                    sum(gains) / len(gains) if gains else None, found.rank(*place, method),
                ]
            )  # fmt: skip
            if gains and method != "primary_only":
                label = f"{readable(place[1])} ← {_tasks(place[2])}\n{place[0]}"
                groups.setdefault(label, {})[_name(method)] = gains
    if groups:
        page.section("Against Primary Only")
        page.figure(
            figures.error_reductions(groups, _name("tmt")),
            "reductions",
            alt="Relative-error reduction against Primary Only: " + "; ".join(
                f"{' '.join(case.split())}: " + ", ".join(f"{m} {percent(sum(v) / len(v))}" for m, v in own.items())
                for case, own in groups.items()
            ),
            caption="The share of the error of Primary Only that a method removes; the error of mIoU is 1 - mIoU. "
            "A mark is the mean over seeds, a line spans them.",
        )  # fmt: skip
    header = [
        "network",
        "primary",
        "auxiliary",
        "method",
        "settings",
        "seeds",
        "mean",
        "half interval",
        "reduction",
        "rank",
    ]
    with page.details("Every cell in the metric's own units"):
        page.table("cells", header, rows)


def _study(page: Page, found: Comparison, study: str) -> None:
    """Figure 3, 5 or 4, if it was measured."""
    title, axis, figure = _STUDIES[study]
    measured = found.varied(study)
    if not measured:
        return
    page.section(title)
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


def _failures(page: Page, folder: Path) -> None:
    """Runs that failed in the last call; a cell without any finished run is a dash."""
    if not (folder / "failures.json").is_file():
        return
    failures = json.loads((folder / "failures.json").read_text(encoding="utf-8"))
    if failures:
        page.section("Failed runs")
        page.table("failures", ["run", "error"], [[entry["name"], entry["error"]] for entry in failures])
