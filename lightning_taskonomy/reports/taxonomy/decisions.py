"""What to train: the sections of the report that show taxonomies and what they are worth."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.taxonomy.files import TaxonomyResults
from lightning_taskonomy.reports.words import join, label_share, labels_line, percent, policy_line, readable, whole
from lightning_taskonomy.solvers.taxonomy import TaxonomySolution

__all__ = ["answer", "gain_quality", "headline", "labels", "taxonomies", "telling"]

_BUDGETS = 6
"""How many budgets are drawn."""

_MANY = 18
"""Longer tables are folded away."""

_GRAPH = (
    "Left, ringed: tasks trained with all their labels. Right: targets solved by transfer, with gain and quality. "
    "A curve in the source's colour for every source that a target reads; source-only tasks are dimmed."
)


def headline(taxonomies: Sequence[TaxonomySolution]) -> TaxonomySolution:
    """The taxonomy to recommend: of the highest order, the budget where more budget begins to pay less.

    That is the bend of mean quality (the objective where it is unknown) against the budget: the greatest height above
    the straight line between the smallest and the largest budget; the smaller budget where two are alike.
    """
    order = max(t.max_order for t in taxonomies)
    ranked = sorted((t for t in taxonomies if t.max_order == order), key=lambda t: t.budget)
    qualities = [t.mean_quality for t in ranked if t.mean_quality is not None]
    values = np.array(qualities if len(qualities) == len(ranked) else [t.objective for t in ranked])
    budgets = np.array([t.budget for t in ranked])
    line = np.interp(budgets, budgets[[0, -1]], values[[0, -1]])
    return ranked[int(np.argmax(np.round(values - line, 9)))]


def answer(page: Page, results: TaxonomyResults) -> None:
    """What to train, how the rest is solved, and what that is worth."""
    if not results.taxonomies:
        page.text("The study solved no taxonomy: solutions.json is empty.")
        return
    best = results.requested or headline(results.taxonomies)
    share = label_share(best, results.labels)
    lines = [f"With a budget of {best.budget:g}, train {join([readable(s) for s in best.sources])} with all labels."]
    lines.append(policy_line(best))
    facts = [("tasks trained fully", str(len(best.sources))), ("solved by transfer", str(len(best.transfers)))]
    if best.mean_gain is not None:
        facts.append(("mean gain", percent(best.mean_gain)))
    if best.mean_quality is not None:
        facts.append(("mean quality", percent(best.mean_quality)))
    if share is not None:
        facts.append(("labels used", percent(share)))
        lines.append(labels_line(best, share))
    page.answer(lines)
    page.facts(facts)
    page.text(
        "Gain: the share of test images on which a policy beats a network trained from scratch on the same data as the "
        "transfers. Quality: the same against the task's own fully supervised network; 50 % is on a par."
    )
    chance = results.chance.get((best.max_order, best.budget))
    if chance is not None and chance.gain is not None:
        page.text(
            f"Random taxonomies of the same budget reach a mean gain of {percent(chance.gain.middle)} "
            f"({percent(chance.gain.low)} to {percent(chance.gain.high)} for nine in ten; by the objective, "
            f"p = {chance.p_value:.2g})."
        )
    if results.requested is None:
        page.text(
            f"This is the budget from which on more budget pays less, at order {best.max_order} or below; every "
            "other budget follows."
        )
    page.figure(_graph(best, results), "answer-graph", alt=_in_words(best), caption=_GRAPH)


def taxonomies(page: Page, results: TaxonomyResults) -> None:
    """The taxonomy of every budget and maximum order; pictures of the most telling ones, numbers of all."""
    if not results.taxonomies:
        page.text("None: solutions.json is empty.")
        return
    drawn = telling(results.taxonomies, results.requested)
    some = len(drawn) < len(results.taxonomies)
    page.figure(
        figures.taxonomy_grid(
            drawn, tasks=list(results.tasks), families=results.families, source_only=results.source_only
        ),
        "taxonomies",
        alt="Small graphs of the taxonomies; the table below holds the same in numbers.",
        caption=("Some budgets and maximum orders; the table has all. " if some else "Every budget and maximum order. ")
        + "Arrows run from source to target; ringed tasks are trained fully.",
    )
    ordered = sorted(results.taxonomies, key=lambda t: (t.max_order, t.budget))
    header = ("order ≤", "budget", "trained fully", "by transfer", "mean gain", "mean quality", "objective", "proven")
    rows = [
        (t.max_order, whole(t.budget), _trained(t, results), len(t.transfers), t.mean_gain, t.mean_quality, *more)
        for t in ordered
        for more in [(t.objective, t.proven, t.seconds)]
    ]
    about = "Every solution of the program; proven: no better one exists."
    with page.details(f"Every solution in numbers ({len(rows)})") if len(rows) > _MANY else nullcontext():
        page.table("solutions", (*header, "seconds"), rows, caption=about)
    with page.details("Every policy, target by target"):
        page.table(
            "policies",
            ("order ≤", "budget", "target", "solved by", "sources", "affinity", "gain", "quality"),
            [
                (t.max_order, whole(t.budget), row.target, row.kind, ";".join(row.sources), row.affinity, *rates)
                for t in ordered
                for row in t.policy.values()
                for rates in [(row.win_rate_vs_scratch, row.win_rate_vs_task_specific)]
            ],
            caption="How every target is solved.",
        )
    best = results.requested or headline(results.taxonomies)
    alike: dict[object, list[TaxonomySolution]] = {}
    for taxonomy in sorted((t for t in drawn if t.max_order == best.max_order), key=lambda t: t.budget):
        alike.setdefault((taxonomy.sources, *taxonomy.policy.values()), []).append(taxonomy)
    alike.pop((best.sources, *best.policy.values()), None)  # stands above
    title = f"Other budgets in full, order ≤ {best.max_order} ({len(alike)})"
    with page.details(title) if alike else nullcontext():
        for same in alike.values():
            with page.details(f"Budget {join([f'{t.budget:g}' for t in same])}"):
                name = f"taxonomy-budget{same[0].budget:g}-order{same[0].max_order}".replace(".", "_")
                page.figure(_graph(same[0], results), name, alt=_in_words(same[0]), caption=_GRAPH)


def telling(solved: Sequence[TaxonomySolution], requested: TaxonomySolution | None = None) -> list[TaxonomySolution]:
    """The taxonomies to draw where there are too many: six budgets at most, evenly, and the least and greatest order.

    The budget of the requested one is among them; the headline's if none was requested.
    """
    budgets = sorted({t.budget for t in solved})
    if len(budgets) > _BUDGETS:
        even = np.linspace(0, len(budgets) - 1, _BUDGETS).round().astype(int)
        drawn = [budgets[place] for place in even]
        budget = (requested or headline(solved)).budget
        nearest = min(range(_BUDGETS), key=lambda place: abs(drawn[place] - budget))
        drawn[nearest] = budget
        budgets = drawn
    orders = sorted({t.max_order for t in solved})
    orders = orders if len(orders) <= 3 else [orders[0], orders[1], orders[-1]]
    return [t for t in solved if t.budget in budgets and t.max_order in orders]


def gain_quality(page: Page, results: TaxonomyResults) -> None:
    """Gain and quality by budget, on the mean and per target."""
    if not results.taxonomies:
        page.text("None: solutions.json is empty.")
        return
    drawn = telling(results.taxonomies, results.requested)
    orders = {min(t.max_order for t in drawn), max(t.max_order for t in drawn)}
    budgets = sorted({t.budget for t in drawn})
    targets = results.targets
    shape = len(targets), len(budgets)
    gain: dict[int, NDArray[np.float64]] = {order: np.full(shape, np.nan) for order in orders}
    quality = {order: np.full(shape, np.nan) for order in orders}
    for taxonomy in drawn:
        for target, row in taxonomy.policy.items():
            if taxonomy.max_order in orders and target in targets:
                place = targets.index(target), budgets.index(taxonomy.budget)
                for rates, rate in ((gain, row.win_rate_vs_scratch), (quality, row.win_rate_vs_task_specific)):
                    rates[taxonomy.max_order][place] = np.nan if rate is None else rate
    page.figure(
        figures.budget_curves(results.taxonomies, results.chance),
        "budget-curves",
        alt="Mean gain and mean quality against the budget; " + "; ".join(map(_in_numbers, drawn)),
        caption="The dotted line is on a par with the reference.",
    )
    page.figure(
        figures.gain_quality(gain, quality, tasks=targets, budgets=budgets, families=results.families),
        "gain-quality",
        alt="Gain and quality of every target by budget; policies.csv holds the numbers.",
        caption="Per target and budget. Red loses on every test image, white is on a par, blue wins on every one.",
    )


def labels(page: Page, results: TaxonomyResults) -> None:
    """How much quality is left with how few labels."""
    shares = [(t, share) for t in results.taxonomies if (share := label_share(t, results.labels)) is not None]
    if not shares:
        page.text("Not here: the study left no labels.json, which says how many labels a source and a transfer use.")
        return
    best = headline(results.taxonomies)
    page.text(labels_line(best, label_share(best, results.labels) or 0.0))
    points = [
        (share, t.mean_quality, t.budget, f"order ≤ {t.max_order}") for t, share in shares if t.mean_quality is not None
    ]
    if points:
        page.figure(
            figures.labels_saved(points, reference=0.5),
            "labels-saved",
            alt="Mean quality against the share of labels used; labels.csv holds the numbers.",
            caption="How much of full supervision's quality is left with how few of its labels.",
        )
    with page.details(f"Labels of every solution ({len(shares)})") if len(shares) > _MANY else nullcontext():
        page.table(
            "labels",
            ("order ≤", "budget", "trained fully", "by transfer", "labels used", "mean gain", "mean quality"),
            [
                (t.max_order, whole(t.budget), len(t.sources), len(t.transfers), share, t.mean_gain, t.mean_quality)
                for t, share in shares
            ],
            caption="Labels used: share of those that training every target fully needs.",
        )


def _graph(taxonomy: TaxonomySolution, results: TaxonomyResults) -> Figure:
    return figures.taxonomy_graph(
        taxonomy, families=results.families, source_only=results.source_only, tasks=list(results.tasks)
    )


def _trained(taxonomy: TaxonomySolution, results: TaxonomyResults) -> str:
    """Names of the tasks that are trained fully, short where they are many."""
    if len(taxonomy.sources) > 3 and set(taxonomy.sources) == set(results.targets):
        return "every target"
    return ", ".join(map(readable, taxonomy.sources))


def _in_words(taxonomy: TaxonomySolution) -> str:
    """What a taxonomy's graph shows."""
    return f"Trained fully: {join([readable(s) for s in taxonomy.sources])}. {policy_line(taxonomy)}"


def _in_numbers(taxonomy: TaxonomySolution) -> str:
    """A taxonomy's means."""
    gain, quality = (("unknown" if v is None else f"{v:.2f}") for v in (taxonomy.mean_gain, taxonomy.mean_quality))
    return f"budget {taxonomy.budget:g}, order {taxonomy.max_order}: gain {gain}, quality {quality}"
