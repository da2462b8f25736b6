"""Task Meta-Transfer against each other method, seed by seed: over all cases and case by case."""

from functools import partial

from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer.answer import pools
from lightning_taskonomy.reports.meta_transfer.comparison import SUBJECT, Comparison, Place
from lightning_taskonomy.reports.meta_transfer.tables import by_number, case_tables
from lightning_taskonomy.reports.meta_transfer.words import lead, measure, method_name

__all__ = ["leads"]


def leads(page: Page, comparison: Comparison) -> None:
    """TMT less every other method: over all cases as a share of the error, and per case in the metric's unit."""
    others = [method for method in comparison.methods if method != SUBJECT]
    page.text(
        "Differences are paired: the two methods of one seed have the same images with primary labels and the same "
        "seed. A positive number says that TMT is better, whether the metric is an error or not. "
        + ("▲ and ▼: the 95 % t interval over seeds lies above or below zero." if comparison.seeds > 1 else
           "With one seed no interval is known.")
    )  # fmt: skip
    rows: list[list[Cell]] = []
    for pool, places in pools(comparison):
        for other in others:
            one = comparison.pooled(other, places)
            single = [difference for place in places if (difference := comparison.lead(place, other))]
            verdicts = [difference.verdict for difference in single if difference.half is not None]
            if one is not None:
                rows.append(
                    [
                        pool, method_name(other), one.cases, lead(one, 100), one.seeds, f"{one.better} of {one.seeds}",
                        *(verdicts.count(sign) if verdicts else None for sign in (1, -1)),
                    ]
                )  # fmt: skip
    header = ["network", "against", "cases", "error removed, %", "seeds", "seeds in which TMT is better"]
    header += ["cases with ▲", "cases with ▼"]
    page.table(
        "pooled", header, rows,
        caption="Over all cases: the share of the other method's error that TMT removes. The share of a seed is the "
        "mean over cases, of the seeds that all cases have; the interval is over seeds.",
    )  # fmt: skip
    note = "TMT against each method, in the metric's unit: positive, TMT is better. In brackets: of how many seeds."
    for name, cases in by_number(comparison):
        methods = [method for method in comparison.planned(cases) if method != SUBJECT]
        entry = partial(_lead, comparison)
        case_tables(page, f"leads_{name}", comparison, cases, methods, entry, note, arrow=False)
    with page.details("All differences as numbers"):
        numbers: list[list[Cell]] = []
        for place in comparison.cases:
            for other in others:
                one = comparison.lead(place, other)
                if one is not None:
                    numbers.append([*place, method_name(other), one.mean, one.half, one.seeds, one.better])
        columns = ["network", "primary", "auxiliary", "against", "lead of TMT"]
        columns += ["half interval", "seeds", "better in"]
        page.table("leads", columns, numbers, caption="In the metric's own units; positive, TMT is better.")


def _lead(comparison: Comparison, place: Place, other: str) -> str:
    one = comparison.lead(place, other)
    if one is None:
        return "–"
    return f"{lead(one, measure(comparison, place)[0])} ({one.better}/{one.seeds})"
