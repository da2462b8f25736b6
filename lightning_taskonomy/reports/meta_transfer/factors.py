"""One factor at a time: what every method reaches at its labels, and where a learnt projection pays there."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer import figures
from lightning_taskonomy.reports.meta_transfer.comparison import CONTROLS, SUBJECT, CaseResult, Comparison, Place
from lightning_taskonomy.reports.meta_transfer.differences import Difference
from lightning_taskonomy.reports.meta_transfer.words import case_name, lead, measure, method_name, plural, value
from lightning_taskonomy.reports.words import join, readable

__all__ = ["factors"]

_BASE = "base setting"


@dataclass(frozen=True, kw_only=True)
class _Label:
    """A setting that was measured.

    Args:
        name: What it is called.
        study: The factor, or ``main``.
        at: Its label; empty in the main study.
    """

    name: str
    study: str
    at: str


def factors(page: Page, comparison: Comparison, order: Mapping[str, Mapping[str, object]]) -> None:
    """The section: an overview, then a table per factor.

    Args:
        page: Where it goes.
        comparison: What the study measured.
        order: Factors and labels in the order of the study's settings.
    """
    comparison = comparison.on_validation()
    labels = {name: _labels(comparison, name, ats) for name, ats in comparison.factors(order).items()}
    page.text(
        "One setting is changed at a time, all else is the base setting: that of the main study. A lead of TMT is its "
        "difference to the other method, paired by seed; a positive one says that TMT is better, whether the metric is "
        "an error or not. ± is half of the 95 % t interval over seeds. All of this was measured on validation images, "
        "so that settings may be chosen here and then measured on test images with fresh seeds."
    )
    _overview(page, comparison, labels)
    for number, (name, of_factor) in enumerate(labels.items(), 1):
        _table(page, comparison, f"factor_{number}", name, of_factor)


def _labels(comparison: Comparison, factor: str, ats: list[str]) -> list[_Label]:
    """Its labels, after the base setting where none of them is that."""
    main = {run.key: run.value for run in comparison.runs if run.study == "main"}
    labels, is_there = [], False
    for at in ats:
        runs = [run for run in comparison.runs if (run.study, run.at) == (factor, at)]
        same = all(main.get(run.key) == run.value for run in runs)  # one run serves both
        labels.append(_Label(name=f"{at} (base)" if same else at, study=factor, at=at))
        is_there |= same
    return labels if is_there else [_Label(name=_BASE, study="main", at=""), *labels]


def _places(comparison: Comparison, labels: list[_Label]) -> list[Place]:
    """The cases that the factor was studied on."""
    studies = {label.study for label in labels} - {"main"}
    measured = {run.key[:3] for run in comparison.runs if run.study in studies}
    others = sorted(place for place in measured - set(comparison.cases) if place[2])  # a label may change the cases
    return [*(place for place in comparison.cases if place in measured), *others]


def _table(page: Page, comparison: Comparison, name: str, factor: str, labels: list[_Label]) -> None:
    """Rows are labels, of one case after the other; columns what methods reach, then the paired differences."""
    places = _places(comparison, labels)
    cells = {
        (place, one.name, method): cell
        for place in places for one in labels for method in comparison.methods
        if (cell := comparison.cell(*place, method, one.study, one.at)) is not None
    }  # fmt: skip
    varied = {one.name for one in labels if one.study != "main"}
    methods = [name for name in comparison.methods if any(at in varied and name == key for _, at, key in cells)]
    controls = [control for control in CONTROLS if control in methods and SUBJECT in methods]
    rows: list[list[Cell]] = []
    for place in places:
        factor_of_unit, unit = measure(comparison, place)
        for one in labels:
            shown = [cells.get((place, one.name, method)) for method in methods]
            if not any(shown):
                continue
            seeds = max(len(cell.runs) for cell in shown if cell is not None)
            leads = [comparison.lead(place, control, one.study, one.at) for control in controls]
            rows.append(
                [
                    f"{case_name(place)} ({unit})", one.name,
                    *(_shown(cell, seeds) for cell in shown),
                    *(lead(difference, factor_of_unit) for difference in leads),
                    seeds,
                ]
            )  # fmt: skip
    header = ["case", readable(factor), *map(method_name, methods)]
    header += [*(f"lead over {method_name(control)}" for control in controls), "seeds"]
    caption = (
        f"{readable(factor).capitalize()}: what each method reaches, then TMT's paired leads; ▲ and ▼ exclude zero."
    )
    if len(places) == 1 and rows:
        caption = f"{rows[0][0]}. {caption}"
        header, rows = header[1:], [row[1:] for row in rows]
    page.table(name, header, rows, caption=caption)


def _overview(page: Page, comparison: Comparison, labels: dict[str, list[_Label]]) -> None:
    """The lead over each control at every label, pooled over cases, in one figure and as numbers."""
    groups: dict[str, dict[str, dict[str, tuple[float, float | None]]]] = {}
    rows: list[list[Cell]] = []
    counts: set[int] = set()
    studied: set[Place] = set()
    for factor, of_factor in labels.items():
        places = _places(comparison, of_factor)
        studied.update(places)
        for one in of_factor:
            for control in CONTROLS:
                difference = comparison.pooled(control, places, one.study, one.at)
                if difference is None:
                    continue
                counts.add(difference.cases)
                points = groups.setdefault(readable(factor), {}).setdefault(one.name, {})
                points[method_name(control)] = _percent(difference)
                rows.append([readable(factor), one.name, method_name(control), *_percent(difference), difference.seeds,
                             difference.better, difference.cases])  # fmt: skip
    if not groups:
        page.text("TMT and a control (MTL, Lin et al., TMT φ = 1) were not both measured at any label.")
        return
    shown = [name for name in map(method_name, CONTROLS) if any(row[2] == name for row in rows)]
    many = plural(max(counts), "case") if len(counts) == 1 else f"{min(counts)} to {max(counts)} cases"
    cases = f"on {case_name(min(studied))}" if len(studied) == 1 else f"of the mean over {many}"
    page.figure(
        figures.lead_overview(groups),
        "factors",
        alt=f"How much of the error of {join(shown)} TMT removes at each label; the numbers are in the table below",
        caption=f"TMT against {join(shown)}: the share of the other's error that TMT removes, mean over seeds {cases}. "
        "Right of zero TMT is better. Lines are 95 % t intervals over seeds, an arrow where one "
        "goes on outside the figure; a mark is filled where the interval excludes zero. One seed has no line.",
    )
    header = ["factor", "label", "against", "error removed, %", "half interval", "seeds", "better in", "cases"]
    with page.details("The numbers"):
        page.table("factors_pooled", header, rows)


def _shown(cell: CaseResult | None, seeds: int) -> str:
    """What a method reaches, with the number of its seeds where others have more."""
    if cell is None:
        return "–"
    return value(cell) + (f" ({plural(len(cell.runs), 'seed')})" if len(cell.runs) < seeds else "")


def _percent(difference: Difference) -> tuple[float, float | None]:
    half = difference.half
    return 100 * difference.mean, None if half is None else 100 * half
