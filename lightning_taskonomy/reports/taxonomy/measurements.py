"""Why: the sections of the report that show what was measured, and how."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_taskonomy.affinity.tree import linkage_agreement, similarity_tree
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.examples import example_pictures
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.taxonomy.decisions import headline
from lightning_taskonomy.reports.taxonomy.files import EXTENSIONS, TaxonomyResults
from lightning_taskonomy.reports.words import join, readable

__all__ = ["affinity", "beyond", "control", "predictions", "sanity", "similarity"]

BOOTSTRAP = 1000
"""Trees that the support of the similarity tree's nodes is counted over."""


def affinity(page: Page, results: TaxonomyResults) -> None:
    """The first-order affinities before and after normalisation."""
    sources = [*dict.fromkeys(s for s in results.tasks if s in results.table.sources), "task-specific"]
    targets = results.targets
    shape = (len(targets), len(sources))
    after, before = np.full(shape, np.nan), np.full(shape, np.nan)
    for row in results.table.candidates:
        if row.order == 1 and row.target in targets:
            column = sources.index("task-specific" if row.kind == "task_specific" else row.sources[0])
            place = targets.index(row.target), column
            after[place] = np.nan if row.affinity is None else row.affinity
            before[place] = results.losses.get(row.key, np.nan)
    total = np.nansum(after, axis=1, keepdims=True)
    shown = after / np.where(total > 0, total, 1.0)
    has_losses = bool(np.isfinite(before).any())
    page.figure(
        figures.affinity_matrix(
            before if has_losses else None, shown, targets=targets, sources=sources, families=results.families
        ),
        "affinity",
        alt="First-order affinities of every target and source; affinity-first-order.csv holds the numbers.",
        caption="First-order transfers, dark is better. Affinities are rescaled to sum 1 over the sources shown; "
        "hatched: not measured.",
    )
    if not has_losses and results.requested is None:
        page.text("The matrix before normalisation is not here: the study left no losses.csv with mean scores.")
    with page.details("First-order affinities in numbers"):
        page.table(
            "affinity-first-order",
            ("target", *sources),
            [(t, *map(float, row)) for t, row in zip(targets, after, strict=True)],
            caption="Affinities as measured, before rescaling.",
        )
    if results.table.unmeasured:
        names = "; ".join(str(row) for row in results.table.unmeasured)
        page.text(f"Without an affinity, so left out of every decision: {names}.")


def similarity(page: Page, results: TaxonomyResults) -> None:
    """The tree of tasks by what they transfer to."""
    try:
        tree = similarity_tree(results.table, bootstrap=BOOTSTRAP)
    except InputError as reason:
        page.text(f"Not here: {reason}.")
        return
    faithful = "" if np.isnan(tree.cophenetic) else f" Cophenetic correlation {tree.cophenetic:.2f}."
    page.figure(
        figures.dendrogram(tree.linkage, tree.names, families=results.families, support=tree.support),
        "similarity",
        alt=f"Dendrogram of the tasks; from top to bottom: {', '.join(map(readable, reversed(tree.order)))}.",
        caption="Tasks that help the same targets stand together: agglomerative clustering of the columns of the "
        f"first-order affinity matrix (Ward, on logarithms).{faithful} At a node: in how many per cent of "
        f"{BOOTSTRAP:,} trees, each of as many targets drawn with replacement, the same tasks stand together.",
    )
    with page.details("Other ways to build the tree"):
        page.table(
            "linkages",
            ("linkage", "columns", "cophenetic correlation", "agreement with this tree"),
            [
                (way.linkage, "logarithms" if way.logarithm else "as measured", way.cophenetic, way.agreement)
                for way in linkage_agreement(results.table)
            ],
            caption="The paper does not state its linkage. Cophenetic correlation: how faithful a tree is to distances "
            "between its columns. Agreement: the correlation of the distances in both trees.",
        )


def sanity(page: Page, results: TaxonomyResults) -> None:
    """Whether the networks learnt anything."""
    page.text(
        "Every fully supervised network must beat the best constant answer, and a readout of its task on a "
        "Gaussian-random encoder; a win rate near 50 % or below says that it learnt nothing."
    )
    page.table(
        "sanity",
        ("task", "wins against the average guess", "wins against a random encoder"),
        [(readable(task), average, random) for task, average, random in results.sanity],
        caption="Share of test images. Nothing is transferred to source-only tasks, so no random encoder either.",
    )
    weak = [readable(task) for task, average, random in results.sanity if np.fmin(average, random) <= 0.5]
    if weak:
        page.text(f"Weak: {join(weak)}. Read their rows and columns with care.")


def predictions(page: Page, results: TaxonomyResults) -> None:
    """What the networks see, side by side."""
    pictures = {
        name: example_pictures(results.tasks[name].as_task(), columns)
        for name, columns in results.examples.items()
        if name in results.tasks and results.tasks[name].kind
    }
    if not pictures:
        page.text("Not here: examples.npz holds no task of this study.")
        return
    best = headline(results.taxonomies).policy if results.taxonomies else {}
    notes = {
        name: "from " + "\n+ ".join(map(readable, best[name].sources))
        for name in pictures
        if name in best and best[name].kind == "transfer"
    }
    page.figure(
        figures.qualitative(pictures, examples=2 if len(pictures) <= 5 else 1, notes=notes),
        "predictions",
        alt=f"Test images with truth and predictions for {join([readable(name) for name in pictures])}.",
        caption="Test images. Grey stripes: no label.",
        vector=False,
    )


