"""What a study of transfer chains says, in words: which source to take for which target."""

from contextlib import nullcontext

from lightning_taskonomy.affinity.chains import (
    GROUPS,
    MARK,
    Across,
    Gain,
    Setting,
    Shares,
    best_sources,
    by_factors,
    level,
)
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.files import InfluenceResults
from lightning_taskonomy.reports.influence.words import (
    ALONE,
    first_link,
    gain_text,
    plural,
    published,
    relation,
    title,
)
from lightning_taskonomy.reports.words import join, readable

__all__ = ["answer"]

_FEW = 20
"""Chains below which a share says little."""
_MANY = 6
"""Best sources from which on a table says it better than a sentence."""


def answer(page: Page, results: InfluenceResults) -> None:
    """The section at the top of the page."""
    lines = [_helped(results, setting) for setting in results.gains]
    if not lines:
        lines = [f"No chain can be compared with the {ALONE} yet."]
    else:
        lines += [*_takes(results), *_domain_or_type(results), *_shared(results)]
        if results.seeds < 2:
            lines.append("With one seed no interval is known: a gain may be chance.")
    page.answer([*lines, first_link(results.settings)])
    for index, setting in enumerate(results.gains):
        with page.details(f"The best source of each target: {title(setting)}") if index else nullcontext():
            _best(page, results, setting)


def _helped(results: InfluenceResults, setting: Setting) -> str:
    """For how many targets a source helps."""
    gains = results.gains[setting]
    counts, paper = by_factors(gains, results.factors, best=True)[GROUPS[0]], published("best", setting)
    positive, very = (
        f"; paper: {getattr(paper[GROUPS[0]], name)} %" if paper else "" for name in ("positive", "very_positive")
    )
    line = (
        f"{title(setting).capitalize()}: a source beats the {ALONE} by more than 2 % for {counts.positive} of "
        f"{plural(counts.count, 'target')} ({counts.percent('positive'):.0f} %{positive}), by more than 10 % for "
        f"{counts.very_positive} ({counts.percent('very_positive'):.0f} %{very})."
    )
    halves = [(gain.value, gain.half_width) for gain in best_sources(gains).values() if gain.value > 2]
    sure = [value > half for value, half in halves if half is not None]
    if sure:
        line += f" The 95 % interval over seeds lies above 0 for {sum(sure)} of these {len(halves)}."
    return line


def _takes(results: InfluenceResults) -> list[str]:
    """The best sources by name, where they are few."""
    setting, gains = next(iter(results.gains.items()))
    helped = [gain for gain in best_sources(gains).values() if gain.value > 2]
    if not 0 < len(helped) <= _MANY:
        return []
    names = [f"{readable(gain.source)} for {readable(gain.target)} ({gain_text(gain)} %)" for gain in helped]
    return [f"The best sources, {title(setting)}: {join(names)}."]


def _domain_or_type(results: InfluenceResults) -> list[str]:
    """What the image domain does against the task type, in the settings of which the paper prints it."""
    domain: tuple[Across, Across] = ("within", "cross")
    task_type: tuple[Across, Across] = ("cross", "within")
    lines: list[str] = []
    for setting, gains in results.gains.items():
        groups, paper = by_factors(gains, results.factors), published("all", setting)
        ours, theirs = groups[domain], groups[task_type]
        if not paper and lines:
            continue
        start = f"Image domain against task type, {title(setting)}: "
        if not ours.count or not theirs.count:
            lacking = relation(True, False) if not ours.count else relation(False, True)
            lines.append(f"{start}not to be compared, as no chain lies {lacking}.")
            continue
        text = (
            f"{start}of {plural(ours.count, 'chain')} {relation(True, False)}, {_percents(ours)}; of {theirs.count} "
            f"{relation(False, True)}, {_percents(theirs)}"
        )
        if paper:
            shares = [paper[group] for group in (domain, task_type)]
            text += f" (paper: {'; '.join(f'{one.positive} % and {one.negative} %' for one in shares)})"
        few = " With so few chains this may be chance." if min(ours.count, theirs.count) < _FEW else ""
        lines.append(f"{text}. {_verdict(ours, theirs)}{few}")
    return lines


def _percents(shares: Shares) -> str:
    return f"{shares.percent('positive'):.0f} % help and {shares.percent('negative'):.0f} % harm"


def _verdict(domain: Shares, task_type: Shares) -> str:
    """Which of the two counts more: where it is shared, more chains help and fewer harm."""
    helps, harms = (
        (domain.percent(which) or 0) - (task_type.percent(which) or 0) for which in ("positive", "negative")
    )
    if helps > 0 >= harms or helps >= 0 > harms:
        return "A source of the target's domain is worth more than one of its task type."
    if helps < 0 <= harms or helps <= 0 < harms:
        return "A source of the target's task type is worth more than one of its domain."
    return "Neither is clearly worth more."


def _shared(results: InfluenceResults) -> list[str]:
    """How many chains start from a source that saw the target's images."""
    texts = []
    for setting, gains in results.gains.items():
        shared, best = results.shared(setting), best_sources(gains).values()
        if shared:
            of_best = sum((gain.target, gain.source) in shared for gain in best)
            texts.append(
                f"{len(shared)} of {plural(len(gains), 'chain')} and {of_best} of {len(best)} best sources "
                f"({title(setting)})"
            )
    if not texts:
        return []
    return [f"Marked {MARK}: the source saw the target's images for another task; {join(texts)}."]


def _best(page: Page, results: InfluenceResults, setting: Setting) -> None:
    """What to take for each target."""
    best, shared = best_sources(results.gains[setting]), results.shared(setting)
    factors = results.factors
    rows: list[list[Cell]] = []
    for target in results.ordered(best):
        gain = best[target]
        ours, theirs = factors[gain.source], factors[target]
        rows.append(
            [
                readable(target), readable(gain.source), gain_text(gain), level(gain.value), _advice(gain),
                _within(ours.same_domain(theirs)), _within(ours.same_type(theirs)),
                MARK if (target, gain.source) in shared else "",
            ]
        )  # fmt: skip
    caption = (
        f"{title(setting).capitalize()}: gain over the {ALONE} in per cent of what it reaches; above 0 is better, for "
        "errors too. VP above 10, P above 2, N below -2, I between. The best of several sources looks better than it "
        "is, as it is selected by the same numbers."
    )
    if any(gain.half_width is not None for gain in best.values()):
        caption += " ± half of the 95 % t interval over seeds; ▲ ▼: it lies above or below 0; unclear: 0 is in it."
    header = ["target", "best source", "gain, %", "level", "take", "domain", "task type", "saw its images"]
    if not shared:
        header, rows = header[:-1], [row[:-1] for row in rows]
    page.table(f"best-{setting}", header, rows, caption=caption)


def _within(same: bool) -> str:
    return "within" if same else "across"


def _advice(gain: Gain) -> str:
    """What a gain says to do."""
    if gain.value <= 2:
        return ALONE
    if gain.half_width is None:
        return "this source"
    return "this source" if gain.value > gain.half_width else "unclear"
