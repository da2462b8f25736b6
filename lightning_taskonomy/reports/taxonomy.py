"""The report of a Taskonomy study: one page that says what to train, and shows why."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_taskonomy.affinity.tree import similarity_tree
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.pictures import colorize, value_range
from lightning_taskonomy.reports import figures
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.study import OPTIONAL, StudyResults, Taxonomy, read_study
from lightning_taskonomy.reports.words import join, label_share, labels_line, percent, policy_line, readable
from lightning_taskonomy.tasks import TaskKind

__all__ = ["headline", "write_taxonomy_report"]

_WITHIN = 0.9
"""The headline's budget is the smallest whose mean quality is at least this share of the best."""

_EXAMPLES = 2


def write_taxonomy_report(folder: Path) -> Path:
    """Writes ``report/index.html`` with its PNG and CSV files from what a study left in its folder.

    Args:
        folder: The folder of the study; see :mod:`lightning_taskonomy.reports.study` for its files. Optional files
            that are absent leave a sentence in their place.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: It is no study's folder, or a file in it cannot be used; the file is named.
    """
    results = read_study(folder)
    page = Page(
        Path(folder) / "report",
        "Which tasks help which",
        f"A Taskonomy study of {len(results.tasks)} tasks: {len(results.targets)} targets, "
        f"{len(results.table.candidates)} measured ways to solve them.",
    )
    for title, write, needs in (
        ("Answer", _answer, "solutions.json"),
        ("Taxonomies", _taxonomies, "solutions.json"),
        ("Gain and quality", _gain_quality, "solutions.json"),
        ("Labels saved", _labels, "solutions.json"),
        ("Affinity", _affinity, ""),
        ("Similarity of tasks", _similarity, ""),
        ("Sanity", _sanity, "sanity.csv"),
        ("Predictions", _predictions, "examples.npz"),
        ("Positive control over seeds", _control, "control.json"),
        ("Costs", _costs, "costs.json"),
        ("Configuration", _configuration, "config.yaml"),
        ("Failures", _failures, "failures.json"),
    ):
        page.section(title)
        if needs in results.absent:
            page.text(f"Not here: the study left no {needs} ({OPTIONAL[needs]}).")
        else:
            write(page, results)
    return page.write()


def headline(taxonomies: Sequence[Taxonomy]) -> Taxonomy:
    """The taxonomy to recommend: of the highest order, the smallest budget within a tenth of the best mean quality."""
    order = max(t.max_order for t in taxonomies)
    ranked = sorted((t for t in taxonomies if t.max_order == order), key=lambda t: t.budget)
    known = [t for t in ranked if t.mean_quality is not None]
    best = max((t.mean_quality or 0.0 for t in known), default=0.0)
    return next((t for t in known if (t.mean_quality or 0.0) >= _WITHIN * best), ranked[-1])


def _answer(page: Page, results: StudyResults) -> None:
    if not results.taxonomies:
        page.text("The study solved no taxonomy: solutions.json is empty.")
        return
    chosen = headline(results.taxonomies)
    share = label_share(chosen, results.costs)
    lines = [f"With a budget of {chosen.budget:g}, train {join([readable(s) for s in chosen.sources])} with all labels."]
    lines.append(policy_line(chosen))
    facts = [("tasks trained fully", str(len(chosen.sources))), ("solved by transfer", str(len(chosen.transfers)))]
    if chosen.mean_gain is not None:
        facts.append(("mean gain", percent(chosen.mean_gain)))
    if chosen.mean_quality is not None:
        facts.append(("mean quality", percent(chosen.mean_quality)))
    if share is not None:
        facts.append(("labels used", percent(share)))
        lines.append(labels_line(chosen, share))
    page.answer(lines)
    page.facts(facts)
    page.text(
        "Gain: the share of test images on which a policy beats a network trained from scratch on the same data as the "
        "transfers. Quality: the same against the task's own fully supervised network; 50 % is on a par."
    )
    if chosen.random_gain is not None and chosen.mean_gain is not None:
        odds = "" if chosen.p_value is None else f" (p = {chosen.p_value:.2g})"
        page.text(
            f"Random taxonomies of the same budget reach a mean gain of {percent(chosen.random_gain.middle)} "
            f"({percent(chosen.random_gain.low)} to {percent(chosen.random_gain.high)} for nine in ten){odds}."
        )
    page.text(
        f"This budget is the smallest whose mean quality is at least {percent(_WITHIN)} of the best one found at "
        f"order {chosen.max_order} or below; the other budgets follow."
    )
    page.figure(_graph(chosen, results), "answer-graph", alt=_in_words(chosen), caption=_GRAPH)


