"""How tasks affect each other: the sections of a grouping study's report on relationships and affinities."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.groupings import (
    Agreement,
    EqualCost,
    GroupingsTable,
    Relationships,
    agreement,
    equal_cost,
    relationships,
)
from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.grouping import figures, study_figures
from lightning_taskonomy.reports.grouping.comparison import number
from lightning_taskonomy.reports.grouping.files import GroupingResults
from lightning_taskonomy.reports.grouping.report import write_relations
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.words import join, readable

__all__ = ["affinities", "at_equal_cost", "task_relations"]

COTRAINING = "cotraining"
_MEASURES = {
    COTRAINING: "trained together", "transfer": "transfer", "lookahead": "look-ahead",
    "lookahead_first_order": "look-ahead, first order", "gradient_cosine": "gradient cosine",
}  # fmt: skip
_FEWEST = 4
"""A pair is left out of a correlation of at least so many."""


def task_relations(page: Page, results: GroupingResults, single: float = 0.5) -> None:
    """The relationship table and the symmetric affinity (Tables 1 and 2), with intervals over seeds.

    Args:
        page: Where they go.
        results: What the study left.
        single: The size of the single-task networks that pairs are compared with.
    """
    alone = "a half-size network" if single == 0.5 else f"a network of size {single:g}"
    try:
        seeds = _relations(results, single)
    except InputError as reason:
        page.text(f"Not here: {reason}.")
        return
    write_relations(page, _mean(seeds), alone)
    if len(seeds) > 1:
        page.text(f"Means over {len(seeds)} seeds of the change of each.")
        spread = [[half_width([one.change[row, column] for one in seeds]) for column in range(len(results.tasks))]
                  for row in range(len(results.tasks))]  # fmt: skip
        page.table(
            "relationships-intervals",
            ("trained with", *map(readable, results.tasks)),
            [(readable(task), *row) for task, row in zip(results.tasks, spread, strict=True)],
            caption=f"Half of the 95 % t-interval over {len(seeds)} seeds of each change above.",
        )
    rows: list[list[Cell]] = []
    for first, second in combinations(range(len(results.tasks)), 2):
        values = [float(one.symmetric[first, second]) for one in seeds]
        if np.isfinite(values).all():
            rows.append([_pair(results.tasks, (first, second)), fmean(values), half_width(values)])
    rows.sort(key=lambda row: -float(row[1] or 0))
    page.table(
        "affinity-of-pairs", ("pair", "affinity, %", "±"), rows, caption="The mean of both directions (Table 2)."
    )


def _relations(results: GroupingResults, single: float) -> list[Relationships]:
    """The relationship table of each seed, by size; that of the mean losses where no seed's are there.

    Raises:
        InputError: There are no losses of pairs and single tasks.
    """
    tables = _tables(results)
    if not tables:
        raise InputError("there are no test losses in network_losses.csv or test.csv")
    return [relationships(table, single_cost=single) for table in tables]


def _tables(results: GroupingResults) -> list[GroupingsTable]:
    """Test losses, a table per seed that has any."""
    seeds = dict.fromkeys(one.seed for one in results.networks if one.kind == "candidate" and "test" in one.losses)
    if seeds:
        return [results.by_size(seed, "test") for seed in seeds]
    return [] if results.test is None else [results.test]


def _mean(seeds: Sequence[Relationships]) -> Relationships:
    return Relationships(seeds[0].tasks, np.mean([one.change for one in seeds], axis=0))


def at_equal_cost(page: Page, results: GroupingResults) -> None:
    """Performance by the number of tasks at equal cost (Fig. 2)."""
    tables = _tables(results)
    if not tables:
        page.text("Not here: there are no test losses in network_losses.csv or test.csv.")
        return
    try:
        seeds = [{one.count: one for one in equal_cost(table)} for table in tables]
    except InputError as reason:
        page.text(f"Not here: {reason}.")
        return
    compared: dict[int, list[EqualCost]] = {
        count: [by_count[count] for by_count in seeds if count in by_count]
        for count in sorted({*seeds[0]}.union(*seeds))
    }
    means = {count: [one.mean for one in ones] for count, ones in compared.items()}
    bars = {f"{count} tasks": (fmean(values), half_width(values)) for count, values in means.items()}
    page.figure(
        study_figures.equal_cost_bars(bars),
        "equal-cost",
        alt="; ".join(f"{title}: {number(*bar, digits=2)} %" for title, bar in bars.items()),
        caption="By how many per cent losses are lower in full-size networks of k tasks than in k single-task networks "
        "of a k-th of the size, which cost as much together; the mean over networks and tasks (Fig. 2)."
        + (" A whisker is the 95 % t-interval over seeds." if len(seeds) > 1 else ""),
    )
    page.table(
        "equal-cost-numbers",
        ("tasks", "networks", "seeds", "lower by, %", "±", *map(readable, results.tasks)),
        [
            (count, len(ones[0].change), len(ones), fmean(means[count]), half_width(means[count]),
             *(_mean_of(ones, task) for task in results.tasks))
            for count, ones in compared.items()
        ],
        caption="Per cent, over all networks of so many tasks and for each task.",
    )  # fmt: skip
    absent = [count for count in range(2, len(results.tasks) + 1) if count not in compared]
    if absent:
        sizes = join([f"1/{count}" for count in absent])
        page.text(f"Not compared: {join([str(count) for count in absent])} tasks; single-task networks of size {sizes} "
                  "of each task, or the groups themselves, were not trained.")  # fmt: skip


def _mean_of(ones: Sequence[EqualCost], task: str) -> float | None:
    values = [one.per_task[task] for one in ones if task in one.per_task]
    return fmean(values) if values else None


def affinities(page: Page, results: GroupingResults) -> None:
    """Each measure of affinity as a matrix, and its correlation with training together (Fig. 3)."""
    matrices = results.affinities
    if not matrices:
        page.text("Not here: affinities.csv has no value.")
        return
    page.figure(
        figures.relationship_matrices({_title(name).capitalize(): matrices[name] for name in matrices}, results.tasks),
        "affinities",
        alt=f"Matrices of {join([_title(name) for name in matrices])}; affinities.csv in the study's folder has the "
        "numbers.",
        caption="Rows: the partner; columns: the task that is measured. Trained together: per cent by which its loss "
        "is lower than in a smaller network alone. Each measure has its own unit and scale; hatched: not measured.",
    )
    if COTRAINING not in matrices:
        page.text("No correlations: affinities.csv has no column 'cotraining'.")
        return
    relations = Relationships(results.tasks, matrices[COTRAINING])
    letters = _initials(results.tasks)
    panels = {}
    rows: list[list[Cell]] = []
    for name in (name for name in matrices if name != COTRAINING):
        symmetric = Relationships(results.tasks, matrices[name]).symmetric
        compared = partial(agreement, relations, symmetric)
        try:
            overall = compared()
        except InputError as reason:
            page.text(f"No correlation with {_title(name)}: {reason}.")
            continue
        pairs = _shared(relations.symmetric, symmetric)
        outlier, rest = _outlier(compared, relations.tasks, pairs)
        panels[_title(name).capitalize()] = (
            [float(symmetric[pair]) for pair in pairs],
            [float(relations.symmetric[pair]) for pair in pairs],
            ["–".join(letters[place] for place in pair) for pair in pairs],
            _agreement_words(overall, rest),
            None if outlier is None else pairs.index(outlier),
        )
        row: list[Cell] = [
            _title(name), overall.pairs, overall.pearson, overall.pearson_p, overall.spearman, overall.spearman_p,
        ]  # fmt: skip
        if outlier is None or rest is None:
            row += [None] * 4
        else:
            row += [_pair(relations.tasks, outlier), rest.pearson, rest.pearson_p, rest.spearman]
        rows.append([*row, *_directed(relations.change, matrices[name])])
    if not panels:
        return
    shorts = ", ".join(f"{letter} {readable(task)}" for letter, task in zip(letters, results.tasks, strict=True))
    page.figure(
        study_figures.affinity_scatter(panels, "affinity by training together, %"),
        "affinity-scatter",
        alt="; ".join(f"{title}: {panel[3]}" for title, panel in panels.items()).replace("\n", ", "),
        caption=f"A mark is a pair of tasks, means of both directions: {shorts}. Hollow: the pair whose removal "
        "changes r most. The paper has r = −0.54, p = 0.13 with one outlier removed.",
    )
    header = ("affinity", "pairs", "r", "p", "ρ", "p of ρ", "left out", "r without it", "p without it", "ρ without it")
    page.table(
        "affinity-correlations",
        (*header, "r, each direction", "ρ, each direction"),
        rows,
        caption="Correlation with the affinity by training together: Pearson's r and Spearman's ρ over pairs, means of "
        "both directions; without the pair whose removal changes r most; and over both directions of each pair.",
    )


def _title(measure: str) -> str:
    return _MEASURES.get(measure, readable(measure))


def _shared(one: NDArray[np.float64], other: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs that have both symmetric measures."""
    both = ~np.isnan(one) & ~np.isnan(other)
    return [(int(first), int(second)) for first, second in np.argwhere(np.triu(both, 1))]


