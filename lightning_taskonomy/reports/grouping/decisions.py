"""Does grouping help? The sections of a grouping study's report that compare choices and baselines by budget."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from statistics import fmean

from lightning_taskonomy.affinity.groupings import Network
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.grouping import figures
from lightning_taskonomy.reports.grouping.comparison import (
    CHOICES,
    RIVALS,
    SAME,
    Comparison,
    MethodAtBudget,
    Methods,
    by_method,
    method_name,
    number,
)
from lightning_taskonomy.reports.grouping.files import Choice, GroupingResults
from lightning_taskonomy.reports.grouping.report import random_bands
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.words import WEIGHTINGS, join, readable
from lightning_taskonomy.solvers.taxonomy import Band

__all__ = ["answer", "groups", "losses_by_budget"]

_PAPER = ("optimal", "esa", "hoa", "independent", "mtl", "mgda_ub", "pessimal")
"""The curves of the paper's Fig. 4."""
_FAR = 1.0
"""A baseline is left out of the picture where it lies higher above than so many times the span of what matters."""


def answer(page: Page, results: GroupingResults) -> None:
    """Whether grouping helps, at which budgets, and by how much."""
    methods = by_method(results)
    subject = next((way for way in (results.selection.subject, *CHOICES) if way in methods), None)
    rivals = [rival for rival in RIVALS if rival in methods]
    if subject is None or not rivals:
        lacks = "no choice of groups" if subject is None else "neither independent networks nor a joint one"
        page.text(f"Whether grouping helps cannot be said: choices.csv has {lacks} with a test loss.")
        return
    serves = [[_shares(choice, results) for choice in at.choices] for at in methods[subject].values()]
    shown = [*rivals, *(["random"] if "random" in methods else [])]
    compared = [
        Comparison.of(
            methods, at, shown, sum(_joint(c) if s is None else s for c, s in zip(at.choices, one, strict=True))
        )
        for at, one in zip(methods[subject].values(), serves, strict=True)
    ]
    rows = [replace(row, rivals={name: row.rivals[name] for name in rivals if name in row.rivals}) for row in compared]
    page.answer(_lines(subject, rows, len(results.seeds), _named("test loss", results)))
    unknown = any(math.isnan(one.validation) for rival in rivals for one in methods[rival].values())
    several = len(results.seeds) > 1
    page.text(
        f"The {results.selection.total} loss over tasks, on test images. {results.selection.words(subject)}. Of each "
        "rival the one with the lowest validation loss within the budget is compared"
        + (", or the costliest where that loss is not known" if unknown else "")
        + (" (random groupings: the costliest)" if "random" in methods else "")
        + ". Tasks share a network where one serves two or more of them, by validation losses of the seed"
        + (
            "; where network_losses.csv lacks these, where one was trained on so many"
            if any(None in one for one in serves)
            else ""
        )
        + "."
        + ("" if len(rivals) == len(RIVALS) else f" Not compared with {_others(rivals)}: choices.csv has none.")
        + (" Leads are paired by seed; ± half of the 95 % t-interval of the mean." if several else "")
    )
    header = ["budget", method_name(subject), "tasks share a network"]
    for rival in shown:
        header += [method_name(rival), f"lead over {RIVALS.get(rival, rival)}"]
    table: list[list[Cell]] = []
    for row in compared:
        cells: list[Cell] = [f"{row.choice.budget:g}", row.choice.words if several else row.choice.mean, _sharing(row)]
        for rival in shown:
            if rival not in row.rivals:
                cells += [None, None]
                continue
            other, lead = row.rivals[rival]
            cells += [other.words, number(*lead)] if several else [other.mean, lead[0]]
        table.append(cells)
    page.table("answer", header, table, caption=f"{results.selection.total.capitalize()} test losses; a lead above 0: "
               "the choice is better.")  # fmt: skip


def _shares(choice: Choice, results: GroupingResults) -> bool | None:
    """Whether a network of a choice serves two or more tasks."""
    try:
        _, serves = results.serving(choice)
    except InputError:
        return None
    return any(len(tasks) > 1 for tasks in serves)


def _joint(choice: Choice) -> bool:
    """Whether a network of a choice was trained on two or more tasks."""
    return any(len(tasks) > 1 for tasks, _ in choice.networks)


def _sharing(row: Comparison) -> str:
    count = len(row.choice.choices)
    return f"{row.shared} of {count} seeds" if 0 < row.shared < count else "yes" if row.shared else "no"


