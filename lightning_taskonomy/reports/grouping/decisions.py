"""Does grouping help? The sections of a grouping study's report that compare choices and baselines by budget."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
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
from lightning_taskonomy.solvers.grouping import served
from lightning_taskonomy.solvers.taxonomy import Band

__all__ = ["answer", "groups", "losses_by_budget"]

_PAPER = ("optimal", "esa", "hoa", "independent", "mtl", "mgda_ub", "pessimal")
"""The curves of the paper's Fig. 4."""
_FAR = 1.0
"""A baseline is left out of the picture where it lies higher above than so many times the span of what matters."""


def answer(page: Page, results: GroupingResults) -> None:
    """Whether grouping helps, at which budgets, and by how much."""
    methods = by_method(results)
    subject = next((method for method in CHOICES if method in methods), None)
    rivals = [rival for rival in RIVALS if rival in methods]
    if subject is None or not rivals:
        lacks = "no choice of groups" if subject is None else "neither independent networks nor a joint one"
        page.text(f"Whether grouping helps cannot be said: choices.csv has {lacks} with a test loss.")
        return
    rows = [Comparison.of(methods, at, rivals) for at in methods[subject].values()]
    page.answer(_lines(subject, rows, len(results.seeds)))
    page.text(
        "The total loss over tasks, on test images. Networks are chosen by validation losses"
        + (", those of the optimal choice among all that were trained" if subject == "optimal" else "")
        + ". A rival is what costs most within the budget."
        + ("" if len(rivals) == len(RIVALS) else f" Not compared with {_others(rivals)}: choices.csv has none.")
        + (" Leads are paired by seed; ± half of the 95 % t-interval of the mean." if len(results.seeds) > 1 else "")
    )
    shown = [*rivals, *(["random"] if "random" in methods else [])]
    header, several = ["budget", method_name(subject)], len(results.seeds) > 1
    for rival in shown:
        header += [method_name(rival), f"lead over {RIVALS.get(rival, rival)}"]
    table: list[list[Cell]] = []
    for row in (Comparison.of(methods, at, shown) for at in methods[subject].values()):
        cells: list[Cell] = [f"{row.choice.budget:g}", row.choice.words if several else row.choice.mean]
        for rival in shown:
            if rival not in row.rivals:
                cells += [None, None]
                continue
            other, lead = row.rivals[rival]
            cells += [other.words, number(*lead)] if several else [other.mean, lead[0]]
        table.append(cells)
    page.table("answer", header, table, caption="Above 0 the grouping is better.")


def _lines(subject: str, rows: Sequence[Comparison], seeds: int) -> list[str]:
    compared = [row for row in rows if row.rivals]
    better = [row for row in compared if row.helps]
    names = join([RIVALS[rival] for rival in RIVALS if any(rival in row.rivals for row in compared)])
    chosen = "the best grouping" if subject == "optimal" else f"the choice by {method_name(subject)}"
    if not compared:
        return [f"No budget has both {chosen} and something to compare it with."]
    if better:
        lines = [
            f"Grouping helps at {len(better)} of {len(compared)} budgets ({_budgets(better)}): there {chosen} has a "
            f"lower test loss than {names} within the same budget."
        ]
    else:
        lines = [f"Grouping does not help here: at no budget has {chosen} a lower test loss than {names}."]
    clear = [row for row in better if row.clear]
    if seeds < 2:
        lines.append("One seed was trained, so no interval is known: a difference may be chance.")
    elif better:
        lines.append(
            f"The lead is beyond the spread of {seeds} seeds at {_budgets(clear)}."
            if clear
            else f"At none of these is the lead beyond the spread of {seeds} seeds: it may be chance."
        )
    most = max(compared, key=lambda row: row.least)
    rivals = ", ".join(f"{RIVALS[name]} {other.words}" for name, (other, _) in most.rivals.items())
    where = " (the greatest lead of all budgets, which flatters it)" if better and len(compared) > 1 else ""
    lines.append(f"At budget {most.choice.budget:g}{where} {chosen} has a test loss of {most.choice.words}, {rivals}.")
    worse = [_worse(row) for row in compared if not row.helps]
    if better and worse:
        lines.append(f"No better at {join(worse)}.")
    return lines