def _outlier(
    compared: "partial[Agreement]", tasks: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int] | None, Agreement | None]:
    """The pair whose removal changes Pearson's r most, and how far the others agree."""
    if len(pairs) < _FEWEST:
        return None, None
    overall = compared().pearson
    without: Mapping[tuple[int, int], Agreement] = {
        pair: compared([(tasks[pair[0]], tasks[pair[1]])]) for pair in pairs
    }
    pair = max(pairs, key=lambda one: abs(without[one].pearson - overall))
    return pair, without[pair]


def _directed(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's correlation over both directions of each pair; None of fewer than three values."""
    from scipy.stats import pearsonr, spearmanr

    keep = ~np.isnan(one) & ~np.isnan(other)
    left, right = one[keep], other[keep]
    if left.size < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None, None
    return float(pearsonr(left, right).statistic), float(spearmanr(left, right).statistic)


def _agreement_words(overall: Agreement, rest: Agreement | None) -> str:
    text = f"r = {overall.pearson:.2f}, p = {overall.pearson_p:.2g}"
    if rest is not None:
        text += f"\nwithout one pair: r = {rest.pearson:.2f}, p = {rest.pearson_p:.2g}"
    return text.replace("-", "−")


def _pair(tasks: Sequence[str], pair: tuple[int, int]) -> str:
    return " – ".join(readable(tasks[place]) for place in pair)


def _initials(tasks: Sequence[str]) -> list[str]:
    """The shortest beginning of each name that no other one has."""
    return [
        next((task[:size] for size in range(1, len(task)) if sum(t.startswith(task[:size]) for t in tasks) == 1), task)
        for task in tasks
    ]
