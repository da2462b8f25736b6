"""What a study of transfer chains says, in words: which source to take for which target."""

from lightning_taskonomy.affinity.chains import GROUPS, Across, Setting, Shares, best_sources, by_factors, level
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.files import InfluenceResults
from lightning_taskonomy.reports.influence.words import (
    ALONE,
    MARK,
    first_link,
    gain_text,
    part,
    plural,
    published,
    relation,
    title,
)
from lightning_taskonomy.reports.words import join, readable

__all__ = ["answer"]

_FEW = 20
"""Chains below which a share says little."""


def answer(page: Page, results: InfluenceResults) -> None:
    """The section at the top of the page."""
    lines = [line for setting in results.gains for line in _helped(results, setting)]
    lines += [line for setting in results.gains for line in _domain_or_type(results, setting)]
    lines += [line for setting in results.gains for line in _shared(results, setting)]
    if not results.gains:
        lines.append(f"No chain can be compared with the {ALONE} yet.")
    elif results.seeds < 2:
        lines.append("With one seed no interval is known: a gain may be chance.")
    page.answer([*lines, first_link(results.settings)])
    for index, setting in enumerate(results.gains):
        if index:
            with page.details(f"The best source of each target: {title(setting)}"):
                _best(page, results, setting)
        else:
            _best(page, results, setting)


def _helped(results: InfluenceResults, setting: Setting) -> list[str]:
    """For how many targets a source helps, and which."""
    gains = results.gains[setting]
    counts, paper = by_factors(gains, results.factors, best=True)[GROUPS[0]], published("best", setting)
    positive, very = (f"; paper: {getattr(paper[GROUPS[0]], name)} %" if paper else "" for name in
                      ("positive", "very_positive"))  # fmt: skip
    line = (
        f"{title(setting).capitalize()}: a source beats the {ALONE} by more than 2 % for {counts.positive} of "
        f"{plural(counts.count, 'target')} ({counts.percent('positive'):.0f} %{positive}), by more than 10 % for "
        f"{counts.very_positive} ({counts.percent('very_positive'):.0f} %{very})."
    )
    helped = [gain for gain in best_sources(gains).values() if gain.value > 2]
    if helped and all(gain.half_width is not None for gain in helped):
        sure = sum(gain.value > (gain.half_width or 0) for gain in helped)
        line += f" In {sure} of these {len(helped)} the 95 % interval over seeds lies above 0."
    if not 0 < len(helped) <= 6:
        return [line]
    names = [f"{readable(gain.source)} for {readable(gain.target)} ({gain_text(gain)} %)" for gain in helped]
    return [line, f"Take {join(names)}."]


def _domain_or_type(results: InfluenceResults, setting: Setting) -> list[str]:
    """What the image domain does against the task type."""
    groups, paper = by_factors(results.gains[setting], results.factors), published("all", setting)
    domain: tuple[Across, Across] = ("within", "cross")
    task_type: tuple[Across, Across] = ("cross", "within")
    ours, theirs = groups[domain], groups[task_type]
    start = f"Image domain against task type, {title(setting)}: "
    if not ours.count or not theirs.count:
        lacking = relation(*((domain if not ours.count else task_type)[i] == "within" for i in (0, 1)))
        return [f"{start}not to be compared, as no chain lies {lacking}."]
    texts = [
        f"{relation(*(one == 'within' for one in group))} {part(shares, 'positive')} of "
        f"{plural(shares.count, 'chain')} help and {part(shares, 'negative')} harm"
        + (f" (paper: {paper[group].positive} % and {paper[group].negative} %)" if paper else "")
        for group, shares in ((domain, ours), (task_type, theirs))
    ]
    few = " With so few chains this may be chance." if min(ours.count, theirs.count) < _FEW else ""
    return [f"{start}{'; '.join(texts)}. {_verdict(ours, theirs)}{few}"]


def _verdict(domain: Shares, task_type: Shares) -> str:
    """Which of the two counts more: where it is shared, more chains help and fewer harm."""
    helps, harms = (
        (domain.percent(which) or 0) - (task_type.percent(which) or 0) for which in ("positive", "negative")
    )  # fmt: skip
    if helps > 0 >= harms or helps >= 0 > harms:
        return "A source of the target's domain is worth more than one of its task type."
    if helps < 0 <= harms or helps <= 0 < harms:
        return "A source of the target's task type is worth more than one of its domain."
    return "Neither is clearly worth more."


def _shared(results: InfluenceResults, setting: Setting) -> list[str]:
    """How many chains start from a source that saw the target's images."""
    gains, shared = results.gains[setting], results.shared(setting)
    if not shared:
        return []
    best = sum((gain.target, gain.source) in shared for gain in best_sources(gains).values())
    are = {0: "none of them is the best of its target", 1: "one of them is the best of its target"}
    return [
        f"In {len(shared)} of {plural(len(gains), 'chain')} ({title(setting)}) the source saw the target's images with "
        f"other labels; they are marked {MARK}, and {are.get(best, f'{best} of them are the best of their targets')}."
    ]


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
                readable(target), readable(gain.source) if gain.value > 2 else ALONE, readable(gain.source),
                gain_text(gain), level(gain.value), relation(ours.same_domain(theirs), ours.same_type(theirs)),
                MARK if (target, gain.source) in shared else "",
            ]
        )  # fmt: skip
    caption = (
        f"{title(setting).capitalize()}: gain over the {ALONE} in per cent of what it reaches, above 0 is better, for "
        "errors too. VP above 10, P above 2, N below -2, I between. The best of several sources looks better than it "
        "is, as it is selected by the same numbers."
    )
    if any(gain.half_width is not None for gain in best.values()):
        caption += " ± half of the 95 % t interval over seeds; ▲ ▼: it lies above or below 0."
    header = ["target", "take", "best source", "gain, %", "level", "source and target", "saw its images"]
    if not shared:
        header, rows = header[:-1], [row[:-1] for row in rows]
    page.table(f"best-{setting}", header, rows, caption=caption)
