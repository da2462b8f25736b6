"""The gains of all chains: heat maps as the paper's Tables 4 to 6, and the measurements behind them."""

import numpy as np

from lightning_taskonomy.affinity.chains import MARK, Chain, Gain, Setting, by_chain, level
from lightning_taskonomy.affinity.intervals import half_width
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.influence.figures import Line, gain_matrix
from lightning_taskonomy.reports.influence.files import InfluenceResults
from lightning_taskonomy.reports.influence.words import ALONE, images, plural, short, title
from lightning_taskonomy.reports.words import join, readable

__all__ = ["gains", "lines"]

SCRATCH = "from scratch"


def gains(page: Page, results: InfluenceResults) -> None:
    """A heat map per setting, and a table of measurements folded away below it."""
    if results.waiting:
        names = list(dict.fromkeys(f"{readable(row.target)} ({title(row.setting)})" for row in results.waiting))
        page.text(
            f"Left out are {plural(len(results.waiting), 'chain')} without a test of the {ALONE} with the same seed, "
            f"of {join(names)}."
        )
    if results.undefined:
        page.text(
            f"No gain is known of {join([readable(name) for name in results.undefined])}: the {ALONE} reaches 0 there, "
            "and nothing can be relative to that."
        )
    for setting in results.gains:
        _matrix(page, results, setting)
        with page.details(f"Measurements: {title(setting)}"):
            _measurements(page, results, setting)


def lines(results: InfluenceResults, names: list[str]) -> list[Line]:
    """Rows or columns of a matrix."""
    factors = results.factors
    domains = {name: factors[name].domains for name in names}
    return [
        Line(name, (factors[name].task_type, domains[name][0] if len(domains[name]) == 1 else "several"))
        for name in names
    ]


def _matrix(page: Page, results: InfluenceResults, setting: Setting) -> None:
    measured = results.gains[setting]
    targets = results.ordered(gain.target for gain in measured)
    sources = results.ordered(gain.source for gain in measured)
    values = by_chain((*measured, *results.scratch.get(setting, ())))
    starts = [*sources, *([""] if setting in results.scratch else [])]
    shown = np.array([[values.get((target, source), np.nan) for source in starts] for target in targets])
    blank = {
        (row, column)
        for row, target in enumerate(targets)
        for column, source in enumerate(sources)
        if np.isnan(shown[row, column]) and results.was_trained_on(source, target)
    }
    marked = {(targets.index(target), sources.index(source)) for target, source in results.shared(setting)}
    columns = [*lines(results, sources), *([Line(SCRATCH, ("", ""))] if "" in starts else [])]
    low, high = (limit(gain.value for gain in measured) for limit in (min, max))
    caption = (
        f"Gain over the {ALONE} in per cent ({images(setting, results.settings)}). Rows and columns go by task type "
        "(thick lines), domain (thin lines) and number of training images, few to many: above the diagonal of a block "
        f"the source is the larger one. The frame is the best of a target. Empty: the source is the target, or was "
        "trained on it; hatched: not measured."
    )
    if setting != "full":
        caption += short(targets, {name: results.factors[name].size for name in targets}, results.settings)
    if marked:
        caption += f" {MARK}: the source saw the target's images for another task."
    page.figure(
        gain_matrix(
            shown, targets=lines(results, targets), sources=columns, blank=blank, marked=marked,
            title=title(setting).capitalize(),
        ),
        f"gains-{setting}",
        alt=f"Gains of {plural(len(measured), 'chain')}, {low:+.1f} to {high:+.1f} %; numbers are in the table below",
        caption=caption,
    )  # fmt: skip


def _measurements(page: Page, results: InfluenceResults, setting: Setting) -> None:
    """What each chain reached, and its gain."""
    known = {
        (gain.target, gain.source): gain
        for gain in (*results.gains[setting], *results.scratch.get(setting, ()))
    }  # fmt: skip
    marks = results.shared(setting)
    trainings = results.chains.by_training(["pretrained", "scratch", "chain"], setting)
    targets = results.ordered(target for target, *_ in trainings)
    rows: list[list[Cell]] = []
    for (target, source, metric), by_seed in sorted(trainings.items(), key=lambda one: targets.index(one[0][0])):
        row, gain = next(iter(by_seed.values())), known.get((target, source))
        values = [one.value for one in by_seed.values()]
        rows.append(
            [
                readable(target), _start(row), f"{readable(metric)} {'↑' if row.higher_is_better else '↓'}",
                sum(values) / len(values), half_width(values), len(values), *_gain(gain),
                MARK if (target, source) in marks else "",
            ]
        )  # fmt: skip
    header = ["target", "start", "metric", "mean", "half interval", "seeds", "gain, %", "half interval, %", "level"]
    page.table(
        f"measurements-{setting}",
        [*header, "saw its images"],
        rows,
        caption="Means over seeds on test images, and half of their 95 % t intervals; of a gain, that of a ratio of "
        "means that are paired by seed. ↑ higher is better, ↓ lower is better; gains above 0 are better in both."
        + (f" The {ALONE} is that of small targets." if setting == "small_source" else ""),
    )


def _start(row: Chain) -> str:
    return {"pretrained": ALONE, "scratch": SCRATCH}.get(row.kind, readable(row.source))


def _gain(gain: Gain | None) -> tuple[Cell, ...]:
    return (None, None, "") if gain is None else (gain.value, gain.half_width, level(gain.value))