def _taxonomies(page: Page, results: StudyResults) -> None:
    if not results.taxonomies:
        page.text("None: solutions.json is empty.")
        return
    page.figure(
        figures.taxonomy_grid(
            results.taxonomies, tasks=list(results.tasks), families=results.families, source_only=results.source_only
        ),
        "taxonomies",
        alt="Small graphs of every taxonomy; the table below holds the same in numbers.",
        caption="Every budget and maximum order. Arrows run from source to target; ringed tasks are trained fully.",
    )
    ordered = sorted(results.taxonomies, key=lambda t: (t.max_order, t.budget))
    page.table(
        "solutions",
        ("order ≤", "budget", "trained fully", "by transfer", "mean gain", "mean quality", "objective", "proven", "seconds"),
        [
            (t.max_order, t.budget if t.budget % 1 else int(t.budget), ", ".join(map(readable, t.sources)),
             len(t.transfers), t.mean_gain, t.mean_quality, t.objective, t.proven, t.seconds)  # fmt: skip
            for t in ordered
        ],
        caption="Every solution of the program; proven: no better one exists.",
    )
    with page.details("Every policy, target by target"):
        page.table(
            "policies",
            ("order ≤", "budget", "target", "solved by", "sources", "affinity", "gain", "quality"),
            [
                (t.max_order, t.budget, c.target, c.kind, ";".join(c.sources), c.affinity, c.gain, c.quality)
                for t in ordered
                for c in t.policy
            ],
            caption="How every target is solved.",
        )
    for taxonomy in ordered:
        with page.details(f"Budget {taxonomy.budget:g}, order ≤ {taxonomy.max_order}"):
            name = f"taxonomy-budget{taxonomy.budget:g}-order{taxonomy.max_order}".replace(".", "_")
            page.figure(_graph(taxonomy, results), name, alt=_in_words(taxonomy), caption=_GRAPH)


def _gain_quality(page: Page, results: StudyResults) -> None:
    if not results.taxonomies:
        page.text("None: solutions.json is empty.")
        return
    budgets = sorted({t.budget for t in results.taxonomies})
    gain: dict[int, NDArray[np.float64]] = {}
    quality: dict[int, NDArray[np.float64]] = {}
    for taxonomy in results.taxonomies:
        for values, field in ((gain, "gain"), (quality, "quality")):
            table = values.setdefault(taxonomy.max_order, np.full((len(results.targets), len(budgets)), np.nan))
            for choice in taxonomy.policy:
                value = getattr(choice, field)
                if choice.target in results.targets and value is not None:
                    table[results.targets.index(choice.target), budgets.index(taxonomy.budget)] = value
    page.figure(
        figures.budget_curves(results.taxonomies),
        "budget-curves",
        alt="Mean gain and mean quality against the budget; " + "; ".join(_in_numbers(t) for t in results.taxonomies),
        caption="The dotted line is on a par with the reference.",
    )
    page.figure(
        figures.gain_quality(gain, quality, tasks=results.targets, budgets=budgets, families=results.families),
        "gain-quality",
        alt="Gain and quality of every target under every budget; policies.csv holds the numbers.",
        caption="Per target and budget. Red loses on every test image, white is on a par, blue wins on every one.",
    )


def _labels(page: Page, results: StudyResults) -> None:
    shares = [(t, label_share(t, results.costs)) for t in results.taxonomies]
    known = [(t, s) for t, s in shares if s is not None]
    if not known:
        page.text("Not here: costs.json does not tell how many labels a source and a transfer use.")
        return
    page.text(labels_line(headline(results.taxonomies), label_share(headline(results.taxonomies), results.costs) or 0.0))
    points = [(s, t.mean_quality, t.budget, f"order ≤ {t.max_order}") for t, s in known if t.mean_quality is not None]
    if points:
        page.figure(
            figures.labels_saved(points, reference=0.5),
            "labels-saved",
            alt="Mean quality against the share of labels used; labels.csv holds the numbers.",
            caption="How much of full supervision's quality is left with how few of its labels.",
        )
    page.table(
        "labels",
        ("order ≤", "budget", "trained fully", "by transfer", "labels used", "mean gain", "mean quality"),
        [(t.max_order, t.budget, len(t.sources), len(t.transfers), s, t.mean_gain, t.mean_quality) for t, s in known],
        caption="Labels used: share of those that training every target fully needs.",
    )