def control(page: Page, results: TaxonomyResults) -> None:
    """Whether what must hold holds beyond the spread over seeds."""
    by_unit: dict[str, dict[str, dict[str, list[float]]]] = {}
    for entry in results.control:
        group = f"{readable(str(entry['source']))} → {readable(str(entry['target']))}"
        for key, values in entry.items():
            if key == "seeds" or not isinstance(values, list):
                continue
            numbers = [float(value) for value in values if value is not None]
            if numbers:
                unit = "affinity" if key.startswith(("affinity", "random")) else "win rate"
                by_unit.setdefault(unit, {}).setdefault(group, {})[readable(key.removesuffix("_per_seed"))] = numbers
    if not by_unit:
        page.text("Not here: control.json holds no measurement.")
        return
    page.text("Related pairs must beat a random network by more than the spread over seeds; shuffled scores must not.")
    for unit, groups in by_unit.items():
        name = f"control-{unit.replace(' ', '-')}"
        page.figure(
            figures.seed_spread(groups, value=unit, reference=0.5 if unit == "win rate" else None),
            name,
            alt=f"{unit} per pair and seed; {name}-numbers.csv holds the numbers.",
            caption="Bars are means over seeds, whiskers reach from the least to the greatest, dots are seeds.",
        )
        page.table(
            f"{name}-numbers",
            ("pair", "series", "mean", "least", "greatest", "seeds"),
            [
                (group, series, float(np.mean(values)), min(values), max(values), len(values))
                for group, named in groups.items()
                for series, values in named.items()
            ],
        )


def beyond(page: Page, results: TaxonomyResults) -> None:
    """What the study measured beyond the taxonomy."""
    for name, (title, about) in EXTENSIONS.items():
        if name in results.extensions:
            header, rows = results.extensions[name]
            page.text(f"{title}. {about}")
            if name == "novel":
                _novel(page, results, header, rows)
            if name == "fine_tune":
                _fine_tuned(page, results)
            page.table(name, [readable(cell) for cell in header], rows)
    missing = [title.lower() for name, (title, _) in EXTENSIONS.items() if name not in results.extensions]
    if missing:
        page.text(f"Not switched on in this study: {join(missing)}.")


def _novel(page: Page, results: TaxonomyResults, header: list[str], rows: list[list[str | float]]) -> None:
    """Gain and quality of novel tasks by order; the policy of the highest order against other features (Fig. 10)."""
    cells = {(str(row["target"]), int(row["order"])): row for row in (dict(zip(header, r, strict=True)) for r in rows)}
    targets, orders = list(dict.fromkeys(t for t, _ in cells)), sorted({order for _, order in cells})
    highest = [cells[target, max(order for t, order in cells if t == target)] for target in targets]
    rivals = [name.removeprefix("win_rate_vs_") for name in header if name.startswith("win_rate_vs_")]
    columns = {"scratch": "gain"} | {name: f"win_rate_vs_{name}" for name in rivals} | {"task_specific": "quality"}
    if not targets:
        return

    def numbers(of: Sequence[Mapping[str, str | float]], names: Sequence[str]) -> NDArray[np.float64]:
        return np.array([[float(row.get(name, np.nan)) for name in names] for row in of])

    def by_order(name: str) -> NDArray[np.float64]:
        return np.hstack([numbers([cells.get((target, order), {}) for target in targets], [name]) for order in orders])

    page.figure(
        figures.novel_tasks(
            by_order("gain"),
            by_order("quality"),
            numbers(highest, list(columns.values())),
            numbers(highest, ["loss", *(f"loss_{name}" for name in columns)]),
            targets=targets,
            orders=orders,
            rivals=list(columns),
            families=results.families,
        ),
        "novel-tasks",
        alt="Gain and quality of every novel task by order, and win rates and losses against other features; novel.csv "
        "holds the numbers.",
        caption="Left: gain and quality of the policy by its highest order. Right: its win rates in per cent at the "
        "highest order, coloured, against networks from scratch, fixed features, and full supervision; below each the "
        "loss of what it is compared with. Hatched: no such network.",
    )


def _fine_tuned(page: Page, results: TaxonomyResults) -> None:
    """Rankings on other data sets (Fig. 12)."""
    rankings = [ranking for ranking in results.rankings if ranking.sources]
    if rankings:
        page.figure(
            figures.rankings_elsewhere(rankings, families=results.families),
            "fine-tuned",
            alt=f"What fine-tuned networks reach on {join([ranking.name for ranking in rankings])}, in the order of "
            "their affinities; fine_tune.csv holds the numbers.",
            caption="Bars are in the order of the affinities measured here, the best first: the steadier they fall (or "
            "rise, where lower is better), the better the affinities tell the order on the other data set.",
        )
    for ranking in results.rankings:
        if ranking.spearman is not None:
            page.text(
                f"{ranking.name}: Spearman's correlation of {readable(ranking.metric)} there with the affinities to "
                f"{readable(ranking.target)} is {ranking.spearman:.3f}."
            )
