"""Which share of chains helps or harms, beside the paper's: Tables 7, 8 and 11, observations A1, A5, A8 and A9."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal, get_args

from lightning_taskonomy.affinity.chains import (
    GROUPS,
    PUBLISHED,
    PUBLISHED_TASK_TYPES,
    QuickTest,
    Relation,
    Shares,
    by_chain,
    by_factors,
    by_size,
    by_task_types,
    multi_against_largest,
    quick_test,
    rank_correlation,
)
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.figures import Points, gain_scatters
from lightning_taskonomy.reports.influence.files import InfluenceResults
from lightning_taskonomy.reports.influence.words import (
    ALONE,
    RELATIONS,
    gain_text,
    percent_of,
    plural,
    published,
    relation,
    title,
)
from lightning_taskonomy.reports.words import readable

__all__ = ["observations", "quick", "shares_by_factors", "shares_by_task_types"]

_LEVELS = "P: gains above 2 %, those above 10 % (VP) included; N: below -2 %. In whole percent."


def shares_by_factors(page: Page, results: InfluenceResults) -> None:
    """Tables 7 and 8."""
    tables: tuple[tuple[Literal["all", "best"], str, str, str], ...] = (
        ("all", "shares", "chains", "As Table 7 of the paper: all chains."),
        ("best", "best-shares", "targets", "As Table 8 of the paper: the best source of each target and line."),
    )
    for which, name, counted, caption in tables:
        rows: list[list[Cell]] = []
        for setting, gains in results.gains.items():
            ours, paper = by_factors(gains, results.factors, best=which == "best"), published(which, setting)
            for group in GROUPS:
                one = paper[group] if paper else None
                theirs = [None] * 4 if one is None else [one.positive, one.very_positive, one.negative, one.count]
                rows.append([title(setting), *group, *_beside(_cells(ours[group]), theirs)])
        header = ["setting", "image domain", "task type", *_headings("P", "VP", "N", counted)]
        page.table(name, header, rows, caption=f"{caption} {_LEVELS}")


def shares_by_task_types(page: Page, results: InfluenceResults) -> None:
    """Table 11."""
    types = list(dict.fromkeys(one.task_type for one in results.factors.values()))
    if len(types) < 2:
        page.text(f"All tasks are of one type, {readable(types[0])}: there is nothing across task types.")
        return
    folded = False
    for setting, gains in results.gains.items():
        pairs, rows = by_task_types(gains, results.factors), list[list[Cell]]()
        for pair in sorted(pairs, key=lambda pair: [types.index(one) for one in pair]):
            paper = PUBLISHED_TASK_TYPES.get(pair, {}) if setting == "small" else {}
            for name in () if pair[0] == pair[1] else get_args(Relation):
                ours = pairs[pair].get(name, Shares(0, 0, 0, 0))
                if ours.count:
                    cells = [percent_of(ours, "positive"), percent_of(ours, "negative"), ours.count]
                    rows.append([*map(readable, (*pair, name)), *_beside(cells, paper.get(name, (None,) * 3))])
        if not rows:
            page.text(f"Not here yet, {title(setting)}: no chain across task types is measured.")
            continue
        with page.details(f"From task type to task type: {title(setting)}") if folded else nullcontext():
            page.table(
                f"task-types-{setting}",
                ["from", "to", "images", *_headings("P", "N", "chains")],
                rows,
                caption=f"As Table 11 of the paper, {title(setting)}: chains across task types. Same domain: other "
                "images of a domain of the target. Among others: models of several sources that saw the target's "
                f"images too, for which the paper's counts leave no room. {_LEVELS}",
            )
        folded = True


def observations(page: Page, results: InfluenceResults) -> None:
    """A1, A5 and A8."""
    _scratch(page, results)
    _several(page, results)
    _sizes(page, results)


def _scratch(page: Page, results: InfluenceResults) -> None:
    if not results.scratch:
        page.text("From scratch (A1): not measured here.")
    for setting, gains in results.scratch.items():
        worse, values = sum(gain.value < 0 for gain in gains), [gain.value for gain in gains]
        page.text(
            f"From scratch (A1), {title(setting)}: worse than the {ALONE} for {worse} of "
            f"{plural(len(gains), 'target')}, with gains of {min(values):+.1f} to {max(values):+.1f} % (paper: worse "
            "for all)."
        )


def _several(page: Page, results: InfluenceResults) -> None:
    rows: list[list[Cell]] = []
    counts = []
    for setting, gains in results.gains.items():
        compared = multi_against_largest(gains, results.factors)
        texts = {(gain.target, gain.source): gain_text(gain) for gain in gains}
        rows += [
            [
                title(setting), readable(one.target), readable(one.multi_source), texts[one.target, one.multi_source],
                readable(one.largest), texts[one.target, one.largest], "largest" if one.largest_wins else "",
            ]
            for one in compared
        ]  # fmt: skip
        if compared:
            paper = ""
            if setting == "small":
                wins, of = (PUBLISHED[name] for name in
                            ("largest source beats the multi-source model",
                             "targets compared with the multi-source model"))  # fmt: skip
                paper = f" (paper: {wins:g} of {of:g})"
            won = sum(one.largest_wins for one in compared)
            counts.append(f"{title(setting)} {won} of {len(compared)}{paper}")
    if not rows:
        page.text(
            "Several sources against the largest one (A5): nothing to compare; it takes a multi-source model, and a "
            "target that it was not trained on with a source of its domain and task type."
        )
        return
    page.text(
        "Several sources against the largest one of the target's domain and task type (A5): the largest is better by "
        f"more than 2 points for {', '.join(counts)}."
    )
    header = [
        "setting",
        "target",
        "multi-source model",
        "gain of the model, %",
        "largest source",
        "gain of the largest, %",
        "better by > 2",
    ]
    page.table("multi-source", header, rows)


def _sizes(page: Page, results: InfluenceResults) -> None:
    lines: tuple[tuple[Literal["larger", "smaller"], str], ...] = (
        ("larger", "positive larger to smaller"), ("smaller", "positive smaller to larger"),
    )  # fmt: skip
    rows: list[list[Cell]] = []
    for setting, gains in results.gains.items():
        sizes = by_size(gains, results.factors)
        for key, published_as in lines:
            positive, *others = _cells(sizes[key])
            rows.append([title(setting), f"the {key} one", positive, round(PUBLISHED[published_as]), *others])
    page.table(
        "sizes", ["setting", "the source is", "P", "P, paper", "VP", "N", "chains"], rows,
        caption="From larger to smaller data sets (A8): chains within domain and task type, by training images in the "
        f"full setting; multi-source models are left out. The paper has one number for all settings. {_LEVELS}",
    )  # fmt: skip


def quick(page: Page, results: InfluenceResults) -> None:
    """A9: whether small targets are enough to judge sources."""
    if not {"small", "full"} <= results.gains.keys():
        page.text("Not here: it takes chains with small and with full targets, and this study has not both.")
        return
    small, full = results.gains["small"], results.gains["full"]
    test = quick_test(small, full)
    if not test.count:
        page.text("Not here yet: no chain is measured with small and with full targets.")
        return
    tau = rank_correlation(by_chain(full), by_chain(small))
    rows: list[list[Cell]] = [
        [words, None if share is None else round(share), None if name is None else round(PUBLISHED[name])]
        for words, share, name in _quick_lines(test)
    ]  # fmt: skip
    page.table(
        "quick-test", ["of the chains that are", "percent", "percent, paper"], rows,
        caption=f"{plural(test.count, 'chain')} measured with small and with full targets (A9). Positive is above 2 %, "
        "negative below -2 %.",
    )  # fmt: skip
    factors, groups = results.factors, dict[str, list[tuple[float, float]]]()
    quick_gains, slow_gains = by_chain(small), by_chain(full)
    for chain in (chain for chain in quick_gains if chain in slow_gains):
        target, source = factors[chain[0]], factors[chain[1]]
        kind = relation(source.same_domain(target), source.same_type(target))
        groups.setdefault(kind, []).append((quick_gains[chain], slow_gains[chain]))
    shown = "not defined" if tau.pooled is None else f"{tau.pooled:.2f}"
    page.figure(
        gain_scatters(
            {"Small against full targets": [Points(name, *zip(*of, strict=True)) for name, of in groups.items()]},
            x="gain with small targets, %", y="gain with full targets, %", both=True,
            kinds=RELATIONS,
        ),
        "small-and-full",
        alt=f"Gains of {plural(test.count, 'chain')} with small against full targets, Kendall's tau {shown}",
        caption=f"Each point is a chain. Kendall's tau of the two gains is {shown} over all chains.",
    )  # fmt: skip


def _quick_lines(test: QuickTest) -> tuple[tuple[str, float | None, str | None], ...]:
    return (
        ("positive with full targets: positive with small ones too", test.full_positive_small_positive,
         "full positive also small positive"),
        ("positive with small targets: positive with full ones too", test.small_positive_full_positive,
         "small positive also full positive"),
        ("negative with small targets: not positive with full ones", test.small_negative_full_not_positive,
         "small negative not full positive"),
        ("measured with both: gains of the same sign", test.same_sign, None),
    )  # fmt: skip


def _cells(ours: Shares) -> list[Cell]:
    return [*(percent_of(ours, which) for which in ("positive", "very_positive", "negative")), ours.count]


def _headings(*names: str) -> list[str]:
    return [heading for name in names for heading in (name, f"{name}, paper")]


def _beside(ours: Sequence[Cell], theirs: Sequence[Cell]) -> list[Cell]:
    """Each number of ours with that of the paper after it."""
    return [cell for pair in zip(ours, theirs, strict=True) for cell in pair]