def _affinity(page: Page, results: StudyResults) -> None:
    sources = [*dict.fromkeys(s for s in results.tasks if s in results.table.sources), "task-specific"]
    shape = (len(results.targets), len(sources))
    after, before = np.full(shape, np.nan), np.full(shape, np.nan)
    for row in results.table.candidates:
        if row.order == 1:
            column = sources.index("task-specific" if row.kind == "task_specific" else row.sources[0])
            place = results.targets.index(row.target), column
            after[place] = np.nan if row.affinity is None else row.affinity
            before[place] = results.losses.get(row.key, np.nan)
    total = np.nansum(after, axis=1, keepdims=True)
    shown = after / np.where(total > 0, total, 1.0)
    has_losses = bool(np.isfinite(before).any())
    page.figure(
        figures.affinity_matrix(
            before if has_losses else None, shown, targets=results.targets, sources=sources, families=results.families
        ),
        "affinity",
        alt="First-order affinities of every target and source; affinity-first-order.csv holds the numbers.",
        caption="First-order transfers, dark is better. Affinities are rescaled to sum 1 over the sources shown; "
        "hatched: not measured.",
    )
    if not has_losses:
        page.text("The matrix before normalisation is not here: the study left no losses.csv with mean scores.")
    with page.details("First-order affinities in numbers"):
        page.table(
            "affinity-first-order",
            ("target", *sources),
            [(t, *map(float, row)) for t, row in zip(results.targets, after, strict=True)],
            caption="Affinities as measured, before rescaling.",
        )
    if results.table.unmeasured:
        names = "; ".join(str(row) for row in results.table.unmeasured)
        page.text(f"Without an affinity, so left out of every decision: {names}.")


def _similarity(page: Page, results: StudyResults) -> None:
    try:
        tree = similarity_tree(results.table)
    except InputError as reason:
        page.text(f"Not here: {reason}.")
        return
    faithful = "" if np.isnan(tree.cophenetic) else f" Cophenetic correlation {tree.cophenetic:.2f}."
    page.figure(
        figures.dendrogram(tree.linkage, tree.names, families=results.families),
        "similarity",
        alt=f"Dendrogram of the tasks; from top to bottom: {', '.join(map(readable, reversed(tree.order)))}.",
        caption="Tasks that help the same targets stand together: agglomerative clustering of the columns of the "
        f"first-order affinity matrix (Ward, on logarithms).{faithful}",
    )


def _sanity(page: Page, results: StudyResults) -> None:
    page.text(
        "Every fully supervised network must beat the best constant answer, and a readout of its task on a "
        "Gaussian-random encoder; a win rate near 50 % or below says that it learnt nothing."
    )
    page.table("sanity", ("task", "wins against the average guess", "wins against a random encoder"),
               [(readable(task), average, random) for task, average, random in results.sanity],
               caption="Share of test images.")  # fmt: skip
    weak = [readable(task) for task, average, random in results.sanity if min(average, random) <= 0.5]
    if weak:
        page.text(f"Weak: {join(weak)}. Read their rows and columns with care.")


def _predictions(page: Page, results: StudyResults) -> None:
    pictures: dict[str, dict[str, NDArray[np.uint8]]] = {}
    for name, columns in results.examples.items():
        if name not in results.tasks or not results.tasks[name].kind:
            continue
        task = results.tasks[name].as_task()
        truth = columns.get("target")
        pictures[name] = {}
        for column, values in columns.items():
            if column == "input":
                views = values if values.ndim == 4 else values[:, 0]
                colours = [np.round(np.clip(np.moveaxis(v, 0, -1), 0, 1) * 255).astype(np.uint8) for v in views]
            else:
                colours = []
                for index, value in enumerate(values):
                    single = task.kind is TaskKind.DENSE and task.channels == 1
                    limits = value_range(task, truth[index]) if single and truth is not None else None
                    colours.append(colorize(task, value, limits))
            pictures[name][column] = np.stack(colours)
    if not pictures:
        page.text("Not here: examples.npz holds no task of this study.")
        return
    best = {c.target: c for c in headline(results.taxonomies).policy} if results.taxonomies else {}
    notes = {name: "from " + " + ".join(map(readable, best[name].sources)) for name in pictures
             if name in best and best[name].kind == "transfer"}  # fmt: skip
    page.figure(
        figures.qualitative(pictures, examples=_EXAMPLES, notes=notes),
        "predictions",
        alt=f"Test images with truth and predictions for {join([readable(name) for name in pictures])}.",
        caption="Test images. Grey stripes: no label.",
        vector=False,
    )