def _lines(subject: str, rows: Sequence[Comparison], seeds: int, loss: str) -> list[str]:
    compared = [row for row in rows if row.rivals]
    helping = [row for row in compared if row.helps]
    apart = [row for row in compared if row.better and not row.shares]
    names = join([RIVALS[rival] for rival in RIVALS if any(rival in row.rivals for row in compared)])
    choice = "the best grouping" if subject == "optimal" else f"the choice by {method_name(subject)}"
    if not compared:
        return [f"No budget has both {choice} and something to compare it with."]
    if helping:
        lines = [
            f"Grouping helps at {len(helping)} of {len(compared)} budgets ({_budgets(helping)}): there {choice} has a "
            f"lower {loss} than {names} within the same budget, and tasks share a network."
        ]
    else:
        sharing = " while tasks share a network" if apart else ""
        lines = [f"Grouping does not help here: at no budget has {choice} a lower {loss} than {names}{sharing}."]
    if apart:
        along = any(_joint(one) for row in apart for one in row.choice.choices)
        how = "by mixing sizes" + (", or by tasks that are trained along and not used" if along else "")
        mostly = " in most seeds" if any(row.shared for row in apart) else ""
        lines.append(
            f"At {_budgets(apart)} it has a lower one, but keeps tasks apart{mostly} (no network serves two of them): "
            f"it gains {how}."
        )
    clear = [row for row in helping or apart if row.clear]
    if seeds < 2:
        lines.append("One seed was trained, so no interval is known: a difference may be chance.")
    elif helping or apart:
        lines.append(
            f"The lead is beyond the spread of {seeds} seeds at {_budgets(clear)}."
            if clear
            else f"At none of these is the lead beyond the spread of {seeds} seeds: it may be chance."
        )
    most = max(helping or compared, key=lambda row: row.least)
    rivals = ", ".join(f"{RIVALS[name]} {other.words}" for name, (other, _) in most.rivals.items())
    where = " (the greatest lead of these, which flatters it)" if (helping or apart) and len(compared) > 1 else ""
    lines.append(f"At budget {most.choice.budget:g}{where} {choice} has a {loss} of {most.choice.words}, {rivals}.")
    worse = [_worse(row) for row in compared if not row.better]
    if worse and (helping or apart):
        lines.append(f"No better at {join(worse)}.")
    return lines


def _worse(row: Comparison) -> str:
    """Which rival is as good or better."""
    name, (other, (lead, _)) = min(row.rivals.items(), key=lambda entry: entry[1][1][0])
    apart = "" if row.shares else "; tasks are kept apart"
    if abs(lead) <= SAME:
        return f"budget {row.choice.budget:g} (the same loss as {RIVALS[name]}{apart})"
    return f"budget {row.choice.budget:g} ({RIVALS[name]}: {other.words} against {row.choice.words}{apart})"


def _budgets(rows: Sequence[Comparison]) -> str:
    return join([f"{row.choice.budget:g}" for row in rows])


def _others(rivals: Sequence[str]) -> str:
    return join([name for rival, name in RIVALS.items() if rival not in rivals])


def losses_by_budget(page: Page, results: GroupingResults) -> None:
    """Curves and table of all methods (the paper's Fig. 4 and Table 4); the band of random groupings where it is known.

    Args:
        page: Where they go.
        results: What the study left.
    """
    methods, several = by_method(results), len(results.seeds) > 1
    if not methods:
        page.text("Not here: choices.csv has no test loss.")
        return
    budgets = sorted({budget for cells in methods.values() for budget in cells})
    selection, bands = results.selection, []
    asked = sorted({budget for way in (*CHOICES, "random") for budget in methods.get(way, {})})
    try:
        if selection.subject != "optimal":
            raise InputError("losses decided which networks were trained, so a draw from these is not random")
        bands = random_bands(results.priced_test, asked, selection.weights(results.priced_test.tasks))
    except InputError as reason:
        page.text(f"There is no band of random groupings: {reason}.")
    paper = [method for method in dict.fromkeys((selection.subject, *_PAPER)) if method in methods]
    others = [method for method in methods if method not in (*paper, "random")]
    _curves(page, "losses", methods, paper or others, bands, several, results)
    if paper and others:
        _curves(page, "losses-others", methods, [selection.subject, *others], bands, several, results)
    header = ["method", *(f"{budget:g}" for budget in budgets)]
    rows: list[list[Cell]] = []
    for method, cells in methods.items():
        present = [cells.get(budget) for budget in budgets]
        rows.append([method_name(method), *((one.words if several else one.mean) if one else None for one in present)])
    total = selection.total.capitalize()
    about = f"means over {len(results.seeds)} seeds, ± half of the 95 % t-interval" if several else "of one seed"
    page.table("losses-by-budget", header, rows, caption=f"{total} test loss by inference budget, {about} (Table 4).")
    numbers: list[list[Cell]] = [
        [one.method, f"{budget:g}", fmean(c.cost for c in one.choices), len(one.choices), one.mean, one.half,
         *(fmean(c.tasks.get(task, math.nan) for c in one.choices) for task in results.tasks)]
        for cells in methods.values()
        for budget, one in cells.items()
    ]  # fmt: skip
    with page.details("The same with intervals and by task"):
        columns = (
            "method",
            "budget",
            "cost",
            "seeds",
            _named("test loss", results),
            "±",
            *map(readable, results.tasks),
        )
        page.table("losses-in-numbers", columns, numbers, caption="Means over seeds; of each task its test loss.")