def _worse(row: Comparison) -> str:
    """Which rival is as good or better."""
    name, (other, (lead, _)) = min(row.rivals.items(), key=lambda entry: entry[1][1][0])
    if abs(lead) <= SAME:
        return f"budget {row.choice.budget:g} (the same loss as {RIVALS[name]})"
    return f"budget {row.choice.budget:g} ({RIVALS[name]}: {other.words} against {row.choice.words})"


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
    chosen = sorted({budget for way in (*CHOICES, "random") for budget in methods.get(way, {})})
    bands = []
    try:
        bands = random_bands(results.priced_test, chosen)
    except InputError as reason:
        page.text(f"There is no band of random groupings: {reason}.")
    paper = [method for method in _PAPER if method in methods]
    others = [method for method in methods if method not in (*_PAPER, "random")]
    _curves(page, "losses", methods, paper or others, bands, several, results.unit.words)
    if paper and others:
        _curves(page, "losses-others", methods, ["optimal", *others], bands, several, results.unit.words)
    header = ["method", *(f"{budget:g}" for budget in budgets)]
    rows: list[list[Cell]] = []
    for method, cells in methods.items():
        present = [cells.get(budget) for budget in budgets]
        rows.append([method_name(method), *((one.words if several else one.mean) if one else None for one in present)])
    about = f"means over {len(results.seeds)} seeds, ± half of the 95 % t-interval" if several else "of one seed"
    page.table("losses-by-budget", header, rows, caption=f"Total test loss by inference budget, {about} (Table 4).")
    numbers: list[list[Cell]] = [
        [one.method, f"{budget:g}", fmean(c.cost for c in one.choices), len(one.choices), one.mean, one.half,
         *(fmean(c.tasks.get(task, math.nan) for c in one.choices) for task in results.tasks)]
        for cells in methods.values()
        for budget, one in cells.items()
    ]  # fmt: skip
    with page.details("The same with intervals and by task"):
        columns = ("method", "budget", "cost", "seeds", "test loss", "±", *map(readable, results.tasks))
        page.table("losses-in-numbers", columns, numbers, caption="Means over seeds; of each task its test loss.")


def _curves(
    page: Page,
    name: str,
    methods: Methods,
    drawn: Sequence[str],
    bands: Sequence[tuple[float, Band]],
    several: bool,
    unit: str,
) -> None:
    """One picture of some methods, each in its own look; what lies far above the others is left out and named."""
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
        figures.grouping_curves(curves, random=bands, spreads=spreads, measure="total test loss", unit=unit),
        name,
        alt=f"Total test loss against the inference budget: {'; '.join(ends)}.",
        caption="Total test loss by inference budget."
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
                caption="A box is a network. Hollow: trained along because it helps the others, not used."
                + (" Of several seeds the choice that most of them make." if len(results.seeds) > 1 else ""),
            )
    rows: list[list[Cell]] = [
        [method_name(c.method), f"{c.budget:g}", c.seed, c.cost, _names(c), c.validation, c.test]
        for way in ways
        for at in methods[way].values()
        for c in at.choices
    ]
    with page.details(f"Each choice of each seed ({len(rows)})"):
        header = ("chosen by", "budget", "seed", "cost", "networks", "validation loss", "test loss")
        page.table("choices", header, rows)


def _kept(at: MethodAtBudget, results: GroupingResults) -> figures.KeptNetworks:
    """The choice that most seeds make, of equals the first; a network serves by the validation losses of that seed."""
    named = [frozenset(choice.networks) for choice in at.choices]
    agreed, count = Counter(named).most_common(1)[0]
    choice = at.choices[named.index(agreed)]
    table = results.by_size(choice.seed, "validation", ("candidate",))
    order = {task: place for place, task in enumerate(results.tasks)}
    keys = [
        (tuple(sorted(tasks, key=lambda task: order.get(task, len(order)))), size) for tasks, size in choice.networks
    ]
    missing = [f"{'+'.join(tasks)}@{size:g}" for tasks, size in keys if (tasks, size) not in table.by_key]
    if missing:
        raise InputError(f"network_losses.csv has no validation losses of {join(missing)}, seed {choice.seed}")
    networks = tuple(table.by_key[key] for key in keys)
    note = f"{count} of {len(at.choices)} seeds" if len(at.choices) > 1 else ""
    return figures.KeptNetworks(
        budget=at.budget, networks=networks, serves=served(networks, table), loss=at.mean, note=note
    )


def _in_words(networks: Sequence[Network]) -> str:
    return join([f"{' + '.join(map(readable, n.tasks))} (size {n.cost:g})" for n in networks])


def _names(choice: Choice) -> str:
    return "; ".join(f"{'+'.join(map(readable, tasks))} @ {size:g}" for tasks, size in choice.networks)