def _control(page: Page, results: StudyResults) -> None:
    by_unit: dict[str, dict[str, dict[str, list[float]]]] = {}
    for entry in results.control:
        group = f"{readable(str(entry['source']))} → {readable(str(entry['target']))}"
        for key, values in entry.items():
            if isinstance(values, list) and values and all(isinstance(v, int | float) for v in values):
                unit = "gain" if key.startswith(("gain", "win")) else "affinity"
                series = readable(key.removesuffix("_per_seed"))
                by_unit.setdefault(unit, {}).setdefault(group, {})[series] = [float(v) for v in values]
    if not by_unit:
        page.text("Not here: control.json holds no measurement.")
        return
    page.text("Related pairs must beat a random network by more than the spread over seeds; shuffled scores must not.")
    for unit, groups in by_unit.items():
        page.figure(
            figures.seed_spread(groups, value=unit, reference=0.5 if unit == "gain" else None),
            f"control-{unit}",
            alt=f"{unit} per pair and seed; control-{unit}.csv holds the numbers.",
            caption="Bars are means over seeds, whiskers reach from the least to the greatest, dots are seeds.",
        )
        page.table(
            f"control-{unit}-numbers",
            ("pair", "series", "mean", "least", "greatest", "seeds"),
            [(group, name, float(np.mean(v)), min(v), max(v), len(v)) for group, s in groups.items() for name, v in s.items()],
        )


def _costs(page: Page, results: StudyResults) -> None:
    kinds = {k: v for k, v in results.costs.items() if isinstance(v, Mapping) and "runs" in v}
    rows = [(readable(k), int(v["runs"]), float(v["seconds"]), float(v["seconds"]) / max(int(v["runs"]), 1))
            for k, v in kinds.items()]  # fmt: skip
    if rows:
        rows.append(("all", sum(r[1] for r in rows), sum(r[2] for r in rows), sum(r[2] for r in rows) / max(sum(r[1] for r in rows), 1)))
    page.table("costs", ("what ran", "runs", "seconds", "seconds per run"), rows, caption="Wall time of every kind of run.")


def _configuration(page: Page, results: StudyResults) -> None:
    with page.details("The configuration that made this (config.yaml)"):
        page.code(results.config)


def _failures(page: Page, results: StudyResults) -> None:
    if not results.failures:
        page.text("None: every run ended well.")
        return
    page.text(f"{len(results.failures)} runs failed; what needed them is missing above.")
    page.table("failures", ("run", "error"), [(str(f.get("run", "")), str(f.get("error", ""))) for f in results.failures])


_GRAPH = (
    "Left, ringed: tasks trained with all their labels. Right: targets solved by transfer, with gain and quality. "
    "A curve in the source's colour for every source that a target reads; source-only tasks are dimmed."
)


def _graph(taxonomy: Taxonomy, results: StudyResults) -> Figure:
    return figures.taxonomy_graph(
        taxonomy, families=results.families, source_only=results.source_only, tasks=list(results.tasks)
    )


def _in_words(taxonomy: Taxonomy) -> str:
    """What a taxonomy's graph shows."""
    return f"Trained fully: {join([readable(s) for s in taxonomy.sources])}. {policy_line(taxonomy)}"


def _in_numbers(taxonomy: Taxonomy) -> str:
    """A taxonomy's means."""
    gain, quality = (("unknown" if v is None else f"{v:.2f}") for v in (taxonomy.mean_gain, taxonomy.mean_quality))
    return f"budget {taxonomy.budget:g}, order {taxonomy.max_order}: gain {gain}, quality {quality}"