def _curves(
    page: Page,
    name: str,
    methods: Methods,
    drawn: Sequence[str],
    bands: Sequence[tuple[float, Band]],
    several: bool,
    results: GroupingResults,
) -> None:
    """One picture of some methods, each in its own look; what lies far above the others is left out and named."""
    total = results.selection.total
    near = [one.mean for method, cells in methods.items() if method not in WEIGHTINGS for one in cells.values()]
    near += [value for _, band in bands for value in (band.low, band.high)]
    near = near or [one.mean for cells in methods.values() for one in cells.values()]
    most = max(near) + _FAR * (max(near) - min(near))
    curves: dict[str, list[tuple[float, float]]] = {}
    spreads, far, ends = {}, [], []
    for method, cells in sorted(methods.items(), key=lambda entry: entry[0] not in _PAPER):
        title, shown = method_name(method), cells if method in drawn else {}
        curves[title] = line = [(at, one.mean) for at, one in shown.items() if one.mean <= most]
        spreads[title] = {at: one.half for at, one in shown.items() if one.half is not None}
        beyond = dict.fromkeys(f"{one.mean:.3f}" for one in shown.values() if one.mean > most)
        if line:
            ends.append(f"{title} {line[0][1]:.3f} at {line[0][0]:g} to {line[-1][1]:.3f} at {line[-1][0]:g}")
        if beyond:
            far.append(f"{title} ({join(list(beyond))})")
    too_far = f" Too far above to be drawn: {join(far)}." if far else ""
    if not ends:
        page.text(too_far.strip())
        return
    page.figure(
        figures.grouping_curves(
            curves, random=bands, spreads=spreads, measure=f"{total} test loss", unit=results.unit.words
        ),
        name,
        alt=f"{total.capitalize()} test loss against the inference budget: {'; '.join(ends)}.",
        caption=f"{total.capitalize()} test loss by inference budget."
        + (" A whisker is the 95 % t-interval over seeds." if several else "")
        + (" Random groupings are drawn of losses averaged over seeds." if bands and several else "")
        + too_far,
    )


def groups(page: Page, results: GroupingResults) -> None:
    """The networks of each budget, as boxes, for each way to choose."""
    methods = by_method(results)
    ways = [way for way in CHOICES if any(c.networks for at in methods.get(way, {}).values() for c in at.choices)]
    if not ways:
        page.text("Not here: choices.csv names no networks.")
        return
    for place, way in enumerate(ways):
        title = "Optimal: chosen by the validation losses of all candidates" if way == "optimal" else method_name(way)
        try:
            kept = [_kept(at, results) for at in methods[way].values()]
        except InputError as reason:
            page.text(f"No picture of {method_name(way)}: {reason}.")
            continue
        words = "; ".join(f"budget {k.budget:g}: {_in_words(k.networks)}" for k in kept)
        with page.details(f"Chosen by {title}") if place else nullcontext():
            page.text(f"{title[0].upper()}{title[1:]}.")
            page.figure(
                figures.kept_networks(kept, results.tasks),
                f"groups-{way}",
                alt=words,
                caption="A box is a network. Hollow: trained along because it helps the others, not used. Loss: the "
                f"{results.selection.total} on test images."
                + (" Of several seeds the choice that most of them make." if len(results.seeds) > 1 else ""),
            )
    rows: list[list[Cell]] = [
        [method_name(c.method), f"{c.budget:g}", c.seed, c.cost, _names(c), c.validation, c.test]
        for way in ways
        for at in methods[way].values()
        for c in at.choices
    ]
    with page.details(f"Each choice of each seed ({len(rows)})"):
        header = (
            "chosen by",
            "budget",
            "seed",
            "cost",
            "networks",
            *(_named(f"{images} loss", results) for images in ("validation", "test")),
        )
        page.table("choices", header, rows)


def _kept(at: MethodAtBudget, results: GroupingResults) -> figures.KeptNetworks:
    """The choice that most seeds make, of equals the first; a network serves by the validation losses of that seed."""
    named = [frozenset(choice.networks) for choice in at.choices]
    agreed, count = Counter(named).most_common(1)[0]
    networks, serves = results.serving(at.choices[named.index(agreed)])
    note = f"{count} of {len(at.choices)} seeds" if len(at.choices) > 1 else ""
    return figures.KeptNetworks(budget=at.budget, networks=networks, serves=serves, loss=at.mean, note=note)


def _in_words(networks: Sequence[Network]) -> str:
    return join([f"{' + '.join(map(readable, n.tasks))} (size {n.cost:g})" for n in networks])


def _names(choice: Choice) -> str:
    return "; ".join(f"{'+'.join(map(readable, tasks))} @ {size:g}" for tasks, size in choice.networks)


def _named(loss: str, results: GroupingResults) -> str:
    """The title of a column of totals."""
    return f"weighted {loss}" if results.selection.importance else loss
